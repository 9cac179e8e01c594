"""Where export writes, with a model that is made up."""

import sys
from pathlib import Path

import pytest

from pipeline import export
from pipeline.base.errors import PipelineError

NAMES = ["classifier.json", "classifier.keras", "saved_model"]


@pytest.fixture
def export_to(tmp_path, monkeypatch):
    """Run the command, with files in place of a registered model."""

    def model_file(_uri: str, name: str) -> Path:
        path = tmp_path / name
        path.write_text(f"new {name}")
        return path

    monkeypatch.setattr(export, "model_uri", lambda name, alias: f"{name}@{alias}")
    monkeypatch.setattr(export, "model_file", model_file)
    monkeypatch.setattr(export, "load_classifier", lambda path: path)
    monkeypatch.setattr(export, "export_saved_model", lambda _model, folder: folder.mkdir())

    def run(folder: Path) -> None:
        monkeypatch.setattr(sys, "argv", ["export", "--model", "m", "--output", str(folder)])
        export.main()

    return run


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "an earlier export"])
def test_an_earlier_export_is_replaced(export_to, tmp_path, before):
    folder = tmp_path / "exported"
    if before != "nothing":
        folder.mkdir()
    if before == "an earlier export":
        (folder / "saved_model").mkdir()
        (folder / "saved_model/old").touch()
        for name in NAMES[:2]:
            (folder / name).write_text("old")
    export_to(folder)
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert (folder / "classifier.json").read_text() == "new classifier.json"
    assert list((folder / "saved_model").iterdir()) == []


def test_a_folder_with_anything_else_is_left_as_it_is(export_to, tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    for name in (*NAMES, "thesis.pdf"):
        (folder / name).touch()
    with pytest.raises(PipelineError) as caught:
        export_to(folder)
    assert str(caught.value) == (
        f"--output {folder}: expected a folder that is new, empty or an earlier export, which is "
        "replaced. Received: one that holds classifier.json, classifier.keras, saved_model, "
        "thesis.pdf"
    )
    assert (folder / "thesis.pdf").exists()


def test_a_file_is_not_replaced_by_a_folder(export_to, tmp_path):
    (tmp_path / "exported").write_text("mine")
    with pytest.raises(PipelineError, match=r"an earlier export.* Received: a file$"):
        export_to(tmp_path / "exported")
    assert (tmp_path / "exported").read_text() == "mine"
