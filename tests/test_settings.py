"""Settings."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from src.core.crypto.keys import new_key
from src.settings import (
    LOG_LEVELS,
    OF_THE_CLIENT,
    SECRETS,
    Settings,
    SettingsError,
    parse_limit,
    read_settings,
    secret_files,
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without a developer's .env."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_setting_has_a_safe_default() -> None:
    """Without configuration: limiters on, no external MongoDB, 7 days."""
    settings = read_settings()

    assert ("on", None, None, 604_800) == (
        settings.rate_limits,
        settings.mongo_url,
        settings.keys,
        settings.ttl_max,
    )
    assert settings.hashing_threads >= 1


def test_the_environment_wins_over_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings come from .env, and the environment overrides it; empty values count as unset."""
    (elsewhere / ".env").write_text("SEALPOST_TTL_MAX=700000\nSEALPOST_LOG_LEVEL=debug\nHTTP_PORT=80\nSEALPOST_KEYS=\n")
    monkeypatch.setenv("SEALPOST_LOG_LEVEL", "error")
    monkeypatch.setenv("SEALPOST_PUBLIC_URL", "")

    settings = read_settings()

    assert (700_000, "error", None) == (settings.ttl_max, settings.log_level, settings.public_url)


def test_arguments_win_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line overrides the environment."""
    monkeypatch.setenv("SEALPOST_LOG_LEVEL", "error")

    assert "debug" == read_settings(log_level="debug").log_level


def test_every_level_of_logging_is_known_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are those of `logging`, such as debug, WARN or Fatal."""
    names = logging.getLevelNamesMapping()
    found = set()
    for name in names:
        for spelling in (name, name.lower(), name.title()):
            monkeypatch.setenv("SEALPOST_LOG_LEVEL", spelling)
            found.add(read_settings().log_level.upper())

    assert set(names) == found == {level.upper() for level in LOG_LEVELS}


