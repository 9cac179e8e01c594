"""The decision for those who were not there: printed, as JSON, as Markdown, as tags."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.evaluation.classes import class_scores
from pipeline.evaluation.predictions import Predictions
from pipeline.promotion.champions import RESTART_SERVERS
from pipeline.promotion.contender import Contender
from pipeline.promotion.decision import Decision

_SHOWN = 20  # videos in a list
_MAX_TAG = 4000  # characters; PostgreSQL and MySQL keep 5,000


@dataclass(frozen=True)
class Side:
    """Champion or challenger, as the report names it."""

    version: int
    git_commit: str


@dataclass(frozen=True, eq=False)
class Report:
    """A decision, and what it was about."""

    name: str  # of the registered model
    time: str  # UTC
    decision: Decision
    challenger: Side
    champion: Side | None
    contenders: Sequence[Contender]  # champion, if any, then challenger; none when not judged

    def to_json(self) -> dict[str, Any]:
        """Return what ``eval/promotion.json`` holds."""
        decision = self.decision
        return {
            "name": self.name,
            "time": self.time,
            "outcome": decision.outcome,
            "reasons": list(decision.reasons),
            "challenger": asdict(self.challenger),
            "champion": None if self.champion is None else asdict(self.champion),
            "checks": [asdict(check) for check in decision.checks],
            "notes": list(decision.notes),
            "gain": None if decision.gain is None else asdict(decision.gain),
            "latency_ms": {
                str(one.version): round(one.latency_ms, 1)
                for one in self.contenders
                if one.milliseconds.size
            },
            "left_out": {
                str(one.version): {
                    "seen": None if one.seen is None else len(one.seen),
                    "unreadable": len(one.unreadable),
                }
                for one in self.contenders
            },
        }

    def tags(self) -> dict[str, str]:
        """Return the tags of the version that was judged."""
        gain = self.decision.gain
        tags = {
            "gate.outcome": self.decision.outcome,
            "gate.time": self.time,
            "gate.reasons": " ".join(self.decision.reasons)[:_MAX_TAG],
            "gate.champion": "" if self.champion is None else str(self.champion.version),
        }
        if gain is not None:
            tags |= {
                "gate.metric": gain.metric,
                "gate.gain": f"{gain.gain:.6g}",
                "gate.gain_low": f"{gain.low:.6g}",
                "gate.gain_high": f"{gain.high:.6g}",
                "gate.videos": str(gain.videos),
            }
        return tags

    def sentence(self) -> str:
        """Return the outcome in a sentence."""
        version = f"{self.name} version {self.challenger.version}"
        old = "" if self.champion is None else f"version {self.champion.version}"
        return {
            "promoted": f"{version} is promoted: it is champion now, {old} was.",
            "passed": f"{version} passes the gate. It is not champion yet: make promote "
            f"VERSION={self.challenger.version}",
            "first champion": f"{version} is the first champion.",
            "refused": f"{version} is refused; "
            + (f"{old} stays champion." if old else "there is no champion."),
            "already champion": f"{version} is champion already. Nothing to do.",
        }[self.decision.outcome]

    def lines(self) -> list[str]:
        """Return what the command prints."""
        checks = [
            f"  {'ok     ' if check.ok else 'REFUSED'} {check.name}: {check.sentence}"
            for check in self.decision.checks
        ]
        notes = [f"  note    {note}" for note in self.decision.notes]
        restart = [RESTART_SERVERS] if self.decision.outcome == "promoted" else []
        return [self.sentence(), *checks, *notes, *restart]

    def markdown(self) -> str:
        """Return ``eval/promotion.md``."""
        return "\n".join(self._markdown()) + "\n"

    def _markdown(self) -> Iterator[str]:
        yield f"# {self.sentence()}"
        yield ""
        yield f"{self.time}. {self._sides()}"
        if self.decision.checks:
            yield from ("", "| | check | |", "|---|---|---|")
        for check in self.decision.checks:
            mark = "passed" if check.ok else "**refused**"
            yield f"| {mark} | {check.name} | {_cell(check.sentence)} |"
        for note in self.decision.notes:
            yield from ("", f"> {note}")
        yield from self._gain()
        yield from self._classes()

    def _sides(self) -> str:
        sides = [("Challenger", self.challenger), ("champion", self.champion)]
        return (
            ", ".join(
                f"{role}: version {side.version}, commit `{side.git_commit[:10]}`"
                for role, side in sides
                if side is not None
            )
            + "."
        )

    def _gain(self) -> Iterator[str]:
        gain = self.decision.gain
        if gain is None:
            return
        lists = (("Right now, wrong before", gain.fixed), ("Wrong now, right before", gain.broken))
        for title, videos in lists:
            yield from ("", f"## {title}: {len(videos)}", "")
            yield from (f"- `{video}`" for video in videos[:_SHOWN])
            if len(videos) > _SHOWN:
                yield f"- and {len(videos) - _SHOWN} more"

    def _classes(self) -> Iterator[str]:
        """Yield the recall of each class, each version on what it had not seen."""
        recalls = {one.version: _recalls(one.unseen) for one in self.contenders}
        if not any(recalls.values()):
            return
        yield from ("", "## Recall by class, on test videos that a version had not seen", "")
        yield f"| class | {' | '.join(f'version {version}' for version in recalls)} |"
        yield "|---|" + "---:|" * len(recalls)
        for class_name in sorted({name for found in recalls.values() for name in found}):
            cells = [
                f"{found[class_name]:.3f}" if class_name in found else ""
                for found in recalls.values()
            ]
            yield f"| {_cell(class_name)} | {' | '.join(cells)} |"


def _recalls(predictions: Predictions | None) -> dict[str, float]:
    if predictions is None:
        return {}
    return {row.class_name: row.recall for row in class_scores(predictions) if row.support}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
