"""Every setting: its name, type, default and meaning, validated once at start."""

import os
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from io import StringIO
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "SEALPOST_"
DOTENV = ".env"
ENCODING = "utf-8-sig"
"""UTF-8 without its byte order mark, which would become part of a secret or of the first variable's name."""
OF_THE_CLIENT = frozenset(PREFIX + name for name in ("URL", "TOKEN", "PASSWORD", "NEW_PASSWORD", "PHRASE", "CA_FILE"))
"""Variables of the terminal client. The server ignores them."""

SMALLEST_STORAGE_MAX = 128 * 1024 * 1024
"""Bytes. Creation pauses 32 MiB before the maximum and resumes 64 MiB before it; less would leave little room."""

Rate = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}r/[sm]$")]

# Safe in a header and in nginx's configuration.
_HTTPS_URL = re.compile(
    r"https://([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?(/[A-Za-z0-9._~!&'()*+,;=:@%/-]*)?"
)

# Plain HTTP is confidential only if it does not leave the host.
_CONFIDENTIAL_URL = re.compile(
    r"(https://[A-Za-z0-9._-]{1,253}|https://\[[0-9A-Fa-f:.]{2,45}\]|http://(localhost|127(\.[0-9]{1,3}){3}|\[::1\]))"
    r"(:[0-9]{1,5})?([/?][!\"$-~]*)?"
)
_SCOPES = re.compile(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*")
"""RFC 6749, section 3.3."""
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")

_CONTACT = re.compile(r"(mailto:|https://|tel:)[!-~]+")

DEFAULT_NAME = "Sealpost"
"""Name of the service on its page."""
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_LABEL_LIMIT, _NAME_LIMIT, _FOOTER_LIMIT = 40, 40, 300
# A path must not begin with two slashes: that would be another host.
_FOOTER_URL = re.compile(r"(https?://[A-Za-z0-9\[]|mailto:|/(?!/))[A-Za-z0-9._~:/?#\[\]@!$&'()*+;=%-]*")

FeatureName = Literal["messages", "accounts", "posts", "gatherer", "echo", "files"]
FEATURES: tuple[FeatureName, ...] = get_args(FeatureName)
"""What can be switched off; secrets cannot."""
NO_FEATURES = "none"
_NEED_ACCOUNTS: tuple[FeatureName, ...] = ("posts", "gatherer", "echo")

LogLevel = Literal["debug", "info", "warn", "warning", "error", "critical", "fatal", "notset"]
"""The level names of `logging`, in lower case."""
LOG_LEVELS: tuple[str, ...] = get_args(LogLevel)

Limit = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5} per [1-9][0-9]{0,3} (second|minute|hour|day)s?$")]

ByteLimit = Annotated[
    str,
    StringConstraints(
        pattern=r"^[1-9][0-9]{0,8} (bytes|KiB|MiB|GiB) per [1-9][0-9]{0,3} (second|minute|hour|day)s?$",
    ),
]
_BYTES = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


class SettingsError(Exception):
    """The configuration is invalid; the message names each setting and its problem, never its value."""