@pytest.mark.parametrize("where", ["environment", "file"])
@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_can_come_from_a_file(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    """A secret setting has a _FILE form, in the environment and in .env; surrounding white space is removed."""
    secret = elsewhere / "secret"
    secret.write_text("mongodb://example.org/?replicaSet=x \n")
    variable = f"SEALPOST_{name.upper()}_FILE"
    if where == "environment":
        monkeypatch.setenv(variable, str(secret))
    else:
        (elsewhere / ".env").write_text(f"{variable}={secret}\n")
    if name == "mongo_url":
        monkeypatch.setenv("SEALPOST_KEYS", new_key())
    if name == "oidc_client_secret":
        monkeypatch.setenv("SEALPOST_OIDC_ISSUER", "https://id.example.org")
        monkeypatch.setenv("SEALPOST_OIDC_CLIENT_ID", "sealpost")

    value = getattr(read_settings(), name)

    assert "mongodb://example.org/?replicaSet=x" == value.get_secret_value()


@pytest.mark.parametrize("in_dotenv", [True, False])
def test_a_byte_order_mark_is_part_of_no_secret_and_of_no_name(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, *, in_dotenv: bool
) -> None:
    """Neither in a secret's file nor in `.env`, whose first setting would be ignored."""
    ring = new_key()
    if in_dotenv:
        (elsewhere / ".env").write_text(f"SEALPOST_KEYS={ring}\nSEALPOST_TTL_MAX=77\n", encoding="utf-8-sig")
    else:
        (elsewhere / "secret").write_text(f"{ring}\n", encoding="utf-8-sig")
        monkeypatch.setenv("SEALPOST_KEYS_FILE", str(elsewhere / "secret"))

    settings = read_settings()

    assert settings.keys is not None
    assert ring == settings.keys.get_secret_value()
    assert not in_dotenv or settings.ttl_max == 77
    assert in_dotenv == (Path(".env") in secret_files())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_another_encoding_is_refused(elsewhere: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """With the name of the setting, or of `.env`, and nothing of its content."""
    (elsewhere / "secret").write_text("s3cret", encoding=encoding)
    monkeypatch.setenv("SEALPOST_KEYS_FILE", str(elsewhere / "secret"))
    with pytest.raises(SettingsError, match=r"^SEALPOST_KEYS_FILE: cannot be read: not UTF-8 text$"):
        read_settings()

    (elsewhere / ".env").write_text("SEALPOST_TTL_MAX=77", encoding=encoding)
    for read in (read_settings, secret_files):
        with pytest.raises(SettingsError, match=r"^\.env: not UTF-8 text$"):
            read()


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"SEALPOST_TTL_MAXX": "5"}, "SEALPOST_TTL_MAXX: no such setting"),
        ({"SEALPOST_TTL_MAX": "s3cret"}, "SEALPOST_TTL_MAX"),
        ({"SEALPOST_TTL_MAX": "0"}, "SEALPOST_TTL_MAX"),
        ({"SEALPOST_TTL_MAX": "60", "SEALPOST_TTL_DEFAULT": "61"}, "SEALPOST_TTL_DEFAULT"),
        ({"SEALPOST_RATE_ALL": "s3cret"}, "SEALPOST_RATE_ALL"),
        ({"SEALPOST_RATE_LIMITS": "maybe"}, "SEALPOST_RATE_LIMITS"),
        ({"SEALPOST_PUBLIC_URL": "s3cret"}, "SEALPOST_PUBLIC_URL"),
        ({"SEALPOST_MONGO_URL": "mongodb://s3cret@h/"}, "SEALPOST_KEYS"),
        ({"SEALPOST_OIDC_ISSUER": "http://s3cret.example.org"}, "SEALPOST_OIDC_ISSUER"),
        ({"SEALPOST_OIDC_ISSUER": "https://s3cret@example.org"}, "SEALPOST_OIDC_ISSUER"),
        ({"SEALPOST_OIDC_ISSUER": "https://example.org/?s3cret"}, "SEALPOST_OIDC_ISSUER"),
        ({"SEALPOST_OIDC_ISSUER": "https://s3cret.example.org"}, "SEALPOST_OIDC_CLIENT_ID"),
        ({"SEALPOST_OIDC_CLIENT_ID": "s3cret"}, "SEALPOST_OIDC_ISSUER"),
        ({"SEALPOST_OIDC_CLIENT_SECRET": "s3cret"}, "SEALPOST_OIDC_ISSUER"),
        ({"SEALPOST_OIDC_ALLOWED_GROUPS": "s3cret"}, "SEALPOST_OIDC_ISSUER"),
        ({"SEALPOST_OIDC_ALLOWED_DOMAINS": "@s3cret.org"}, "SEALPOST_OIDC_ALLOWED_DOMAINS"),
        ({"SEALPOST_OIDC_SCOPES": "s3cret"}, "SEALPOST_OIDC_SCOPES"),
        ({"SEALPOST_OIDC_NAME": "s3cret" * 7}, "SEALPOST_OIDC_NAME"),
        ({"SEALPOST_KEYS_FILE": "/no/s3cret"}, "SEALPOST_KEYS_FILE: cannot be read"),
        ({"SEALPOST_KEYS_FILE": "/etc/hostname", "SEALPOST_KEYS": "s3cret"}, "not both"),
    ],
)
def test_a_bad_setting_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    """Misspelt, invalid or missing: the error names the setting and contains nothing of its value."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        read_settings()

    assert told in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_name_of_the_provider_is_that_of_its_host(make_settings: Callable[..., Settings]) -> None:
    """Unless the operator gives it another; without a provider, there is none."""
    provider = {"oidc_issuer": "http://127.0.0.1:9000/realms/one", "oidc_client_id": "sealpost"}
    named = make_settings(**provider, oidc_name="Our school")

    assert (None, "127.0.0.1", "Our school") == (
        make_settings().oidc_button,
        make_settings(**provider).oidc_button,
        named.oidc_button,
    )


def test_the_files_that_hold_secrets_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files named in settings, and `.env` if it contains a secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALPOST_KEYS_FILE", "ring")
    found = []
    for line in ("SEALPOST_MONGO_URL_FILE=url", "SEALPOST_MONGO_URL=", "SEALPOST_MONGO_URL=mongodb://u:p@h/"):
        (tmp_path / ".env").write_text(f"{line}\n")
        found.append({str(path) for path in secret_files()})

    assert [{"ring", "url"}, {"ring"}, {"ring", ".env"}] == found


def test_settings_show_no_secret() -> None:
    """Their `repr`, as in a traceback, contains no key and no URL."""
    key = new_key()

    shown = repr(Settings(_env_file=None, keys=key, mongo_url="mongodb://u:s3cret@h/?replicaSet=x"))

    assert key not in shown
    assert "s3cret" not in shown


def test_variables_of_the_client_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell with settings of the client can start a server."""
    for name in OF_THE_CLIENT:
        monkeypatch.setenv(name, "x")

    assert Settings(_env_file=None) == read_settings()


@pytest.mark.parametrize(
    ("limit", "parsed"),
    [
        ("10 per 1 hour", (10, timedelta(hours=1))),
        ("5 per 15 minutes", (5, timedelta(minutes=15))),
        ("1 per 2 days", (1, timedelta(days=2))),
        ("7 per 30 second", (7, timedelta(seconds=30))),
    ],
)
def test_a_limit_is_a_maximum_in_a_window(limit: str, parsed: tuple[int, timedelta]) -> None:
    """The notation in settings gives a number and a time."""
    assert parsed == parse_limit(limit)
