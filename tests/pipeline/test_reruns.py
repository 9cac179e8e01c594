"""What an edit reruns: the table of docs/architecture.md, row by row, on a built project."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.pipeline.conftest import Workspace

# Rows: files that are edited, and the stages that DVC finds outdated.
TRAIN_AND_AFTER = ["train", "evaluate", "review", "register"]
DECODE_AND_AFTER = ["decode", "report", "extract", *TRAIN_AND_AFTER]
ROWS = {
    "tracking": (["pipeline/tracking/runs.py", "pipeline/tracking/notes.py"], []),
    "compute": (["pipeline/compute/isolated.py", "pipeline/compute/ray_tasks.py"], []),
    "registry": (["pipeline/registry/gate.py", "pipeline/registry/promotion.py"], []),
    "retraining": (["pipeline/retraining/retrain.py", "pipeline/retraining/tune.py"], []),
    "command line": (["pipeline/cli/app.py", "pipeline/params.py"], []),
    "docs": (["README.md", "docs/architecture.md"], []),
    "settings": (["pipeline/model/settings.py", "pipeline/video/settings.py"], []),
    "errors and paths": (["pipeline/common/errors.py", "pipeline/common/paths.py"], []),
    "command and settings": (["pipeline/common/command.py", "pipeline/common/settings.py"], []),
    "files": (["pipeline/common/files.py"], ["catalog", *DECODE_AND_AFTER]),
    "serving": (["pipeline/serving/pyfunc.py"], ["register"]),
    "review": (["pipeline/review/report.py"], ["review", "register"]),
    "evaluation": (["pipeline/evaluation/slices.py"], ["evaluate", "review", "register"]),
    "model": (["pipeline/model/network.py"], TRAIN_AND_AFTER),
    "tasks": (["pipeline/tasks/classification.py"], TRAIN_AND_AFTER),
    "targets": (
        ["pipeline/tasks/targets.py", "pipeline/tasks/intervals.py"],
        ["catalog", *DECODE_AND_AFTER],
    ),
    "weights of the CNN": (["data/weights/mobilenet.weights.h5"], TRAIN_AND_AFTER),
    "clips reader": (["pipeline/clips/arrays.py", "pipeline/clips/batches.py"], TRAIN_AND_AFTER),
    "clips writer": (
        ["pipeline/clips/preprocessing.py", "pipeline/clips/shards.py"],
        ["extract", *TRAIN_AND_AFTER],
    ),
    "frames on disk": (["pipeline/video/store.py"], DECODE_AND_AFTER),
    "data report": (
        ["pipeline/data_report/summary.py", "pipeline/data_report/page.py"],
        ["report"],
    ),
    "template of the data report": (["pipeline/data_report/templates/report.html"], ["report"]),
    "proposed labels": (["pipeline/data_report/labels.py"], []),
    "near-duplicates": (
        ["pipeline/evaluation/near_duplicates.py"],
        ["report", "evaluate", "review", "register"],
    ),
    "pages": (["pipeline/common/templates/style.css"], ["report", "review", "register"]),
}


def outdated(root: Path) -> list[str]:
    """The stages that changed, and those after them, in the order of dvc.yaml."""
    with closing(Repo(str(root))) as repo:
        # A file of `dvc add` is a stage without a name.
        stages = {stage.name: stage for stage in repo.index.stages if hasattr(stage, "name")}
        changed = [stages[name] for name in repo.status() if name in stages]
        downstream = {
            stage.name for one in changed for stage in (one, *repo.index.graph.predecessors(one))
        }
        before: set[str] = set()
        while downstream != before:  # until no stage is added
            before = set(downstream)
            downstream |= {
                stage.name
                for name in before
                for stage in repo.index.graph.predecessors(stages[name])
            }
        return [name for name in stages_in_order(repo) if name in downstream]


def stages_in_order(repo: Repo) -> list[str]:
    order = ["catalog", *DECODE_AND_AFTER]
    names = {getattr(stage, "name", None) for stage in repo.index.stages}
    return [name for name in order if name in names]


@pytest.fixture(scope="module")
def project(built, tmp_path_factory) -> Workspace:
    """A copy of the built workspace; tests undo their edits."""
    root = tmp_path_factory.mktemp("reruns") / "repo"
    return Workspace(shutil.copytree(built.root, root, symlinks=True))


@contextmanager
def edited(paths: Sequence[Path]) -> Iterator[None]:
    """Add a line to each file inside the block; a missing file exists only there."""
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    for path, content in before.items():
        path.write_bytes((content or b"") + b"\n# an edit\n")
    try:
        yield
    finally:
        for path, content in before.items():
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)


@pytest.mark.parametrize("row", ROWS)
def test_an_edit_reruns_the_stages_that_it_can_change(project, row, monkeypatch):
    files, stages = ROWS[row]
    monkeypatch.chdir(project.root)
    with edited([project.root / file for file in files]):
        assert outdated(project.root) == stages


def test_nothing_is_outdated_without_an_edit(project, monkeypatch):
    monkeypatch.chdir(project.root)
    assert outdated(project.root) == []


def test_a_changed_parameter_reruns_only_the_stages_that_depend_on_it(workspace, monkeypatch):
    monkeypatch.chdir(workspace.root)
    workspace.set_params(evaluate={"confidence": 0.9})
    assert outdated(workspace.root) == ["evaluate", "review", "register"]


def test_an_edit_of_decoding_decodes_nothing_and_reruns_nothing_after_it(workspace):
    with (workspace.root / "pipeline/video/picture.py").open("a") as source:
        source.write("\n# an edit\n")
    done = workspace.run("dvc", "repro")
    assert "0 videos to decode, 32 kept from earlier runs" in done.stdout
    assert done.stdout.count("Running stage") == 1


@pytest.mark.long
def test_a_parameter_changed_and_changed_back_trains_nothing(workspace):
    model = workspace.root / "models/model.keras"
    before = model.read_bytes()
    workspace.set_params(train={"seed": 1})
    workspace.run("dvc", "repro", "train")
    assert model.read_bytes() != before
    workspace.set_params(train={"seed": 0})
    done = workspace.run("dvc", "repro", "train")
    assert "Stage 'train' is cached" in done.stdout
    assert "Running stage 'train'" not in done.stdout
    assert model.read_bytes() == before


def test_other_side_inputs_change_the_catalog_and_the_clips(workspace, monkeypatch):
    monkeypatch.chdir(workspace.root)
    workspace.set_params(data={"side_inputs": {"camera": "category"}})
    with closing(Repo(str(workspace.root))) as repo:
        changed = {name for name in repo.status() if name in ("catalog", *DECODE_AND_AFTER)}
    assert changed == {"catalog", "extract"}


def test_frames_clips_and_the_cache_share_disk(built):
    """The cache adds less than a tenth to what the working files take."""

    def sizes(folder: Path) -> dict[int, int]:
        """Bytes on disk by inode: a file with several links counts once."""
        stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
        return {stat.st_ino: stat.st_blocks * 512 for stat in stats}

    work = {}
    for name in ("data", "models", "eval", "videos"):
        work |= sizes(built.root / name)
    both = work | sizes(built.root / ".dvc/cache")
    assert sum(both.values()) < 1.1 * sum(work.values())


@pytest.mark.long
def test_a_file_of_weights_that_changes_is_trained_with_again(workspace, monkeypatch):
    monkeypatch.chdir(workspace.root)
    model, weights = Path("models/model.keras"), Path("data/weights/start.keras")
    shutil.copy(model, weights)
    workspace.set_params(model={"cnn": {"weights": str(weights)}})
    workspace.run("dvc", "add", str(weights))
    assert workspace.stages_run("dvc", "repro", "train") == ["train"]
    assert "train" not in outdated(workspace.root)
    weights.unlink()
    shutil.copy(model, weights)  # the model that was trained from it
    assert outdated(workspace.root) == TRAIN_AND_AFTER


def test_the_output_of_training_as_its_input_is_refused_before_anything_runs(workspace):
    model = workspace.root / "models/model.keras"
    before = model.read_bytes()
    workspace.set_params(model={"cnn": {"weights": "./models/model.keras"}})
    done = workspace.run("vidpipe", "repro", check=False)
    assert done.returncode == 1
    assert "model.cnn.weights: expected none, imagenet or a file in data/weights" in done.stdout
    assert model.read_bytes() == before
