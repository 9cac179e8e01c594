"""The decision: may the challenger take the champion's place?

Pure functions of what both said of the test videos; nothing here opens a file or a store.
"""

from collections.abc import Iterator

from pipeline.promotion.comparison import gain_check, measured_gain, reading_check
from pipeline.promotion.contender import Contender
from pipeline.promotion.decision import Check, Decision, Outcome, Rules
from pipeline.promotion.floors import floor_checks


def decide(
    champion: Contender | None, challenger: Contender, rules: Rules, *, rolled_back: str = ""
) -> Decision:
    """Judge the challenger, against the champion if there is one.

    Floors and ceilings hold for a first champion too, because it will be served. They are
    looked at on every test video that the challenger has not seen; the two are compared on
    those that neither has seen and both can read.

    Args:
        rolled_back: when and why this very version was taken back, if it was.
    """
    gain = None
    checks: list[Check] = []
    if rolled_back:
        checks.append(Check("history", ok=False, sentence=_again(challenger.version, rolled_back)))
    checks += floor_checks(challenger, rules)
    if champion is not None:
        gain = measured_gain(champion, challenger, rules)
        checks += [reading_check(champion, challenger), gain_check(gain, rules)]
    passed: Outcome = "first champion" if champion is None else "promoted"
    return Decision(
        outcome=passed if all(check.ok for check in checks) else "refused",
        checks=tuple(checks),
        notes=tuple(_notes(champion, challenger)),
        gain=gain,
    )


def _again(version: int, rolled_back: str) -> str:
    return (
        f"Version {version} was champion and was rolled back {rolled_back}. To let it pass "
        "all the same: python -m pipeline.promote --again"
    )


def _notes(champion: Contender | None, challenger: Contender) -> Iterator[str]:
    """Say what is left out and what is not known."""
    for name, one in (("champion", champion), ("challenger", challenger)):
        if one is not None and one.seen:
            yield (
                f"{len(one.seen)} test videos are left out: the {name} had them in its training "
                "or validation set."
            )
    if champion is not None and champion.seen is None:
        yield (
            "It is not known what the champion has seen: its run has no catalog. It is compared "
            "on all test videos, which can only favour it."
        )
    name, reader = ("challenger", challenger) if champion is None else ("champion", champion)
    if reader.unreadable:
        first = min(reader.unreadable)
        yield (
            f"{len(reader.unreadable)} test videos are left out: the {name} cannot read them, "
            f"such as {first}: {reader.unreadable[first]}"
        )
