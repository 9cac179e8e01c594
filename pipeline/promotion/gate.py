"""The decision: may the challenger take the champion's place?

Pure functions of what both said of the test videos; nothing here opens a file or a store.
"""

from collections.abc import Iterator

from pipeline.promotion.comparison import gain_check, measured_gain, reading_check
from pipeline.promotion.contender import Contender
from pipeline.promotion.decision import Check, Decision, Outcome, Rules
from pipeline.promotion.floors import first_champion_checks, floor_checks, groups_check


def decide(champion: Contender | None, challenger: Contender, rules: Rules) -> Decision:
    """Judge the challenger, against the champion if there is one.

    Floors and ceilings hold for a first champion too, because it will be served. They are
    looked at on every test video that the challenger has not seen; the two are compared on
    those that neither has seen and both can read. What decides must rest on enough groups.
    """
    gain = None
    checks = list(floor_checks(challenger, rules))
    if champion is None:
        checks += first_champion_checks(challenger, rules)
    else:
        gain = measured_gain(champion, challenger, rules)
        checks += [reading_check(champion, challenger), gain_check(gain, rules)]
        if gain is not None:
            checks.append(groups_check(gain.groups, rules))
    passed: Outcome = "first champion" if champion is None else "promoted"
    return Decision(
        outcome=passed if all(check.ok for check in checks) else "refused",
        checks=tuple(checks),
        notes=tuple(_notes(champion, challenger)),
        gain=gain,
    )


def refuse_rolled_back(version: int, rolled_back: str) -> Decision:
    """Refuse a version that was champion, whatever it scores: people took it back.

    Args:
        rolled_back: when and why, as in "on 2026-01-02: it was slow".
    """
    sentence = (
        f"Version {version} was champion and was rolled back {rolled_back}. To judge it "
        f"all the same: make promote AGAIN=yes VERSION={version}"
    )
    return Decision("refused", (Check("history", ok=False, sentence=sentence),))


def _notes(champion: Contender | None, challenger: Contender) -> Iterator[str]:
    """Say what is left out and what is not known."""
    for name, one in (("champion", champion), ("challenger", challenger)):
        if one is not None and one.seen:
            yield (
                f"{_videos_are(len(one.seen))} left out: the {name} had them in its training or "
                "validation set."
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
            f"{_videos_are(len(reader.unreadable))} left out: the {name} cannot read them, "
            f"such as {first}: {reader.unreadable[first]}"
        )


def _videos_are(count: int) -> str:
    return "1 test video is" if count == 1 else f"{count} test videos are"
