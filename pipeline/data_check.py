"""Check the data before training, against what the champion was trained on: make data-check.

Exit code: 0 nothing, or warnings; 1 a check failed, or an error.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.base.files import write_json
from pipeline.base.paths import CATALOG, DATA_CHECK, FRAMES, FRAMES_INDEX
from pipeline.catalog.records import read_catalog
from pipeline.datacheck.checking import CheckRules, check_data
from pipeline.datacheck.dataset import DataSet
from pipeline.datacheck.finding import Finding, Threshold
from pipeline.params import Params, load_params
from pipeline.promotion.champions import version_with
from pipeline.stages.described import read_described
from pipeline.tracking import lineage
from pipeline.tracking.aliases import CHAMPION
from pipeline.video.brightness import brightness_by_name, read_brightness

_MARKS = {"ok": "ok", "warn": "WARN", "fail": "FAIL", "unknown": "?"}


def main() -> None:
    params = load_params()
    champion = version_with(params.register_.name, CHAMPION)
    before = None if champion is None else _data_of(champion)
    findings = list(check_data(_data_here(), before, _rules(params)))
    number = None if champion is None else int(champion.version)
    write_json(DATA_CHECK, {"champion": number, "checks": [asdict(one) for one in findings]})
    print(_headline(champion, before))
    print("\n".join(_table(findings)))
    failed = [finding.name for finding in findings if finding.status == "fail"]
    if failed:
        print(
            f"The data is not fit to train on: {', '.join(failed)}. See data_check in params.yaml."
        )
        sys.exit(1)


def _data_here() -> DataSet:
    if not CATALOG.exists():
        raise PipelineError(f"{CATALOG}: no such file. Build it with: dvc repro decode")
    return DataSet(
        entries=read_catalog(CATALOG),
        videos=read_described(CATALOG, FRAMES_INDEX),
        brightness=brightness_by_name(FRAMES),
    )


def _data_of(version: ModelVersion) -> DataSet | None:
    """Return the data of a version as its run recorded it; None without a catalog."""
    with tempfile.TemporaryDirectory() as name:
        catalog, ledger, brightness = (
            lineage.recorded_data(version, table, Path(name))
            for table in (lineage.CATALOG, lineage.LEDGER, lineage.BRIGHTNESS)
        )
        if catalog is None:
            return None
        return DataSet(
            entries=read_catalog(catalog),
            videos={} if ledger is None else read_described(catalog, ledger),
            brightness={} if brightness is None else read_brightness(brightness),
        )


def _rules(params: Params) -> CheckRules:
    sections = params.data_check.model_dump()
    return CheckRules(**{name: Threshold(**section) for name, section in sections.items()})


def _headline(champion: ModelVersion | None, before: DataSet | None) -> str:
    if champion is None:
        return "No champion yet: checked without a comparison."
    what = f"{champion.name} version {champion.version}, the champion"
    if before is None:
        return f"The run of {what}, has no catalog: checked without a comparison."
    return f"Against the {len(before.entries)} videos of {what}:"


def _table(findings: Sequence[Finding]) -> list[str]:
    width = max(len(finding.name) for finding in findings)
    return [
        f"  {_MARKS[one.status]:<4}  {one.name:<{width}}  {_value(one):>6}  {one.sentence}"
        for one in findings
    ]


def _value(finding: Finding) -> str:
    return "" if finding.value is None else f"{finding.value:.3g}"


if __name__ == "__main__":
    run_command(main)
