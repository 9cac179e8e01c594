"""What a retraining pulls and pushes, in DVC repositories of one stage and its videos."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from pipeline.base.errors import PipelineError
from pipeline.retraining.outdated import outdated_stages
from pipeline.retraining.transfer import pull, push

SOURCE = Path("data/my")
VIDEOS = SOURCE / "videos"
MD5_OF_C = "4a8a08f09d37b73795649038408b5f33"
STAGE = {
    "cmd": f"ls {VIDEOS} > names.txt",
    "deps": [str(VIDEOS), "table.csv"],
    "outs": ["names.txt"],
}


@pytest.fixture
def author(tmp_path, monkeypatch):
    """The clone that has everything: a stage that reads a part of a data source."""
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
    """A clone that has nothing but what git keeps, and the configured remote."""
    root = tmp_path / "fresh"
    left_out = shutil.ignore_patterns("cache", "tmp", "my", "names.txt", "other")
    shutil.copytree(author, root, ignore=left_out)
    monkeypatch.chdir(root)
    return root


def add(author: Path, path: Path, content: str, fresh: Path | None = None) -> None:
    """Change the data source where the author is, upload it, and tell the clone."""
    (author / path).write_text(content)
    with closing(Repo(str(author))) as repo:
        repo.add(str(author / SOURCE))
        repo.push()
    if fresh is not None:
        shutil.copy(author / "data/my.dvc", fresh / "data/my.dvc")


def test_new_videos_within_a_data_source_are_seen_without_a_download(author, fresh):
    assert outdated_stages() == []
    add(author, SOURCE / "notes.txt", "other notes", fresh)
    assert outdated_stages() == []
    add(author, VIDEOS / "c.mp4", "c", fresh)
    assert outdated_stages() == ["names"]
    assert not SOURCE.exists()


@pytest.mark.usefixtures("fresh")
def test_a_list_of_videos_that_nobody_has_is_no_reason_to_rest(tmp_path):
    shutil.rmtree(tmp_path / "storage")
    assert outdated_stages() == ["names"]


@pytest.mark.usefixtures("fresh")
def test_a_file_that_is_in_git_only_and_gone_is_seen():
    Path("table.csv").unlink()
    assert outdated_stages() == ["names"]


@pytest.mark.usefixtures("fresh")
def test_only_what_the_pipeline_needs_is_pulled():
    pull()
    assert sorted(path.name for path in VIDEOS.iterdir()) == ["a.mp4", "b.mp4"]
    assert Path("names.txt").read_text() == "a.mp4\nb.mp4\n"
    assert not Path("other").exists()


@pytest.mark.usefixtures("fresh")
def test_an_output_that_is_not_asked_for_is_not_pulled():
    pull(only=[])
    assert VIDEOS.exists()
    assert not Path("names.txt").exists()


@pytest.mark.usefixtures("author")
def test_a_run_cache_goes_along(tmp_path, monkeypatch):
    """This stage has no persist: true, so it has one."""
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
    with pytest.raises(PipelineError, match=r"expected all of data/my as committed; .* dvc push"):
        pull()


@pytest.mark.usefixtures("author")
def test_videos_that_dvc_does_not_have_are_left_alone():
    (VIDEOS / "c.mp4").write_text("c")
    with pytest.raises(PipelineError) as caught:
        pull()
    assert str(caught.value) == (
        "data/my: 1 of its files are not in DVC, such as data/my/videos/c.mp4. Add and commit "
        "them first: dvc add data/my && git add data/my.dvc && git commit"
    )
    assert (VIDEOS / "c.mp4").read_text() == "c"


def test_videos_of_an_earlier_commit_are_replaced(author, fresh):
    pull()
    add(author, VIDEOS / "a.mp4", "new", fresh)
    pull()
    assert (VIDEOS / "a.mp4").read_text() == "new"
