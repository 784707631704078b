"""The static files of the page as nginx serves them."""

import urllib.error
import urllib.request

import pytest

from bench.running_stack import RunningStack
from src.pages.assets import CACHE_CONTROL, media_type, read_assets

pytestmark = pytest.mark.browser


def test_nginx_serves_the_files(base: str, stack: RunningStack) -> None:
    """Unchanged, cached for 1 year and with the usual headers; any other path below is a 404."""
    assets = read_assets()
    for name, body in assets.files.items():
        with urllib.request.urlopen(f"{base}/{assets.path}{name}", timeout=60) as answer:  # noqa: S310 (our own stack)
            assert (body, CACHE_CONTROL) == (answer.read(), answer.headers["Cache-Control"])
            assert media_type(name).partition(";")[0] == answer.headers.get_content_type()
            assert {"nosniff", "no-referrer"} == {
                answer.headers[header] for header in ("X-Content-Type-Options", "Referrer-Policy")
            }
            # Workers send this value: nginx must serve the files itself.
            assert "Sealpost" != answer.headers["Server"]
    for path in ("", "x.js", "../html/open.html", "%2e%2e/feature.py", "page.js/"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{base}/{assets.path}{path}", timeout=60)  # noqa: S310

        assert (404, "no-store, no-transform") == (refused.value.code, refused.value.headers["Cache-Control"])
        refused.value.close()
