"""Retrain on what changed, judge the result, and promote it if it passes: make retrain.

Exit code: 0 promoted, passed, or nothing to do; 3 refused by the gate (0 with --judge, because
that is an answer and no failure); 1 the data is unfit, or an error.
"""

import argparse
import sys

from pipeline.base.command import run_command
from pipeline.params import load_params
from pipeline.promote import rules
from pipeline.promotion.decision import REFUSED_EXIT_CODE
from pipeline.retraining.progress import begin, one_retraining
from pipeline.retraining.retraining import retrain


def main() -> None:
    arguments = _parse_arguments()
    with one_retraining(wait=arguments.wait):
        was_cut_short = begin()
        params = load_params()
        done = retrain(
            promote=not arguments.judge, rules=rules(params), was_cut_short=was_cut_short
        )
    print(done.sentence)
    if done.outcome == "unfit data":
        sys.exit(1)
    if done.outcome == "refused" and not arguments.judge:
        sys.exit(REFUSED_EXIT_CODE)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.retrain", description=__doc__)
    parser.add_argument("--judge", action="store_true", help="leave the champion as it is")
    parser.add_argument(
        "--wait", action="store_true", help="wait for a retraining that is at work in this folder"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