class Settings(BaseSettings):
    """The configuration, from the environment (``SEALPOST_…``) and ``.env``; the environment takes precedence."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=DOTENV,
        env_file_encoding=ENCODING,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    mongo_url: SecretStr | None = Field(
        None,
        description="URL of a replica set (mongodb:// or mongodb+srv://)."
        " Empty: start a private mongod under the data directory.",
    )
    mongo_database: str = Field("sealpost", pattern=r"^[A-Za-z0-9_-]{1,38}$", description="Database name.")
    mongo_timeout: float = Field(
        5, gt=0, le=60, description="Timeout of a MongoDB command in seconds, including connecting and retries."
    )
    mongo_driver: Literal["motor", "pymongo"] = Field(
        "motor", description="Async MongoDB driver: motor, or pymongo for PyMongo's async client."
    )
    mongod: Path | None = Field(
        None, description="Path of the mongod to embed. Empty: the one on PATH, then the one in the `embedded` extra."
    )
    data_dir: Path = Field(Path(".data"), description="Directory of the embedded MongoDB and the generated keys.")
    keys: SecretStr | None = Field(
        None,
        description="Master key ring, newest first: `kid:base64 of 32 bytes`, separated by commas."
        " Required with SEALPOST_MONGO_URL; otherwise generated in the data directory.",
    )
    features: str = Field(
        ", ".join(FEATURES),
        description="What the service has in addition to secrets, separated by commas; none: nothing else."
        " posts, gatherer and echo need accounts.",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
        description="Public base URL of the service, used for links. Empty: the host named in the request.",
    )
    trusted_proxies: str = Field(
        "",
        description="Networks of proxies whose headers for client address, scheme, host and path prefix are trusted,"
        " separated by commas: 10.0.0.0/8, 192.0.2.7. Empty: none.",
    )
    security_contact: str = Field(
        "",
        description="Where to report vulnerabilities, for /.well-known/security.txt: addresses such as"
        " mailto:security@example.org or https://example.org/report, separated by commas. Empty: no such file.",
    )
    brand_name: str = Field(DEFAULT_NAME, description="Name of the service on the page.")
    brand_logo: Path | None = Field(
        None, description="SVG or PNG file of up to 64 kB, shown beside the name and as the icon. Empty: Sealpost's."
    )
    brand_accent: str = Field(
        "",
        description="Color #rrggbb of buttons and links, dark enough for text on the light background. It is lightened"
        " for dark mode. Empty: Sealpost's.",
    )
    brand_footer: str = Field("", description="Text in the footer of the page.")
    brand_links: str = Field(
        "",
        description="Links in the footer, separated by commas: Imprint=https://example.org/imprint, Privacy=/privacy."
        " Addresses begin with https://, http://, mailto: or a slash.",
    )
    tls: Literal["off", "files", "self-signed"] = Field(
        "off",
        description="HTTPS in the stack's nginx: files for your own certificate, self-signed for a generated one.",
    )
    tls_cert: Path | None = Field(None, description="PEM file with the certificate chain.")
    tls_key: Path | None = Field(None, description="PEM file with the private key.")
    log_level: LogLevel = Field("info", description="Minimum log level, in upper or lower case.")
    log_file: Path | None = Field(None, description="JSON log file, rotated, mode 0600. Empty: stdout.")
    log_max_bytes: int = Field(10_000_000, ge=10_000, description="Size at which the log file is rotated, in bytes.")
    log_backups: int = Field(5, ge=0, le=100, description="Number of rotated log files to keep.")
    metrics: Literal["on", "off"] = Field("on", description="off: no metrics are collected, and /metrics answers 404.")
    metrics_dir: Path | None = Field(
        None,
        description="Directory in which the processes of a host share their metrics."
        " Empty: each process reports only its own.",
    )
    gathered_file: Path | Literal["off"] = Field(
        Path("logs/gathered.jsonl"),
        description="File to which gathered messages are appended, mode 0600. off: store them in MongoDB only.",
    )
    gathered_max_bytes: int = Field(
        100_000_000, ge=10_000, description="Size at which the file of gathered messages is rotated, in bytes."
    )
    gathered_backups: int = Field(
        20,
        ge=0,
        le=1_000_000,
        description="Number of rotated files of gathered messages to keep; older ones are deleted.",
    )
    gathered_ttl: int = Field(
        2_592_000, ge=60, le=315_360_000, description="Time to live of a gathered message in MongoDB, in seconds."
    )
    gather_password_min: int = Field(
        4, ge=1, le=1024, description="Minimum length of a first password that is set through the gatherer."
    )
    ttl_default: int | None = Field(
        None, ge=1, description="Default time to live of an item, in seconds. Empty: SEALPOST_TTL_MAX."
    )
    ttl_max: int = Field(604_800, ge=1, le=31_536_000, description="Maximum time to live of an item, in seconds.")
    hold: int = Field(
        120,
        ge=0,
        le=3600,
        description="Seconds for which a reader with a key may open the same secret again; 0: never.",
    )
    file_max: int = Field(
        104_857_600,
        ge=0,
        le=1_099_511_627_776,
        description="Maximum size of a file in bytes; 0: no files.",
    )
    files_max: int = Field(20, ge=1, le=100, description="Maximum number of files of a secret.")
    file_hold: int = Field(
        900,
        ge=1,
        le=86_400,
        description="Seconds for which the reader of an opened secret may download its files; a download prolongs it.",
    )
    argon2_memory_kib: int = Field(
        19_456, ge=8, le=1_048_576, description="Memory of Argon2id in KiB, for deriving a key from an item's password."
    )
    argon2_passes: int = Field(2, ge=1, le=100, description="Number of Argon2id passes.")
    hashing_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=256,
        description="Threads per process that hash passwords. Empty: the number of cores.",
    )
    hashing_queue: int = Field(
        64, ge=1, le=10_000, description="Maximum number of passwords that wait for a thread; more are answered 503."
    )
    hashing_wait: float = Field(
        4, gt=0, le=60, description="Maximum expected wait for a thread in seconds; longer waits are answered 503."
    )
    bcrypt_cost: int = Field(
        12, ge=4, le=18, description="bcrypt cost of account passwords; each step doubles the time."
    )
    session_ttl: int = Field(
        2_592_000, ge=60, le=31_536_000, description="Seconds after which a session expires unless it is refreshed."
    )
    registration: Literal["open", "invite", "closed"] = Field(
        "open",
        description="Who may register: everyone, people with an invitation, or no one. Operators can create accounts"
        " in any case.",
    )
    oidc_issuer: str = Field(
        "",
        description="Issuer URL of the OpenID provider, exactly as its discovery document states it: https://, or"
        " http:// on a loopback address. Empty: no sign-in through a provider.",
    )
    oidc_client_id: str = Field("", description="Client id that the provider has assigned to this service.")
    oidc_client_secret: SecretStr | None = Field(None, description="Client secret. Empty: a public client.")
    oidc_scopes: str = Field(
        "openid profile email", description="Scopes to request from the provider, separated by spaces."
    )
    oidc_allowed_domains: str = Field(
        "",
        description="Domains of the verified e-mail addresses of users who may sign in, separated by commas."
        " Empty: all.",
    )
    oidc_allowed_groups: str = Field(
        "", description="Groups whose members may sign in, separated by commas. Empty: all users of the provider."
    )
    oidc_operator_groups: str = Field(
        "",
        description="Groups whose members are operators, decided at each sign-in, separated by commas. Empty: the"
        " provider makes no operators.",
    )
    oidc_name: str = Field("", description="Name of the provider on the sign-in button. Empty: the host of the issuer.")
    audit_ttl: int = Field(
        7_776_000, ge=0, le=315_360_000, description="Time to live of an audit event, in seconds; 0: no audit."
    )
    audit_addresses: bool = Field(False, description="true: the audit has the addresses of clients.")
    anonymous_create: bool = Field(
        True,
        description="false: creating a secret or message requires a signed-in user or an API token with the scope.",
    )
    batch_max: int = Field(256, ge=1, le=10_000, description="Maximum number of requests in one MongoDB command.")
    batch_queue: int = Field(
        2048, ge=1, le=100_000, description="Maximum number of requests that wait for a batch; more are answered 503."
    )
    request_timeout: float = Field(10, gt=0, le=300, description="Request timeout in seconds; then the answer is 503.")
    shutdown_timeout: float = Field(
        10, gt=0, le=12, description="Time that a process may take to stop, in seconds; supervisord kills it after 15."
    )
    storage_max: int = Field(
        0,
        ge=0,
        description="Maximum size of the database in bytes, at least 134217728 (128 MiB); 0: no limit.",
    )
    storage_reserve: int | None = Field(
        None,
        ge=134_217_728,
        le=2**50,
        description="Bytes to keep free on MongoDB's disk; with less, creation is paused."
        " Empty: 5 % of the disk, at least 128 MiB and at most 1 GiB.",
    )
    limit_register: Limit = Field("10 per 1 hour", description="Registrations from one client address.")
    limit_identify: Limit = Field(
        "100 per 15 minutes",
        description="Uses of /identify from one client address that no successful login follows.",
    )
    limit_login_account: Limit = Field(
        "10 per 15 minutes",
        description="Wrong passwords for one account from one client address; 10 times as many from all addresses.",
    )
    limit_login_address: Limit = Field("50 per 15 minutes", description="Wrong passwords from one client address.")
    limit_create_bytes: ByteLimit = Field(
        "256 MiB per 1 hour", description="Bytes that one account, or one anonymous client address, may store."
    )
    rate_limits: Literal["on", "off"] = Field("on", description="off: no rate limits, for benchmarks and tests.")
    rate_all: Rate = Field("50r/s", description="Requests per client address that nginx accepts.")
    rate_create: Rate = Field("10r/s", description="Creations per client address that nginx accepts.")
    rate_open: Rate = Field("5r/s", description="Openings per client address that nginx accepts.")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        try:
            _networks(value)
        except ValueError:
            raise ValueError("must be networks such as 10.0.0.0/8 or fd00::/8, separated by commas") from None
        return value

    @field_validator("features")
    @classmethod
    def _are_features(cls, value: str) -> str:
        names = {name.strip() for name in value.split(",") if name.strip()} - {NO_FEATURES}
        if unknown := names - set(FEATURES):
            allowed = ", ".join(FEATURES)
            raise ValueError(f"must be some of {allowed}, separated by commas, or none ({len(unknown)} unknown)")
        # Hosts compare their settings as texts.
        return ", ".join(name for name in FEATURES if name in names) or NO_FEATURES

    @field_validator("security_contact")
    @classmethod
    def _are_contacts(cls, value: str) -> str:
        if not all(_CONTACT.fullmatch(contact) for contact in _list(value)):
            raise ValueError("must begin with mailto:, https:// or tel:, without spaces, separated by commas")
        return value

    @field_validator("brand_name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        # Braces mark placeholders in the texts of the page.
        if not _is_line(value, _NAME_LIMIT) or set("{}") & set(value):
            raise ValueError(f"must be up to {_NAME_LIMIT} printable characters without braces")
        return value

    @field_validator("brand_accent")
    @classmethod
    def _is_color(cls, value: str) -> str:
        if value and not _COLOR.fullmatch(value):
            raise ValueError("must be # and 6 hexadecimal digits, such as #1d4ed8")
        return value.lower()

    @field_validator("brand_footer")
    @classmethod
    def _is_footer(cls, value: str) -> str:
        if value and not _is_line(value, _FOOTER_LIMIT):
            raise ValueError(f"must be up to {_FOOTER_LIMIT} printable characters")
        return value

    @field_validator("brand_links")
    @classmethod
    def _are_links(cls, value: str) -> str:
        for label, url in _links(value):
            if not _is_line(label, _LABEL_LIMIT) or not _FOOTER_URL.fullmatch(url):
                raise ValueError(
                    "must be such as Imprint=https://example.org/imprint, Privacy=/privacy: labels of up to"
                    f" {_LABEL_LIMIT} characters, and addresses that begin with https://, http://, mailto: or a slash"
                )
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _is_issuer(cls, value: str) -> str:
        if value and (not is_confidential(value) or "?" in value):
            raise ValueError(
                "must be a URL that begins with https://, or with http:// and a loopback address, without query or"
                " fragment"
            )
        return value

    @field_validator("oidc_scopes")
    @classmethod
    def _are_scopes(cls, value: str) -> str:
        if not _SCOPES.fullmatch(value) or "openid" not in value.split():
            raise ValueError("must be scopes separated by single spaces, and include openid")
        return value

    @field_validator("oidc_allowed_domains")
    @classmethod
    def _are_domains(cls, value: str) -> str:
        if not all(_DOMAIN.fullmatch(domain) for domain in _list(value)):
            raise ValueError("must be domains such as example.org, separated by commas")
        return value

    @field_validator("oidc_name")
    @classmethod
    def _is_provider_name(cls, value: str) -> str:
        if value and not _is_line(value, _NAME_LIMIT):
            raise ValueError(f"must be up to {_NAME_LIMIT} printable characters")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _ignore_case(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.default_ttl > self.ttl_max:
            raise ValueError("SEALPOST_TTL_DEFAULT must not exceed SEALPOST_TTL_MAX")
        if not self.has("accounts"):
            if needy := [name for name in _NEED_ACCOUNTS if self.has(name)]:
                raise ValueError(
                    f"SEALPOST_FEATURES: {' and '.join(needy)} need accounts: add accounts, or remove them"
                )
            if not self.anonymous_create:
                raise ValueError("SEALPOST_ANONYMOUS_CREATE=false needs accounts, which SEALPOST_FEATURES leaves out")
            if self.oidc_issuer:
                raise ValueError("SEALPOST_OIDC_ISSUER needs accounts, which SEALPOST_FEATURES leaves out")
        if 0 < self.storage_max < SMALLEST_STORAGE_MAX:
            raise ValueError(f"SEALPOST_STORAGE_MAX must be 0 or at least {SMALLEST_STORAGE_MAX}")
        if self.mongo_url and not self.keys:
            raise ValueError("SEALPOST_KEYS (or SEALPOST_KEYS_FILE) is required with SEALPOST_MONGO_URL")
        if bool(self.oidc_issuer) != bool(self.oidc_client_id):
            raise ValueError("set both SEALPOST_OIDC_ISSUER and SEALPOST_OIDC_CLIENT_ID, or neither")
        if (
            self.oidc_client_secret
            or self.oidc_allowed_domains
            or self.oidc_allowed_groups
            or self.oidc_operator_groups
        ) and not self.oidc_issuer:
            raise ValueError("the settings SEALPOST_OIDC_… require SEALPOST_OIDC_ISSUER and SEALPOST_OIDC_CLIENT_ID")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("set both SEALPOST_TLS_CERT and SEALPOST_TLS_KEY, or neither")
        if self.tls_cert and self.tls != "files":
            raise ValueError("SEALPOST_TLS_CERT and SEALPOST_TLS_KEY require SEALPOST_TLS=files")
        if self.tls != "off" and self.public_url and not _HTTPS_URL.fullmatch(self.public_url):
            raise ValueError(
                "SEALPOST_PUBLIC_URL must begin with https:// if SEALPOST_TLS is on, and consist of ASCII characters"
                " without quotes, $ and the like"
            )
        return self

    def has(self, feature: FeatureName) -> bool:
        """Tell whether a feature is on."""
        return feature in self.features.split(", ")

    @property
    def features_off(self) -> list[FeatureName]:
        """The features that are off."""
        return [name for name in FEATURES if not self.has(name)]

    @property
    def file_limit(self) -> int:
        """Maximum size of a file in bytes; 0: no files can be uploaded."""
        return self.file_max if self.has("files") else 0

    @property
    def default_ttl(self) -> int:
        """Default time to live of an item, in seconds."""
        return self.ttl_default or self.ttl_max

    @property
    def dump_path(self) -> Path | None:
        """File to which gathered messages are appended; None if the dump or the gatherer is off."""
        return None if str(self.gathered_file) == "off" or not self.has("gatherer") else Path(self.gathered_file)

    @property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Networks of the trusted proxies."""
        return _networks(self.trusted_proxies)

    @property
    def security_contacts(self) -> tuple[str, ...]:
        """URIs of the contacts for reports of vulnerabilities."""
        return _list(self.security_contact)

    @property
    def footer_links(self) -> tuple[tuple[str, str], ...]:
        """Labels and URLs of the operator's links."""
        return _links(self.brand_links)

    @property
    def oidc_domains(self) -> frozenset[str]:
        """Domains of the e-mail addresses of users who may sign in through the provider, in lower case."""
        return frozenset(domain.lower() for domain in _list(self.oidc_allowed_domains))

    @property
    def oidc_groups(self) -> frozenset[str]:
        """Groups whose members may sign in through the provider."""
        return frozenset(_list(self.oidc_allowed_groups))

    @property
    def oidc_operators(self) -> frozenset[str]:
        """Groups whose members are operators."""
        return frozenset(_list(self.oidc_operator_groups))

    @property
    def oidc_button(self) -> str | None:
        """Name of the provider on the sign-in button; None without a provider."""
        return self.oidc_name or urlsplit(self.oidc_issuer).hostname or None

    @property
    def ttl_limit(self) -> timedelta:
        """Maximum time to live of an item."""
        return timedelta(seconds=self.ttl_max)


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _links(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return tuple((label.strip(), url.strip()) for label, _, url in pairs)


def is_confidential(url: str) -> bool:
    """Tell whether a URL is for TLS, or for plain HTTP within this host; it has neither credentials nor a fragment."""
    return bool(_CONFIDENTIAL_URL.fullmatch(url))


def _is_line(text: str, limit: int) -> bool:
    """Tell whether a text has visible characters, at most ``limit``, and no control characters."""
    return bool(text.strip()) and len(text) <= limit and text.isprintable()


def parse_limit(limit: Limit) -> tuple[int, timedelta]:
    """Return the maximum and the window of a limit such as ``10 per 15 minutes``."""
    maximum, _, number, unit = limit.split(" ")
    return int(maximum), timedelta(seconds=int(number) * _SECONDS[unit.removesuffix("s")])


def parse_byte_limit(limit: ByteLimit) -> tuple[int, timedelta]:
    """Return the bytes and the window of a limit such as ``100 MiB per 1 hour``."""
    number, unit, rate = limit.split(" ", 2)
    _, window = parse_limit(f"1 {rate}")
    return int(number) * _BYTES[unit], window


SECRETS = tuple(
    name
    for name, field in Settings.model_fields.items()
    if SecretStr in (field.annotation, *get_args(field.annotation))
)
"""Settings that hold a secret: each has a ``_FILE`` form as well."""
OF_A_HOST = frozenset(
    {
        *("mongo_url", "mongo_database", "mongo_timeout", "mongo_driver", "mongod", "data_dir"),
        *("trusted_proxies", "tls", "tls_cert", "tls_key", "brand_logo"),
        *("log_level", "log_file", "log_max_bytes", "log_backups", "metrics", "metrics_dir"),
        *("gathered_file", "gathered_max_bytes", "gathered_backups"),
        *("hashing_threads", "hashing_queue", "hashing_wait", "batch_max", "batch_queue"),
        *("request_timeout", "shutdown_timeout"),
    }
)
"""Settings that may differ between hosts with the same database."""
SHARED = tuple(name for name in Settings.model_fields if name not in OF_A_HOST)
"""Settings that must be the same on all hosts with the same database."""


def unknown_names(environment: Iterable[str]) -> list[str]:
    """Return the names that have the prefix of a setting but are not one, in their order."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= OF_THE_CLIENT | {PREFIX + name.upper() + "_FILE" for name in SECRETS}
    return [name for name in environment if name.startswith(PREFIX) and name not in known]


def data_directory() -> Path:
    """Return ``SEALPOST_DATA_DIR``, even if other settings are invalid."""
    given = _environment().get(PREFIX + "DATA_DIR")
    return Path(given) if given else Path(Settings.model_fields["data_dir"].default)


def read_settings(**overrides: Any) -> Settings:
    """Read and validate the settings. A secret may come from the file that its ``_FILE`` form names.

    Raises `SettingsError`, which names every invalid or misspelt setting.
    """
    environment = _environment()
    problems = [f"{name}: no such setting" for name in unknown_names(environment)]
    for name in SECRETS:
        variable = PREFIX + name.upper()
        path = environment.get(variable + "_FILE")
        if not path or name in overrides:
            continue
        if environment.get(variable):
            problems.append(f"{variable}: set either it or {variable}_FILE, not both")
            continue
        try:
            overrides[name] = _read_text(Path(path)).strip()
        except OSError as error:
            problems.append(f"{variable}_FILE: cannot be read ({type(error).__name__})")
        except UnicodeError:
            problems.append(f"{variable}_FILE: cannot be read: not UTF-8 text")
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        problems += _describe(error)
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def secret_file(name: str) -> Path | None:
    """Return the file named by the ``_FILE`` form of a secret setting, or None."""
    path = _environment().get(PREFIX + name.upper() + "_FILE")
    return Path(path) if path else None


def secret_files() -> list[Path]:
    """Return the files that contain secrets: those named by ``_FILE`` forms, and ``.env`` if it contains one.

    Raises `SettingsError` if ``.env`` is not UTF-8 text.
    """
    named = [path for name in SECRETS if (path := secret_file(name))]
    in_dotenv = _dotenv()
    return [*named, *([Path(DOTENV)] if any(in_dotenv.get(PREFIX + name.upper()) for name in SECRETS) else [])]


def _environment() -> Mapping[str, str | None]:
    return {**_dotenv(), **os.environ}


def _dotenv() -> Mapping[str, str | None]:
    path = Path(DOTENV)
    try:
        return dotenv_values(stream=StringIO(_read_text(path))) if path.is_file() else {}
    except UnicodeError:
        raise SettingsError(f"{DOTENV}: not UTF-8 text") from None


def _read_text(path: Path) -> str:
    """Return the text of a file. Raises `OSError`, and `UnicodeError` for invalid UTF-8 or NULs, which UTF-16 has."""
    text = path.read_text(encoding=ENCODING)
    if "\0" in text:
        raise UnicodeError
    return text


def _describe(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name = PREFIX + str(problem["loc"][0]).upper() + ": " if problem["loc"] else ""
        lines.append(name + problem["msg"].removeprefix("Value error, "))
    return lines
