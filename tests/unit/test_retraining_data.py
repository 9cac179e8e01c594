"""Data that a retraining pulls, pushes and restores, in DVC repositories of one or two stages."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from dvc.exceptions import ReproductionError
from dvc.repo import Repo
from dvc.rwlock import rwlock

from pipeline.common.errors import PipelineError
from pipeline.retraining.dvc_data import outdated_stages, pull, push, restore_outputs

SOURCE = Path("data/my")
VIDEOS = SOURCE / "videos"
MD5_OF_C = "4a8a08f09d37b73795649038408b5f33"
PERSIST = {"persist": True}
STAGE = {
    "cmd": f"ls {VIDEOS} > names.txt",
    "deps": [str(VIDEOS), "table.csv"],
    "outs": ["names.txt"],
}


@pytest.fixture
def author(tmp_path, monkeypatch):
    """A repository with everything: a stage that reads a part of a data source."""
    root = tmp_path / "author"
    (root / VIDEOS).mkdir(parents=True)
    monkeypatch.chdir(root)
    with closing(Repo.init(no_scm=True)) as repo, repo.config.edit() as config:
        config["remote"]["storage"] = {"url": str(tmp_path / "storage")}
        config["core"] |= {"remote": "storage", "analytics": False}
    for name in ("a", "b"):
        (VIDEOS / f"{name}.mp4").write_text(name)
    for path in (SOURCE / "notes.txt", Path("table.csv"), Path("other")):
        path.write_text(str(path))
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"names": STAGE}}))
    with closing(Repo()) as repo:
        repo.add(["other", str(SOURCE)])
        repo.reproduce()
        repo.push()
    return root


@pytest.fixture
def fresh(author, tmp_path, monkeypatch):
    """A clone with the files of git and the configured remote only."""
    root = tmp_path / "fresh"
    left_out = shutil.ignore_patterns("cache", "tmp", "my", "names.txt", "other")
    shutil.copytree(author, root, ignore=left_out)
    monkeypatch.chdir(root)
    return root


def add(author: Path, path: Path, content: str, fresh: Path | None = None) -> None:
    """Change the data source in ``author``, push it, and copy its .dvc file to ``fresh``."""
    (author / path).write_text(content)
    with closing(Repo(str(author))) as repo:
        repo.add(str(author / SOURCE))
        repo.push()
    if fresh is not None:
        shutil.copy(author / "data/my.dvc", fresh / "data/my.dvc")


def test_new_videos_in_a_data_source_are_noticed_without_a_download(author, fresh):
    assert outdated_stages() == []
    add(author, SOURCE / "notes.txt", "other notes", fresh)
    assert outdated_stages() == []
    add(author, VIDEOS / "c.mp4", "c", fresh)
    assert outdated_stages() == ["names"]
    assert not SOURCE.exists()


@pytest.mark.usefixtures("fresh")
def test_a_stage_is_outdated_when_the_list_of_its_videos_is_lost(tmp_path):
    shutil.rmtree(tmp_path / "storage")
    assert outdated_stages() == ["names"]


@pytest.mark.usefixtures("fresh")
def test_a_stage_is_outdated_when_a_file_of_git_is_deleted():
    Path("table.csv").unlink()
    assert outdated_stages() == ["names"]


@pytest.mark.usefixtures("fresh")
def test_only_data_of_the_pipeline_is_pulled():
    pull()
    assert sorted(path.name for path in VIDEOS.iterdir()) == ["a.mp4", "b.mp4"]
    assert Path("names.txt").read_text() == "a.mp4\nb.mp4\n"
    assert not Path("other").exists()


@pytest.mark.usefixtures("fresh")
def test_an_output_outside_only_is_not_pulled():
    pull(only=[])
    assert VIDEOS.exists()
    assert not Path("names.txt").exists()


@pytest.mark.usefixtures("author")
def test_the_run_cache_is_pushed_and_pulled(tmp_path, monkeypatch):
    push()
    shutil.copytree(".", tmp_path / "other", ignore=shutil.ignore_patterns("cache", "names.txt"))
    monkeypatch.chdir(tmp_path / "other")
    pull()
    assert list(Path(".dvc/cache/runs").rglob("*/*"))


@pytest.mark.parametrize("was_pulled", [False, True])
@pytest.mark.parametrize("lost", ["the video", "everything"])
def test_a_video_that_was_never_pushed_is_an_error(author, fresh, tmp_path, was_pulled, lost):
    if was_pulled:
        pull()
    uploaded = {*(tmp_path / "storage").rglob("*")}
    add(author, VIDEOS / "c.mp4", "c", fresh)
    for path in {*(tmp_path / "storage").rglob("*")} - uploaded:
        if path.is_file() and (lost == "everything" or path.name == MD5_OF_C[2:]):
            path.unlink()
    with pytest.raises(
        PipelineError, match=r"expected all files of data/my as committed\..* dvc push"
    ):
        pull()


@pytest.mark.usefixtures("author")
def test_videos_that_are_not_in_dvc_are_kept():
    (VIDEOS / "c.mp4").write_text("c")
    with pytest.raises(PipelineError) as caught:
        pull()
    assert str(caught.value) == (
        "data/my: 1 of its files are not in DVC, the first is data/my/videos/c.mp4. Add and "
        "commit them: dvc add data/my && git add data/my.dvc && git commit"
    )
    assert (VIDEOS / "c.mp4").read_text() == "c"


def test_videos_of_an_earlier_commit_are_replaced(author, fresh):
    pull()
    add(author, VIDEOS / "a.mp4", "new", fresh)
    pull()
    assert (VIDEOS / "a.mp4").read_text() == "new"


# A stage with a cached output, a metric that git tracks, and a stage after it.
FAILING = {
    "first": {"cmd": "cp source first", "deps": ["source"], "outs": ["first"]},
    "train": {
        "cmd": "cat first > model && grep good first > metrics.json",
        "deps": ["first"],
        "outs": ["model"],
        "metrics": [{"metrics.json": {"cache": False}}],
    },
    "last": {"cmd": "cp model last", "deps": ["model"], "outs": ["last"]},
    "decode": {"cmd": "cat source >> frames", "deps": ["source"], "outs": [{"frames": PERSIST}]},
}


@pytest.fixture
def failing(tmp_path, monkeypatch) -> None:
    """A repository that was built once, with a source that makes its second stage fail."""
    monkeypatch.chdir(tmp_path)
    with closing(Repo.init(no_scm=True)):
        pass
    Path("source").write_text("good")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": FAILING}))
    with closing(Repo()) as repo:
        repo.reproduce()
    Path("source").write_text("bad")


@pytest.mark.usefixtures("failing")
def test_the_last_good_outputs_of_a_stage_that_failed_are_restored():
    with closing(Repo()) as repo, pytest.raises(ReproductionError):
        repo.reproduce()
    assert not Path("metrics.json").exists() or not Path("metrics.json").read_text()
    Path("last").unlink()
    restored, lost = restore_outputs()
    assert sorted(restored) == ["last", "metrics.json", "model"]
    assert lost == []
    for name in ("model", "last", "metrics.json"):
        assert Path(name).read_text().strip() == "good"
    assert Path("first").read_text() == "bad"  # its stage succeeded
    assert Path("metrics.json").stat().st_nlink == 1  # git tracks it: never a link to the cache
    Path("metrics.json").write_text("writable")


@pytest.mark.usefixtures("failing")
def test_an_output_with_persist_stays_as_it_is():
    Path("frames").unlink()  # the link
    Path("frames").write_text("half of it")
    assert restore_outputs() == ([], [])
    assert Path("frames").read_text() == "half of it"


@pytest.mark.usefixtures("failing")
def test_an_output_that_the_cache_lost_is_reported():
    shutil.rmtree(".dvc/cache")
    Path("model").unlink()
    assert restore_outputs() == ([], ["model"])


@pytest.mark.usefixtures("failing")
def test_nothing_is_restored_while_another_process_runs_a_stage():
    Path("model").unlink()
    path = str(Path("model").absolute())
    with closing(Repo()) as repo, rwlock(repo.tmp_dir, repo.fs, "dvc repro", [], [path], False):
        assert restore_outputs() == ([], [])
    assert not Path("model").exists()
