"""Which users of the provider may sign in, who is an operator, and the names of new accounts, from the claims."""

import re
import secrets
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from ...settings import Settings
from .problems import NotAdmitted

LONGEST_NAME, SHORTEST_NAME = 32, 3
FALLBACK = "user"
NAME_CLAIM = "preferred_username"
"""The claim from which the name of a new account is made, or else from the e-mail address."""
NUMBERED = 9
"""Names with a number that are tried before names with random digits."""
RANDOM = 20
"""Names with 6 random digits that are tried."""
MOST_GROUPS = 10_000

_UNUSABLE = re.compile(r"[^A-Za-z0-9_.-]+")

Claims = Mapping[str, Any]


class SignInRules:
    """The operator's rules. ``needed`` names the claims that they use."""

    def __init__(self, settings: Settings) -> None:
        self._domains = settings.oidc_domains
        self._groups = settings.oidc_groups
        self._operators = settings.oidc_operators
        self.needed = (
            *(("email", "email_verified") if self._domains else ()),
            *(("groups",) if self._groups or self._operators else ()),
        )

    def check(self, claims: Claims) -> None:
        """Raise `NotAdmitted` unless the user satisfies each rule that is set."""
        if self._domains and _verified_domain(claims) not in self._domains:
            raise NotAdmitted
        if self._groups and not self._groups & _groups(claims):
            raise NotAdmitted

    def is_operator(self, claims: Claims) -> bool | None:
        """Tell whether the user's groups make an operator; None if groups do not decide it."""
        return bool(self._operators & _groups(claims)) if self._operators else None


def usernames(claims: Claims) -> Iterator[str]:
    """Yield names for a new account in the order in which they are tried."""
    name = next(filter(None, (_usable(claims.get(claim)) for claim in (NAME_CLAIM, "email"))), FALLBACK)
    yield name
    # A long name may itself end in such a number.
    yield from (one for number in range(2, NUMBERED + 2) if (one := _with_digits(name, str(number))) != name)
    for _ in range(RANDOM):
        yield _with_digits(name, f"{secrets.randbelow(10**6):06}")


def _usable(claim: object) -> str:
    """Return a valid username made from a claim, of an e-mail address from its local part; empty if there is none."""
    text = claim.partition("@")[0][: LONGEST_NAME * 4] if isinstance(claim, str) else ""
    # Without accents: é is decomposed into e and a combining character.
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = _UNUSABLE.sub("-", letters)[:LONGEST_NAME].strip("-._")
    return name if len(name) >= SHORTEST_NAME else ""


def _with_digits(name: str, digits: str) -> str:
    return name[: LONGEST_NAME - len(digits)] + digits


def _verified_domain(claims: Claims) -> str | None:
    """Return the domain of the e-mail address in lower case; None unless the provider has verified the address."""
    email = claims.get("email")
    # Some providers send the flag as text.
    if not isinstance(email, str) or claims.get("email_verified") not in (True, "true"):
        return None
    return email.rpartition("@")[2].lower() if "@" in email else None


def _groups(claims: Claims) -> frozenset[str]:
    groups = claims.get("groups")
    listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    return frozenset(group for group in listed[:MOST_GROUPS] if isinstance(group, str))
