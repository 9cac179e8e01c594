"""The benchmark of docs/scale.md runs, with fewer rows; its times are not tested."""

import importlib.util
import json
import math
import subprocess
import sys

import pytest

from tests.pipeline.conftest import REPOSITORY


@pytest.mark.long
def test_the_benchmark_of_scale_prints_the_costs_of_each_step_and_the_estimates():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", "--quick"],
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    *lines, last = done.stdout.splitlines()
    assert sum("UCF101 (13,320)" in line for line in lines) == 3  # 1, 10 and 100 machines
    report = json.loads(last)
    for step in ("catalog", "decode", "extract", "dvc", "evaluate", "mlflow"):
        assert report[step]["rows_per_second"] > 0
        assert math.isfinite(report[step]["exponent"])
        assert math.isfinite(report[step]["memory_bytes_per_row"])
    assert report["clip"]["decode_seconds"] > 0
    if importlib.util.find_spec("ray"):
        assert report["ray"]["videos"] == 100
        for engine in ("local", "ray", "ray_data"):
            assert report["ray"][f"scheduling_ms_{engine}"] > 0
