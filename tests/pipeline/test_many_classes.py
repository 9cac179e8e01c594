"""400 classes go through every stage: pictures, tables, logs and notes have an upper size."""

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from pipeline.common.tables import read_table_csv
from pipeline.video.writing import encode_mp4
from tests.pipeline.conftest import run_stages

N_CLASSES = 400


@pytest.mark.long
def test_four_hundred_classes_are_trained_reviewed_and_registered(tmp_path):
    rng = np.random.default_rng(0)
    for label in range(N_CLASSES):
        folder = tmp_path / f"videos/class {label:03d}"
        folder.mkdir(parents=True)
        for number in range(4):
            frames = rng.integers(0, 256, (3 + number % 3, 16, 16, 3), dtype=np.uint8)
            (folder / f"{number}.mp4").write_bytes(encode_mp4(frames, fps=10))
    log = run_stages(tmp_path, train={"epochs": 1}, extract={"frames": 5})
    assert "class 099: " in log
    assert "class 100: " not in log
    assert "  and 300 more, see data/catalog/catalog.csv" in log
    tables = tmp_path / "eval/tables"
    assert len(read_table_csv(tables / "per_class.csv")) == N_CLASSES
    for picture in (tmp_path / "eval").rglob("*.png"):
        assert max(Image.open(picture).size) < 8000, picture
    assert (tmp_path / "eval/review/report.html").stat().st_size < 4_000_000
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    version = client.get_model_version_by_alias("video-classifier", "challenger")
    note = client.get_run(version.run_id).data.tags["mlflow.note.content"]
    assert "400 classes: class 000, class 001, " in note
