"""Compare two evaluated models on the videos that both have.

``python -m pipeline.compare A B`` prints scores with the intervals of their difference, the
params that differ, and the videos that became right or wrong; eval/compare.html has all of it.
A and B are each a registered version (video-classifier/3, @champion), a git revision (HEAD~1),
the id or name of a run of MLflow, or workspace: what lies in eval/.
"""

import argparse

from pipeline.base.command import run_command
from pipeline.base.files import replacing_file
from pipeline.base.paths import COMPARISON
from pipeline.compare.comparison import compare
from pipeline.compare.page import comparison_page
from pipeline.compare.sides import WORKSPACE, find_side
from pipeline.compare.table import table
from pipeline.params import load_params


def main() -> None:
    asked = _arguments()
    params = load_params()
    a, b = (find_side(text, model_name=params.register_.name) for text in (asked.a, asked.b))
    found = compare(
        a,
        b,
        samples=params.evaluate.bootstrap_samples,
        confidence=params.evaluate.confidence,
        seed=params.evaluate.seed,
    )
    print(table(found))
    with replacing_file(COMPARISON) as temporary:
        temporary.write_text(comparison_page(found), encoding="utf-8")
    print(f"\nAs a page: {COMPARISON}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", nargs="?", default="HEAD", help="default: HEAD")
    parser.add_argument("b", metavar="B", nargs="?", default=WORKSPACE, help="default: workspace")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
