"""`dvc repro` tries a video again that could not be decoded for now."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.common.files import sha256_of_file
from pipeline.common.records import VideoRecord, write_catalog
from pipeline.video.writing import encode_mp4

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.long
def test_a_video_that_timed_out_is_tried_again_until_it_is_decoded(tmp_path):
    for name in ("params.yaml", "data/decode_attempt.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    pipeline = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
    stage = {key: pipeline["stages"]["decode"][key] for key in ("cmd", "params", "outs")}
    (tmp_path / "dvc.yaml").write_text(
        yaml.safe_dump({"vars": pipeline["vars"], "stages": {"decode": stage}})
    )
    video = tmp_path / "data/demo/videos/long.mp4"
    video.parent.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    video.write_bytes(encode_mp4(noise.repeat(1500, 0), fps=10))
    record = VideoRecord("long.mp4", "left", split="train", sha256=sha256_of_file(video))
    write_catalog(tmp_path / "data/catalog/catalog.csv", [record])
    params = tmp_path / "params.yaml"
    usual = params.read_text().replace("max_bad_fraction: 0.1", "max_bad_fraction: 1.0")
    params.write_text(usual.replace("timeout_seconds: 600", "timeout_seconds: 0.1"))

    def dvc(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ).stdout  # fmt: skip

    dvc("init", "--no-scm")
    for _ in range(2):  # nothing changes in between
        printed = dvc("repro")
        assert "not finished after 0.1 s" in printed
        assert "The next dvc repro tries 1 of them again: long.mp4" in printed
    params.write_text(usual)
    assert "1 video to decode" in dvc("repro")
    assert "Running stage" not in dvc("repro")
