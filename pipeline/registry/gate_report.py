"""The decision of the gate for people and for other tools: text, JSON, Markdown, tags."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from pipeline.common.files import read_json, replacing_file, write_json
from pipeline.common.paths import PROMOTION, PROMOTION_REPORT
from pipeline.common.tables import (
    markdown_code,
    markdown_escape,
    markdown_table,
    printable,
    shorten_list,
)
from pipeline.registry.champions import RESTART_SERVERS
from pipeline.registry.contenders import Contender
from pipeline.registry.gate import OUTCOME, Decision, GateRules
from pipeline.tracking.provenance import UNKNOWN

_MARKS = {"ok": "ok", "warn": "WARN", "fail": "REFUSED"}
_RESULTS = {"ok": "passed", "warn": "**warning**", "fail": "**refused**"}
_SHOWN_VIDEOS = 20  # of a list
_MAX_TAG = 4000  # characters; PostgreSQL and MySQL keep 5,000


@dataclass(frozen=True, eq=False)
class GateReport:
    """A decision of the gate, with what it was made from.

    Attributes:
        name: of the registered model.
        time: UTC.
        contenders: best champion of the line and champion, if any, then challenger; empty when
            nothing was judged.
    """

    name: str
    time: str
    rules: GateRules
    challenger: ModelVersion
    champion: ModelVersion | None
    decision: Decision
    contenders: Sequence[Contender] = ()

    def write(self) -> None:
        """Write ``eval/promotion.json`` and ``eval/promotion.md``.

        Files that already report how this version became champion are kept.
        """
        content = self.to_json()
        if content["outcome"] == "already champion" and PROMOTION.exists():
            written = read_json(PROMOTION)
            is_same = (written["name"], written["challenger"]["version"]) == (
                self.name,
                content["challenger"]["version"],
            )
            if is_same and written["outcome"] != "refused":
                return
        write_json(PROMOTION, content)
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
            **{
                role: version
                and {"version": int(version.version), "git_commit": _commit_of(version)}
                for role, version in (("challenger", self.challenger), ("champion", self.champion))
            },
            "findings": [asdict(finding) for finding in decision.findings],
            "notes": list(decision.notes),
            "gain": decision.gain and asdict(decision.gain),
            "gain_over_best": decision.gain_over_best and asdict(decision.gain_over_best),
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
            "gate.reasons": printable(" ".join(self.decision.reasons))[:_MAX_TAG],
            "gate.champion": str(self.champion.version) if self.champion else "",
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
        old = f"version {self.champion.version}" if self.champion else ""
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
            f"  {_MARKS[finding.status]:<7} {finding.name}: {finding.sentence}"
            for finding in self.decision.findings
        ]
        notes = [f"  note    {note}" for note in self.decision.notes]
        restart = [RESTART_SERVERS] if self.decision.outcome == "promoted" else []
        return [self.sentence(), *findings, *notes, *restart]

    def markdown(self) -> str:
        """Return the content of ``eval/promotion.md``."""
        return "\n".join(self._markdown_lines()) + "\n"

    def _markdown_lines(self) -> Iterator[str]:
        versions = ", ".join(
            f"{role}: version {version.version}, commit {markdown_code(_commit_of(version)[:10])}"
            for role, version in (("Challenger", self.challenger), ("champion", self.champion))
            if version is not None
        )
        yield from (f"# {markdown_escape(self.sentence())}", "", f"{self.time}. {versions}.")
        if self.decision.findings:
            rows = [
                [
                    _RESULTS[finding.status],
                    *map(markdown_escape, (finding.name, finding.sentence)),
                ]
                for finding in self.decision.findings
            ]
            yield from ("", *markdown_table(("result", "check", "finding"), rows))
        for note in self.decision.notes:
            yield from ("", f"> {markdown_escape(note)}")
        if gain := self.decision.gain:
            for title, videos in (
                ("Became right", gain.fixed),
                ("Became wrong", gain.broken),
            ):
                yield from ("", f"## {title}: {len(videos)}", "")
                if videos:
                    items = [f"- {markdown_code(video)}" for video in videos]
                    yield shorten_list(items, shown=_SHOWN_VIDEOS, separator="\n")
        for contender in self.contenders:
            yield from self._task_tables(contender)

    def _task_tables(self, contender: Contender) -> Iterator[str]:
        """Yield the tables of the task on the videos that a version was not trained on."""
        unseen = contender.unseen
        if unseen is None:
            return
        resampling = self.rules.evaluate.resampling(unseen.resampling_groups)
        for table in unseen.tables(resampling):
            columns = [name for name in table.columns if not name.endswith(("_low", "_high"))]
            rows = [
                [markdown_escape(row[name]) for name in columns]
                for row in table.rows[: table.shown]
            ]
            if rows:
                title = f"{markdown_escape(table.title)}, version {contender.version}"
                yield from ("", f"## {title}", "")
                yield from markdown_table([*map(markdown_escape, columns)], rows)
                if len(table.rows) > len(rows):
                    yield from ("", f"The first {len(rows):,} of {len(table.rows):,} rows.")


def _commit_of(version: ModelVersion) -> str:
    return str(version.tags.get("git.commit", UNKNOWN))
