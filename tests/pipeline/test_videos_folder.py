"""What DVC and the catalog see of links in the folder of videos, and of a folder elsewhere."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]

Dvc = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def dvc(tmp_path) -> Dvc:
    """Run dvc in ``tmp_path``, a project of the stage catalog with two classes of three videos.

    The stage catalog reads the bytes of the files, so they need not be videos.
    """
    pipeline = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]["catalog"]
    stage = {key: pipeline[key] for key in ("cmd", "params", "outs")}
    stage["deps"] = ["${data.videos}", "${data.videos}/${data.labels}"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"catalog": stage}}))
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["data"] = {"videos": "videos", "labels": ""}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for name in ("cat", "dog"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "videos" / name / f"{number}.mp4").write_text(f"{name} {number}")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    assert run("init", "--no-scm").returncode == 0
    return run


def test_dvc_sees_a_change_behind_a_linked_file_and_the_catalog_refuses_a_linked_folder(
    dvc, tmp_path
):
    outside = tmp_path / "outside"
    shutil.copytree(tmp_path / "videos/dog", outside)
    (outside / "far.mp4").write_text("before")
    (tmp_path / "videos/dog/linked.mp4").symlink_to(outside / "far.mp4")
    assert dvc("repro").returncode == 0
    catalog = (tmp_path / "data/catalog/catalog.csv").read_text()
    assert "dog/linked.mp4,dog," in catalog
    (outside / "far.mp4").write_text("after")
    assert "modified:           videos" in dvc("status").stdout
    assert "Running stage 'catalog'" in dvc("repro").stdout
    assert (tmp_path / "data/catalog/catalog.csv").read_text() != catalog

    (tmp_path / "videos/dog/more").symlink_to(outside)
    assert "up to date" in dvc("status").stdout  # so vidpipe repro looks for links itself
    (tmp_path / "videos/cat/new.mp4").write_text("the stage runs")
    done = dvc("repro")
    assert done.returncode != 0
    assert "videos/dog/more: expected a folder. Received: a symbolic link to a folder" in (
        done.stdout
    )


def test_dvc_sees_a_change_in_a_folder_outside_the_repository(dvc, tmp_path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("shared") / "videos"
    shutil.move(tmp_path / "videos", elsewhere)
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    params["data"]["videos"] = str(elsewhere)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    assert dvc("repro").returncode == 0
    assert "Running stage" not in dvc("repro").stdout
    catalog = (tmp_path / "data/catalog/catalog.csv").read_text()
    assert catalog.count(".mp4,") == 6
    (elsewhere / "cat/new.mp4").write_text("another video")
    assert "Running stage 'catalog'" in dvc("repro").stdout
    assert "cat/new.mp4," in (tmp_path / "data/catalog/catalog.csv").read_text()
