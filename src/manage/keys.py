"""``keys``: list and rotate the master keys."""

from collections.abc import Sequence
from typing import Annotated

import typer

from ..core.crypto.keys import KeyRingError, find_key_file, new_key, put_in_front
from ..core.database.prerequisites import KeyChecks
from ..core.database.resealing import KeyUse, Resealed, Resealing, Uses
from ..settings import read_settings
from ..storage import EXPIRING, RESEALABLE
from .output import CommandError, format_time, progress, say, show_line, show_records, show_table
from .runner import CommandContext, run_command

MOST_NAMED = 10

app = typer.Typer(help="List and rotate the master keys.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_keys(
    *, as_json: Annotated[bool, typer.Option("--json", help="Write JSON, one object per line.")] = False
) -> None:
    """List the keys, newest first, and the amount of data under each.

    The exit code is 1 if data is encrypted with a key that is not in the key ring.
    """
    uses = run_command(lambda context: _resealing(context).uses(), with_any_keys=True)
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
        show_table(["key", "newest", *sealed, *(f"waiting {name}" for name in waiting), "may be dropped"], rows)
    missing = [_name(use) for use in uses.keys if not use.held]
    if missing:
        say(f"these keys are not in the key ring, so their data cannot be decrypted: {', '.join(missing)}")
        raise typer.Exit(1)


@app.command()
def new(
    *,
    add: Annotated[
        bool, typer.Option("--add", help="Add it to the front of the key file instead of printing it.")
    ] = False,
) -> None:
    """Generate a key and print its entry."""
    entry = new_key()
    if not add:
        show_line(entry)
        say(
            "put this entry at the front of SEALPOST_KEYS, of the file named by SEALPOST_KEYS_FILE, or else of the file"
            " keys in SEALPOST_DATA_DIR, followed by a comma or a line break. Keep the other entries, and back up the"
            " key ring. If several processes run, put the entry at the end first and restart every process, so that"
            " all of them can decrypt data under the new key. Then move it to the front, restart them again, and run:"
            " keys reseal"
        )
        return
    path = find_key_file(read_settings())
    if path is None:
        raise CommandError(
            "the key ring is in SEALPOST_KEYS, not in a file: add the entry that `keys new` prints there"
        )
    try:
        put_in_front(entry, path)
    except KeyRingError as error:
        raise CommandError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise CommandError(f"{path} does not exist yet: the service creates it when it starts") from None
    show_line(entry.partition(":")[0])
    say(
        f"the key was added to the front of {path}. Back up the file. Restart every process now: until then it cannot"
        " decrypt data that the others write. Then run: keys reseal"
    )


@app.command()
def reseal() -> None:
    """Re-encrypt data under older keys with the newest one. Safe to run, and to repeat, while the service runs.

    Keys that are no longer needed are retired: the service then accepts a key ring without them.

    The exit code is 1 if some data could not be re-encrypted.
    """

    async def reseal_all(context: CommandContext) -> tuple[list[Resealed], Uses]:
        resealing = _resealing(context)
        with progress() as report:
            done = await resealing.run(report)
        uses = await resealing.uses()
        needed = {use.key_id for use in uses.keys if use.key_id and not uses.may_be_dropped(use)}
        await KeyChecks(context.mongo, context.ring).retire_all_but(needed)
        return done, uses

    done, uses = run_command(reseal_all, with_any_keys=True)
    for resealed in done:
        show_line(f"{resealed.collection}: {resealed.changed} re-encrypted or re-indexed")
        _name_some(resealed.collection, resealed.unopened, "cannot be decrypted and were not changed")
        _name_some(resealed.collection, resealed.clashing, "have the name of another one and were not changed")
    for use in uses.keys:
        if not use.newest:
            show_line(f"{_name(use)}: {_verdict(use, uses)}")
    if any(resealed.unopened or resealed.clashing for resealed in done):
        raise typer.Exit(1)


def _resealing(context: CommandContext) -> Resealing:
    return Resealing(context.mongo, context.ring, RESEALABLE, EXPIRING)


def _name(use: KeyUse) -> str:
    return use.key_id or "(no key id)"


def _verdict(use: KeyUse, uses: Uses) -> str:
    if uses.may_be_dropped(use):
        return "may be dropped now; receipts that it signed are then no longer accepted"
    return f"{'still needed' if use.held else 'not in the key ring'}: {_need(use, uses)}"


def _need(use: KeyUse, uses: Uses) -> str:
    """Return why a key is still needed."""
    if use.newest:
        return "newest key"
    needs = []
    if sealed := sum(use.sealed.values()):
        needs.append(f"{sealed} to reseal")
    if uses.unindexed and use.held:
        needs.append(f"{uses.unindexed} under the newest key to re-index (keys reseal)")
    if use.waiting_until:
        waiting = ", ".join(f"{count} {collection}" for collection, count in use.waiting.items())
        needs.append(f"{waiting} waiting until {format_time(use.waiting_until)} at the latest")
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
