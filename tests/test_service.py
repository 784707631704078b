"""What the service tells about itself, and what it is without some of its features."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from src import __version__
from src.manage.doctor.mongodb import compare_indexes
from src.settings import Settings, SettingsError, read_settings
from src.storage import INDEXES, needed_indexes

from .commands import Operator
from .conftest import Api
from .test_pages import BROWSER

Serve = Callable[..., Awaitable[Api]]
PATHS = {
    "messages": {"/message/{message_key}", "/delete", "/m"},
    "accounts": {"/register", "/login", "/me", "/sessions", "/tokens", "/users", "/signin", "/mine", "/audit"},
    "posts": {"/board", "/posts", "/posts/analytics", "/posts/{post_id}"},
    "gatherer": {"/identify", "/authenticate", "/message", "/gathered"},
    "echo": {"/echo", "/hello"},
    "files": {"/files", "/files/{upload_key}", "/secrets/{secret_key}/files/{file_id}"},
}
"""Some of the paths of each feature."""


async def paths(api: Api) -> set[str]:
    """Return the paths in the OpenAPI document."""
    _, document = await api.call("GET", "/openapi.json")
    return set(document["paths"])


async def test_everyone_learns_what_the_service_offers(api: Api) -> None:
    """Features, registration, ways to sign in and limits, as configured."""
    status, service = await api.call("GET", "/service")

    assert (200, "Sealpost", __version__) == (status, service["name"], service["version"])
    assert list(PATHS) == service["features"]
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


async def test_a_service_can_have_secrets_only(serve: Serve) -> None:
    """With all other features off, nothing of them is served, documented, indexed or on the page."""
    api = await serve(features="none")
    _, service = await api.call("GET", "/service")
    created = await api.create("a secret")
    root, browsed = await api.send("GET", "/"), await api.send("GET", "/", None, **BROWSER)
    reference = (await api.send("GET", "/docs")).body.decode()

    assert [[], [], "closed"] == [service[name] for name in ("features", "sign_in", "registration")]
    assert 0 == service["limits"]["file_max"]
    assert "a secret" == (await api.open(created["secret_key"]))[1]["secret"]
    assert set() == set.union(*PATHS.values()) & await paths(api)
    for method, path in (("POST", "/login"), ("GET", f"/message/{'A' * 43}"), ("GET", "/m"), ("GET", "/m/")):
        assert 404 == (await api.call(method, path, {} if method == "POST" else None))[0]
    assert 405 == (await api.call("POST", "/", {"message": "a message"}))[0]
    # Programs get the page as well: the greeting is off.
    assert root.body == browsed.body
    assert all(name not in browsed.body for name in (b'name="kind"', b'id="attach"'))
    assert "/login" not in reference
    assert 'id="authentication"' not in reference
    assert {"items", "held", "limits", "key_checks", "processes"} >= set(
        await api.mongo.database.list_collection_names()
    )
    assert ["ok", "failed"] == [
        (await compare_indexes(api.mongo, indexes)).status for indexes in (needed_indexes(api.settings), INDEXES)
    ]


@pytest.mark.parametrize("off", list(PATHS))
async def test_a_feature_can_be_left_out(serve: Serve, off: str) -> None:
    """It alone is missing, or with accounts the features that need them."""
    without = {off, "posts", "gatherer", "echo"} if off == "accounts" else {off}
    api = await serve(features=",".join(name for name in PATHS if name not in without))
    served = await paths(api)

    assert {name: name not in without for name in PATHS} == {name: PATHS[name] <= served for name in PATHS}
    assert not set.union(*(PATHS[name] for name in without)) & served
    assert [name for name in PATHS if name not in without] == (await api.call("GET", "/service"))[1]["features"]


async def test_an_account_is_deleted_with_data_of_features_that_are_off(serve: Serve, api: Api, mongo_url: str) -> None:
    """Its posts go although the service has no posts by now, and operators are told so."""
    token = await api.sign_up()
    assert 201 == (await api.call("POST", "/posts", {"content": "a post"}, token=token))[0]
    keys: Any = api.settings.keys
    later = await serve(mongo_database=api.settings.mongo_database, keys=keys, features="accounts")
    operator = Operator.of(api.settings, mongo_url, SEALPOST_FEATURES="accounts")
    refused, purged = await operator.run("posts", "count"), await operator.run("purge")
    resealed = await operator.run("keys", "reseal")
    status, _ = await later.call("DELETE", "/me", {"password": "correct horse battery staple"}, token=token)

    assert (204, 0) == (status, await api.mongo.collection("posts").count_documents({}))
    assert (1, "sealpost: the feature posts is off: SEALPOST_FEATURES does not list it\n") == (
        refused.code,
        refused.stderr,
    )
    assert "posts" in purged.stdout
    assert (0, True) == (resealed.code, "posts: 0 re-encrypted" in resealed.stdout)


@pytest.mark.parametrize(
    ("features", "more", "reason"),
    [
        ("posts, secrets", {}, "must be some of messages, accounts, posts, gatherer, echo, files"),
        ("messages, posts, echo", {}, "posts and echo need accounts"),
        ("none", {"anonymous_create": False}, "SEALPOST_ANONYMOUS_CREATE=false needs accounts"),
        (
            "none",
            {"oidc_issuer": "https://id.example.org", "oidc_client_id": "a"},
            "SEALPOST_OIDC_ISSUER needs accounts",
        ),
    ],
)
def test_impossible_features_are_refused(features: str, more: dict[str, Any], reason: str) -> None:
    """The message names what to change."""
    with pytest.raises(SettingsError, match=reason):
        read_settings(features=features, **more)


def test_features_are_compared_without_their_order() -> None:
    """Two hosts with the same features in another order agree."""
    assert "messages, files" == Settings(_env_file=None, features=" files,messages ,").features
