"""Secrets that several readers open at once: exactly one may succeed."""

import asyncio
import secrets
from dataclasses import dataclass, field

from ..addresses import is_key
from ..errors import NotSealpost
from ..responses import Response
from .accounts import Accounts
from .calls import Failed, MeasuredClient
from .plan import PlannedSecret
from .tally import Action, Check, Findings

PASSWORD_BYTES = 12
LIFE = {"minutes": 10}
"""Of a secret, in case the bot is killed before it burns them."""
GONE = "key_not_found"


@dataclass
class Race:
    """The results of a secret's readers; ``lost`` counts lost responses."""

    opened: list[Response] = field(default_factory=list)
    refused: int = 0
    lost: int = 0


class Secrets:
    """Shares secrets, opens each with several readers at once, and checks the results."""

    def __init__(self, client: MeasuredClient, accounts: Accounts, findings: Findings) -> None:
        self._client, self._accounts, self._findings = client, accounts, findings
        self.waiting: set[str] = set()
        """The receipt keys of unopened secrets."""

    async def share_and_open(self, planned: PlannedSecret) -> None:
        """Share a secret, open it with several readers at once, and once more afterwards."""
        try:
            key, receipt_key, phrase = await self._share(planned)
        except Failed:
            self._findings.skip(Check.OPENINGS)
            raise
        self.waiting.add(receipt_key)
        race = Race()
        readers = (self._open(race, key, phrase) for _ in range(planned.readers))
        for outcome in await asyncio.gather(*readers, return_exceptions=True):
            if outcome is not None:
                raise outcome
        await self._open(race, key, phrase)
        if race.opened:
            self.waiting.discard(receipt_key)
        faults = judge(race, planned)
        if race.opened or faults:
            self._findings.judge(Check.OPENINGS, *faults)
        else:
            self._findings.skip(Check.OPENINGS)
        if race.opened:
            await self._ask_receipt(planned, receipt_key)

    async def burn(self, receipt_key: str) -> None:
        """Burn an unopened secret."""
        await self._client.call(Action.BURN, "DELETE", f"/receipts/{receipt_key}", accepted={GONE})
        self.waiting.discard(receipt_key)

    async def _share(self, planned: PlannedSecret) -> tuple[str, str, str | None]:
        phrase = secrets.token_urlsafe(PASSWORD_BYTES) if planned.has_phrase else None
        body = {"secret": planned.text, "ttl": LIFE, **({"phrase": phrase} if phrase else {})}
        # Some servers require a sign-in to share; others ignore the token.
        token = await self._accounts.token(planned.sender)
        created = (await self._client.call(Action.SHARE, "POST", "/generate", body, token=token)).body
        try:
            keys = created.text("secret_key"), created.text("receipt_key")
        except NotSealpost:
            raise self._client.malformed(Action.SHARE) from None
        if not all(map(is_key, keys)):
            raise self._client.malformed(Action.SHARE)
        return *keys, phrase

    async def _open(self, race: Race, key: str, phrase: str | None) -> None:
        body = {"phrase": phrase} if phrase else None
        try:
            answer = await self._client.call(Action.OPEN, "POST", f"/secrets/{key}", body, accepted={GONE})
        except Failed:
            race.lost += 1
            return
        if answer.ok:
            race.opened.append(answer)
        else:
            race.refused += 1

    async def _ask_receipt(self, planned: PlannedSecret, receipt_key: str) -> None:
        try:
            receipt = (await self._client.call(Action.RECEIPT, "GET", f"/receipts/{receipt_key}")).body
        except Failed:
            self._findings.skip(Check.RECEIPTS)
            raise
        told = receipt.get("state") == "opened" and receipt.get("opens_left") == 0
        self._findings.judge(
            Check.RECEIPTS,
            *(() if told else (f"the receipt of secret {planned.number} does not say that it was opened",)),
        )


def judge(race: Race, planned: PlannedSecret) -> list[str]:
    """Return the faults of a race; none if a lost response makes it uncertain."""
    name = f"secret {planned.number}"
    if not race.opened:
        lost = f"{name} is gone, but none of its {race.refused} readers got it"
        return [] if race.lost else [lost]
    faults = []
    if len(race.opened) > 1:
        faults.append(f"{name} was opened {len(race.opened)} times")
    if any(answer.body.get("secret") != planned.text for answer in race.opened):
        faults.append(f"{name} had another text than the one that was shared")
    if any(answer.body.get("opens_left") != 0 for answer in race.opened):
        faults.append(f"{name} is said to have views left after it was opened")
    return faults
