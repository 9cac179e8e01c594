"""`python -m tests.robustness.peak_memory STORE VIDEO...`: the most memory that a worker took.

A command of its own, because a process knows only the largest of all its children.
"""

import resource
import sys
from pathlib import Path

from tests.robustness.outcomes import decode_files

_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


def main() -> None:
    store, *videos = map(Path, sys.argv[1:])
    decode_files(store, videos)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _BYTES
    print(peak // 1_000_000)  # noqa: T201  (its output)


if __name__ == "__main__":
    main()
