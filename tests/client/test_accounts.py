"""Signing in and out at the terminal."""

import json
import stat
from pathlib import Path

from ..conftest import PASSWORD, Api
from .conftest import Typed


async def test_a_user_stays_signed_in(api: Api, url: str, typed: Typed, config: Path) -> None:
    """Until they sign out; what is kept can be read by nobody else."""
    await api.register("ann")

    signed_in = await typed("login", "ann", SEALPOST_PASSWORD=PASSWORD)
    shown = await typed("whoami", "--json")

    assert (0, f"sealpost: signed in to {url} as ann\n") == (signed_in.code, signed_in.stderr)
    assert ("ann", url) == (json.loads(shown.stdout)["username"], json.loads(shown.stdout)["url"])
    assert {0o700, 0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (config, *config.iterdir())}
    assert 0 == (await typed("logout")).code
    assert 4 == (await typed("whoami")).code
