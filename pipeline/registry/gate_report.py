"""The decision of the gate for people and for other tools: text, JSON, Markdown, tags."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.common.files import read_json, replacing_file, write_json
from pipeline.common.paths import PROMOTION, PROMOTION_REPORT
from pipeline.common.tables import markdown_code, markdown_escape, markdown_table, shorten_list
from pipeline.registry.champions import RESTART_SERVERS
from pipeline.registry.gate import OUTCOME, Contender, Decision, GateRules

_SHOWN_VIDEOS = 20  # of a list
_MAX_TAG = 4000  # characters; PostgreSQL and MySQL keep 5,000


@dataclass(frozen=True)
class Side:
    """A version and the commit of its training."""

    version: int
    git_commit: str


@dataclass(frozen=True, eq=False)
class GateReport:
    """A decision of the gate, with what it was made from.

    Attributes:
        name: of the registered model.
        time: UTC.
        contenders: champion, if any, then challenger; empty when nothing was judged.
    """

    name: str
    time: str
    rules: GateRules
    challenger: Side
    champion: Side | None
    decision: Decision
    contenders: Sequence[Contender] = ()

    def write(self) -> None:
        """Write ``eval/promotion.json`` and ``eval/promotion.md``.

        Files that already report how this version became champion are kept.
        """
        if self.decision.outcome == "already champion" and PROMOTION.exists():
            written = read_json(PROMOTION)
            is_same = (written["name"], written["challenger"]["version"]) == (
                self.name,
                self.challenger.version,
            )
            if is_same and written["outcome"] != "refused":
                return
        write_json(PROMOTION, self.to_json())
        with replacing_file(PROMOTION_REPORT) as temporary:
            temporary.write_text(self.markdown(), encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``eval/promotion.json``."""
        decision = self.decision
        return {
            "name": self.name,
            "time": self.time,
            "outcome": decision.outcome,
            "reasons": list(decision.reasons),
            "challenger": asdict(self.challenger),
            "champion": None if self.champion is None else asdict(self.champion),
            "findings": [asdict(finding) for finding in decision.findings],
            "notes": list(decision.notes),
            "gain": None if decision.gain is None else asdict(decision.gain),
            "latency_ms": {
                str(contender.version): round(contender.latency_ms, 1)
                for contender in self.contenders
                if contender.milliseconds.size
            },
            "left_out": {
                str(contender.version): {
                    "seen": None if contender.seen is None else len(contender.seen),
                    "unreadable": len(contender.unreadable),
                }
                for contender in self.contenders
            },
        }

    def tags(self) -> dict[str, str]:
        """Return the tags of the version that was judged."""
        gain = self.decision.gain
        tags = {
            OUTCOME: self.decision.outcome,
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
            "promoted": f"{version} is promoted: it replaces {old} as champion.",
            "passed": f"{version} passes the gate. It is not champion yet. Promote it with: "
            f"vidpipe promote {self.challenger.version}",
            "first champion": f"{version} is the first champion.",
            "refused": f"{version} is refused; "
            + (f"{old} stays champion." if old else "there is no champion."),
            "already champion": f"{version} is champion already. Nothing to do.",
        }[self.decision.outcome]

    def lines(self) -> list[str]:
        """Return the report for a terminal."""
        findings = [
            f"  {'ok     ' if finding.is_ok else 'REFUSED'} {finding.name}: {finding.sentence}"
            for finding in self.decision.findings
        ]
        notes = [f"  note    {note}" for note in self.decision.notes]
        restart = [RESTART_SERVERS] if self.decision.outcome == "promoted" else []
        return [self.sentence(), *findings, *notes, *restart]

    def markdown(self) -> str:
        """Return the content of ``eval/promotion.md``."""
        return "\n".join(self._markdown_lines()) + "\n"

    def _markdown_lines(self) -> Iterator[str]:
        yield f"# {self.sentence()}"
        yield ""
        sides = [("Challenger", self.challenger), ("champion", self.champion)]
        versions = [
            f"{role}: version {side.version}, commit {markdown_code(side.git_commit[:10])}"
            for role, side in sides
            if side is not None
        ]
        yield f"{self.time}. {', '.join(versions)}."
        if self.decision.findings:
            yield ""
            yield from markdown_table(
                ("result", "check", "finding"),
                [
                    (
                        "passed" if finding.is_ok else "**refused**",
                        markdown_escape(finding.name),
                        markdown_escape(finding.sentence),
                    )
                    for finding in self.decision.findings
                ],
            )
        for note in self.decision.notes:
            yield from ("", f"> {markdown_escape(note)}")
        if (gain := self.decision.gain) is not None:
            yield from _video_list("Right now, wrong before", gain.fixed)
            yield from _video_list("Wrong now, right before", gain.broken)
        for contender in self.contenders:
            yield from self._tables(contender)

    def _tables(self, contender: Contender) -> Iterator[str]:
        """Yield the tables of the task on the videos that a version was not trained on."""
        unseen = contender.unseen
        if unseen is None:
            return
        resampling = self.rules.evaluate.resampling(unseen.resampling_groups)
        for table in unseen.task.tables(unseen.targets, unseen.outputs, resampling):
            columns = [name for name in table.columns if not name.endswith(("_low", "_high"))]
            rows = [[markdown_escape(row[name]) for name in columns] for row in table.rows]
            if rows:
                yield from ("", f"## {table.title}, version {contender.version}", "")
                yield from markdown_table(columns, rows)


def _video_list(title: str, videos: Sequence[str]) -> Iterator[str]:
    yield from ("", f"## {title}: {len(videos)}", "")
    names = [f"- {markdown_code(video)}" for video in videos]
    if names:
        yield shorten_list(names, shown=_SHOWN_VIDEOS, separator="\n")
