"""What checks find."""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Outcome:
    """What a check found, and what to do about it. Neither may hold a secret, nor what another program sent."""

    mark: Mark
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, by the name that docs/operations.md has for it."""

    check: str
    outcome: Outcome


def ok(found: str) -> Outcome:
    """Return the outcome of a check that found nothing wrong."""
    return Outcome(Mark.OK, found)


def warning(found: str, advice: str) -> Outcome:
    """Return the outcome of a check that found what will go wrong, or is only wrong in some set-ups."""
    return Outcome(Mark.WARNING, found, advice)


def failed(found: str, advice: str) -> Outcome:
    """Return the outcome of a check that found something wrong."""
    return Outcome(Mark.FAILED, found, advice)


def not_checked(found: str, advice: str = "") -> Outcome:
    """Return the outcome of a check that could not be carried out, or is not needed here."""
    return Outcome(Mark.NOT_CHECKED, found, advice)


def worst(outcomes: list[Outcome]) -> Outcome:
    """Return several outcomes as one: with the worst mark, and told are those that have it."""
    order = (Mark.FAILED, Mark.WARNING, Mark.OK, Mark.NOT_CHECKED)
    mark = min((outcome.mark for outcome in outcomes), key=order.index)
    told = [outcome for outcome in outcomes if outcome.mark is mark]
    advice = dict.fromkeys(outcome.advice for outcome in told if outcome.advice)
    return Outcome(mark, "; ".join(outcome.found for outcome in told), " ".join(advice))
