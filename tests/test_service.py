"""What the service tells about itself."""

from collections.abc import Awaitable, Callable

from src import __version__

from .conftest import Api

Serve = Callable[..., Awaitable[Api]]


async def test_everyone_learns_what_the_service_offers(api: Api) -> None:
    """Features, registration, ways to sign in and limits, as configured."""
    status, service = await api.call("GET", "/service")

    assert (200, "Sealpost", __version__) == (status, service["name"], service["version"])
    assert ["messages", "accounts", "posts", "gatherer", "echo", "files"] == service["features"]
    assert ("open", True) == (service["registration"], service["anonymous_create"])
    assert (["password", "passkey"], None) == (service["sign_in"], service["oidc_name"])
    assert {
        "ttl_default": 604_800,
        "ttl_max": 604_800,
        "body_max": 1_048_576,
        "file_max": 104_857_600,
        "files_max": 20,
        "hold": 120,
        "file_hold": 900,
    } == service["limits"]
