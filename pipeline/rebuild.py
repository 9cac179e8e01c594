"""Make a registered version again from its commit, and compare: make rebuild VERSION=3.

Exit code: 0 the same metrics, and on the machine that trained it the same weights; 3 something
differs; 1 an error.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.command import run_command
from pipeline.lineage.rebuilding import Rebuilt, rebuild
from pipeline.lineage.trace import Trace, find_version, trace
from pipeline.params import load_params

DIFFERENT = 3  # exit code


def main() -> None:
    arguments = _parse_arguments()
    found = trace(find_version(load_params().register_.name, arguments.version))
    rebuilt = rebuild(found, keep=arguments.keep)
    print("\n".join(lines(found, rebuilt)))
    if not rebuilt.is_same:
        sys.exit(DIFFERENT)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.rebuild", description=__doc__)
    parser.add_argument(
        "--version", default="champion", help="a number or an alias; default: champion"
    )
    parser.add_argument("--keep", type=Path, help="keep the worktree, in this new folder")
    return parser.parse_args()


def lines(found: Trace, rebuilt: Rebuilt) -> Iterator[str]:
    """Say what came out."""
    outcome = "comes out the same" if rebuilt.is_same else "comes out DIFFERENT"
    yield f"{found.name} version {found.version} {outcome} at commit {found.git_commit[:10]}."
    yield from (f"  {remark}" for remark in rebuilt.remarks)
    others = rebuilt.other_metrics
    yield f"  Metrics: {len(rebuilt.metrics) - len(others)} of {len(rebuilt.metrics)} the same."
    for name in others:
        registered, again = rebuilt.metrics[name]
        yield f"    {name}: {registered:.6g} registered, {again:.6g} rebuilt"
    yield f"  Weights: {_weights(rebuilt)}"


def _weights(rebuilt: Rebuilt) -> str:
    weights = rebuilt.weights
    total = weights.arrays + len(weights.unmatched)
    machine = "" if rebuilt.same_machine else " It was trained on another machine."
    if weights.are_same:
        return f"all {total} arrays the same to the last bit.{machine}"
    if weights.unmatched:
        return f"{len(weights.unmatched)} of {total} arrays have no counterpart.{machine}"
    return (
        f"{weights.same} of {total} arrays the same to the last bit, the largest difference is "
        f"{weights.largest_difference:.3g}.{machine}"
    )


if __name__ == "__main__":
    run_command(main)
