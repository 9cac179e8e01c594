"""The steps of a CI job around make retrain and make promote.

pull: videos and catalog, which make promote needs; commit: the results; report: post it;
outcome: print what later jobs go by.
"""

import argparse
import os
from pathlib import Path

from pipeline.base.command import run_command
from pipeline.base.paths import CATALOG
from pipeline.lineage.objects import has_remote
from pipeline.params import load_params
from pipeline.promote import rules
from pipeline.retraining.ci import commit_results, outcome_lines, post_report
from pipeline.retraining.transfer import pull


def main() -> None:
    arguments = _parse_arguments()
    if arguments.step == "pull":
        print(_pull())
    elif arguments.step == "commit":
        print(_commit(arguments.branch))
    elif arguments.step == "report":
        print("\n".join(post_report(os.environ)))
    else:
        print("\n".join(outcome_lines(rules(load_params()))))


def _pull() -> str:
    if not has_remote():
        return "DVC has no default remote: nothing is pulled."
    pull(only=[CATALOG, Path(load_params().data.videos)])
    return "The videos and their catalog are here."


def _commit(branch: str) -> str:
    if not branch:
        return "No branch to push to: nothing is committed."
    return commit_results(branch, remote=os.environ.get("PUSH_URL") or "origin")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.ci", description=__doc__)
    parser.add_argument("step", choices=["pull", "commit", "report", "outcome"])
    parser.add_argument("--branch", default="", help="commit: that is pushed to")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
