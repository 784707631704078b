"""The indexes in the database against those that the service makes."""

from collections.abc import Mapping
from typing import Any

from pymongo import IndexModel

from ...core.database.mongo import Indexes, Mongo
from .findings import Outcome, failed, ok, worst

_NO_OPTIONS = {"key", "name", "v", "ns", "background"}
_RESTART = "Restart a process of the service: it makes what is missing."

Found = Mapping[str, Mapping[str, Any]]
"""The indexes of one collection by name, as the driver tells them."""


async def compare_indexes(mongo: Mongo, indexes: Indexes) -> Outcome:
    """Tell which indexes are missing, or are there with another key or other options."""
    found = {name: await mongo.collection(name).index_information() for name in indexes}
    if not any(found.values()):
        return failed(
            f"the database {mongo.database.name} has none of the service's collections",
            "Start the service: it makes them. If it has run before, SEALPOST_MONGO_DATABASE names another database.",
        )
    compared = [_compare(name, model, found[name]) for name, models in indexes.items() for model in models]
    if wrong := [outcome for outcome in compared if outcome]:
        return worst(wrong)
    return ok(f"all {len(compared)} are there, in {len(found)} collections, with the right options")


def _compare(collection: str, model: IndexModel, found: Found) -> Outcome | None:
    wanted = model.document
    name, key = wanted["name"], list(wanted["key"].items())
    # MongoDB does not make a second index with the same key.
    there = name if name in found else next((other for other in found if found[other]["key"] == key), None)
    if there is None:
        return failed(f"{collection}.{name} is missing", _RESTART)
    options, other = _options(wanted), _options(found[there])
    differing = sorted(option for option in options.keys() | other.keys() if options.get(option) != other.get(option))
    if there == name and key == found[there]["key"] and not differing:
        return None
    if there != name:
        what = f"is there under the name {there}"
    else:
        what = f"differs in {', '.join(differing)}" if differing else "has another key"
    return failed(
        f"{collection}.{name} {what}", f'Drop it: db.{collection}.dropIndex("{there}") in mongosh. {_RESTART}'
    )


def _options(index: Mapping[str, Any]) -> dict[str, Any]:
    return {option: value for option, value in index.items() if option not in _NO_OPTIONS}
