"""``keys``: the master keys, and what is sealed under each."""

from collections.abc import Sequence
from typing import Annotated

import typer

from ..core.crypto.keys import KeyRingError, find_key_file, new_key, put_in_front
from ..core.database.prerequisites import KeyChecks
from ..core.database.resealing import KeyUse, Resealed, Resealing, Uses
from ..settings import read_settings
from ..storage import EXPIRING, RESEALABLE
from .connection import Service, run
from .output import CommandError, in_words, progress, say, show_line, show_records, show_table

MOST_NAMED = 10

app = typer.Typer(help="Look at the master keys and replace them.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_keys(
    *, as_json: Annotated[bool, typer.Option("--json", help="Write JSON, one object a line.")] = False
) -> None:
    """List the keys, the newest first, and how much is under each.

    The exit code is 1 where something is under a key that the ring does not hold.
    """
    uses = run(lambda service: _resealing(service).uses(), with_any_keys=True)
    sealed, waiting = [one.collection for one in RESEALABLE], [one.collection for one in EXPIRING]
    if as_json:
        show_records(_record(use, uses) for use in uses.keys)
    else:
        rows = [
            [
                _name(use),
                "yes" if use.newest else "-",
                *(str(use.sealed.get(collection, 0)) for collection in sealed),
                *(str(use.waiting.get(collection, 0)) for collection in waiting),
                "yes" if uses.may_be_dropped(use) else f"no: {_need(use, uses)}",
            ]
            for use in uses.keys
        ]
        show_table(["key", "seals", *sealed, *(f"waiting {name}" for name in waiting), "may be dropped"], rows)
    missing = [_name(use) for use in uses.keys if not use.held]
    if missing:
        say(f"the ring does not hold these keys, and what is under them does not open: {', '.join(missing)}")
        raise typer.Exit(1)


@app.command()
def new(
    *,
    add: Annotated[bool, typer.Option("--add", help="Put it in front of the key file instead of showing it.")] = False,
) -> None:
    """Make a new key, and write its entry to stdout."""
    entry = new_key()
    if not add:
        show_line(entry)
        say(
            "this entry goes in front of SEALPOST_KEYS, or of the file that SEALPOST_KEYS_FILE names, with a comma or a"
            " line break after it; without either, of the file keys in SEALPOST_DATA_DIR. Keep the other entries, and a"
            " copy of all. Where several processes run, put it behind the others first and restart every process, so"
            " that all of them can open what one of them seals. Then put it in front, restart them again, and run:"
            " keys reseal"
        )
        return
    path = find_key_file(read_settings())
    if path is None:
        raise CommandError("the ring stands in SEALPOST_KEYS and not in a file: put the entry of `keys new` there")
    try:
        put_in_front(entry, path)
    except KeyRingError as error:
        raise CommandError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise CommandError(f"{path} is not there yet: the service makes it when it starts") from None
    show_line(entry.partition(":")[0])
    say(
        f"the key is in front of {path}. Keep a copy of the file. Restart every process now: one that has not been"
        " cannot open what the others seal. Then run: keys reseal"
    )


@app.command()
def reseal() -> None:
    """Seal under the newest key what is under an older one; beside the running service, as often as you like.

    Keys that nothing needs any more are retired: the service then starts with a ring that lacks them.

    The exit code is 1 where something could not be.
    """

    async def everything(service: Service) -> tuple[list[Resealed], Uses]:
        resealing = _resealing(service)
        with progress() as report:
            done = await resealing.run(report)
        uses = await resealing.uses()
        needed = {use.key_id for use in uses.keys if use.key_id and not uses.may_be_dropped(use)}
        await KeyChecks(service.mongo, service.ring).retire_all_but(needed)
        return done, uses

    done, uses = run(everything, with_any_keys=True)
    for resealed in done:
        show_line(f"{resealed.collection}: {resealed.changed} sealed or indexed anew")
        _name_some(resealed.collection, resealed.unopened, "do not open and were left as they are")
        _name_some(
            resealed.collection, resealed.clashing, "have a name that another one has, and were left as they are"
        )
    for use in uses.keys:
        if not use.newest:
            show_line(f"{_name(use)}: {_verdict(use, uses)}")
    if any(resealed.unopened or resealed.clashing for resealed in done):
        raise typer.Exit(1)


def _resealing(service: Service) -> Resealing:
    return Resealing(service.mongo, service.ring, RESEALABLE, EXPIRING)


def _name(use: KeyUse) -> str:
    return use.key_id or "(no key id)"


def _verdict(use: KeyUse, uses: Uses) -> str:
    if uses.may_be_dropped(use):
        return "may be dropped now; receipts that it signed are then no longer answered"
    return f"{'still needed' if use.held else 'not in the ring'}: {_need(use, uses)}"


def _need(use: KeyUse, uses: Uses) -> str:
    """Say what a key is needed for."""
    if use.newest:
        return "it seals"
    needs = []
    if sealed := sum(use.sealed.values()):
        needs.append(f"{sealed} to reseal")
    if uses.unindexed and use.held:
        needs.append(f"{uses.unindexed} under the newest key to index anew by keys reseal")
    if use.waiting_until:
        waiting = ", ".join(f"{count} {collection}" for collection, count in use.waiting.items())
        needs.append(f"{waiting} waiting until {in_words(use.waiting_until)} at the latest")
    return "; ".join(needs)


def _record(use: KeyUse, uses: Uses) -> dict[str, object]:
    return {
        "key_id": use.key_id,
        "in_ring": use.held,
        "newest": use.newest,
        **{one.collection: use.sealed.get(one.collection, 0) for one in RESEALABLE},
        **{f"waiting_{one.collection}": use.waiting.get(one.collection, 0) for one in EXPIRING},
        "waiting_until": use.waiting_until,
        "may_be_dropped": uses.may_be_dropped(use),
    }


def _name_some(collection: str, ids: Sequence[bytes], what: str) -> None:
    if ids:
        named = ", ".join(one.hex() for one in ids[:MOST_NAMED])
        say(f"{collection}: {len(ids)} {what}: {named}{', …' if len(ids) > MOST_NAMED else ''}")
