"""Names and notes of runs by what differs from the commit, each in a new git repository."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.tracking.provenance import ChangedParam, find_changes, git_output, provenance_tags

PARAMS = {
    "catalog": {"seed": 0},
    "model": {"temporal": {"units": [64]}, "dropout": 0.2},
    "train": {"seed": 0, "learning_rate": 0.002, "fine_tuning": {"learning_rate": 0.0001}},
}
COMMITTED = """
catalog: {seed: 0}
model: {temporal: {units: [64]}, dropout: 0.2}
train: {seed: 0, learning_rate: 0.002, fine_tuning: {learning_rate: 0.0001}}
evaluate: {seed: 5}
"""
LOCK = "stages: {{extract: {{outs: [{{path: data/clips, md5: {}}}]}}}}"


def git(*arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init")
    for name, content in {
        "params.yaml": COMMITTED,
        "dvc.lock": LOCK.format("aaa"),
        "pipeline/train.py": "",
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    git("add", ".")
    git("commit", "--message", "Read *all* frames\n\nBecause.")


def with_train(**changes):
    return PARAMS | {"train": PARAMS["train"] | changes}


def test_a_run_is_named_by_the_params_that_differ():
    changed = with_train(learning_rate=0.001) | {
        "model": {"temporal": {"units": (32,)}, "dropout": 0.2}
    }
    changes = find_changes(changed)
    assert changes.run_name == "units=[32], learning_rate=0.001"
    assert changes.tags == {"params.changed": "model.temporal.units, train.learning_rate"}
    assert changes.params[1] == ChangedParam(
        "train.learning_rate", "learning_rate", committed="0.002", current="0.001"
    )
    assert changes.markdown.splitlines()[2:] == [
        "| param | at the commit | in this run |",
        "| --- | --- | --- |",
        "| `model.temporal.units` | `[64]` | `[32]` |",
        "| `train.learning_rate` | `0.002` | `0.001` |",
    ]


def test_without_differences_the_commit_names_the_run():
    changes = find_changes(PARAMS)
    assert changes.run_name == "Read *all* frames"
    assert changes.tags == {"params.changed": ""}
    assert changes.markdown.startswith("Commit `")
    assert r"Read \*all\* frames" in changes.markdown
    assert "All params are those of the commit." in changes.markdown


def test_1_and_1_0_are_equal():
    Path("params.yaml").write_text("train: {dropout: 1}")
    git("commit", "--all", "--message", "One")
    assert find_changes({"train": {"dropout": 1.0}}).params == []


def test_a_new_param_is_a_change():
    (added,) = find_changes(with_train(epochs=3)).params
    assert (added.committed, added.current) == (None, "3")


def test_sections_that_the_commit_lacks_are_ignored():
    assert find_changes({"crossval": {"fold": 1}}).params == []


def test_other_clips_with_the_same_params_are_other_data():
    Path("dvc.lock").write_text(LOCK.format("bbb"))
    assert find_changes(PARAMS).run_name == "other data"
    assert find_changes(PARAMS | {"catalog": {"seed": 1}}).run_name == "catalog.seed=1"


def test_changed_code_is_named_too():
    Path("pipeline/train.py").write_text("changed")
    assert find_changes(PARAMS).run_name == "Read *all* frames + changed code"
    assert find_changes(with_train(seed=1)).run_name == "train.seed=1 + changed code"


def test_a_long_name_is_shortened():
    name = find_changes(with_train(note="x" * 200)).run_name
    assert (len(name), name[-2:]) == (120, "x…")


def test_without_git_the_time_names_the_run(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    changes = find_changes(PARAMS)
    assert changes.run_name.startswith("train 20")
    assert changes.tags == {}
    assert changes.markdown == "No commit: not in a git repository."


# Git histories in another encoding


def test_a_commit_message_in_latin_1_is_read():
    git("config", "i18n.commitEncoding", "ISO-8859-1")
    Path("message.txt").write_bytes("Lies alle Bilder für später\n".encode("latin-1"))
    git("commit", "--allow-empty", "--file", "message.txt")
    assert find_changes(PARAMS).run_name == "Lies alle Bilder für später"


def test_a_commit_of_undeclared_encoding_is_no_error():
    person = b"J\xfcrgen <test@localhost> 0 +0000"
    tree = (git_output("rev-parse", "HEAD^{tree}") or "").encode()
    lines = [b"tree " + tree, b"author " + person, b"committer " + person, b"", b"F\xfcr alle", b""]
    Path("commit").write_bytes(b"\n".join(lines))
    git("update-ref", "HEAD", git_output("hash-object", "-t", "commit", "-w", "commit"))
    assert find_changes(PARAMS).run_name == "F\ufffdr alle"
    assert git_output("show", "--no-patch", "--format=%an") == "J\ufffdrgen"


def test_names_and_files_in_latin_1_are_no_error():
    git("config", "core.quotePath", "false")
    name = "für.py".encode("latin-1")
    Path(os.fsdecode(name)).write_text("1")
    Path("params.yaml").write_bytes(COMMITTED.encode() + "# für später\n".encode("latin-1"))
    git("add", ".")
    git("commit", "--message", "old")
    git("checkout", "-b", name.removesuffix(b".py"))
    Path(os.fsdecode(name)).write_text("2")
    tags = provenance_tags()
    assert (tags["git.branch"], tags["git.dirty"]) == ("f\ufffdr", "true")
    assert find_changes(PARAMS).params == []
