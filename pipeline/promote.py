"""Judge the challenger by the current test videos; make it champion if it passes: make promote.

Exit code: 0 promoted, first champion, champion already, or passed (--judge); 3 refused; 1 an error.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.base.files import read_json, replacing_file, write_json
from pipeline.base.paths import CATALOG, PROMOTION, PROMOTION_REPORT
from pipeline.catalog.records import read_catalog
from pipeline.params import Params, load_params
from pipeline.promotion.decision import REFUSED_EXIT_CODE, Rules
from pipeline.promotion.promoting import promote
from pipeline.promotion.report import Report
from pipeline.promotion.videos import GateVideo, videos_to_judge_by


def main() -> None:
    arguments = _parse_arguments()
    params = load_params()
    report = promote(
        params.register_.name,
        partial(_videos, params),
        rules(params),
        version=arguments.version,
        again=arguments.again,
        timeout_seconds=params.decode.timeout_seconds,
        judge_only=arguments.judge,
    )
    if not _is_told_already(report):
        _write(report)
    print("\n".join(report.lines()))
    if report.decision.outcome == "refused":
        sys.exit(REFUSED_EXIT_CODE)


def rules(params: Params) -> Rules:
    """Return what params.yaml asks of a champion."""
    return Rules(
        **params.promote.model_dump(),
        max_unreadable=params.decode.max_bad_fraction,
        bootstrap_samples=params.evaluate.bootstrap_samples,
        calibration_bins=params.evaluate.calibration_bins,
        seed=params.evaluate.seed,
    )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.promote", description=__doc__)
    parser.add_argument("--version", type=int, help="judge this one, not the challenger")
    parser.add_argument(
        "--again", action="store_true", help="judge also a version that was rolled back"
    )
    parser.add_argument("--judge", action="store_true", help="leave the champion as it is")
    return parser.parse_args()


def _videos(params: Params) -> list[GateVideo]:
    if not CATALOG.exists():
        raise PipelineError(f"{CATALOG}: no such file. Build it with: dvc repro catalog")
    return videos_to_judge_by(read_catalog(CATALOG), Path(params.data.videos))


def _is_told_already(report: Report) -> bool:
    """Whether the files say how this champion came to be; nothing to do leaves them as they are."""
    if report.decision.outcome != "already champion" or not PROMOTION.exists():
        return False
    told = read_json(PROMOTION)
    return bool(
        told["name"] == report.name
        and told["challenger"]["version"] == report.challenger.version
        and told["outcome"] != "refused"
    )


def _write(report: Report) -> None:
    write_json(PROMOTION, report.to_json())
    with replacing_file(PROMOTION_REPORT) as temporary:
        temporary.write_text(report.markdown(), encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
