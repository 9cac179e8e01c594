"""``vidpipe``: help, start, exit codes, arguments, and what ``repro`` does when a stage fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.common.tables import read_table_csv
from pipeline.video.writing import encode_mp4
from tests.brightness_model import write_model
from tests.conftest import numbered_frames
from tests.registered import NAME

REPOSITORY = Path(__file__).parents[2]
VERBS = [
    "import", "init", "doctor", "demo", "labels", "check", "data-check", "repro", "sync",
    "crossval", "tune", "compare", "predict", "serve", "export", "promote", "rollback",
    "champions", "show",
    "rebuild", "retrain", "ci",
]  # fmt: skip
CI_VERBS = ["pull", "commit", "report", "outcome"]
HEAVY = (
    "tensorflow",
    "keras",
    "mlflow",
    "dvc",
    "optuna",
    "numpy",
    "pandas",
    "matplotlib",
    "av",
    "cv2",
)


def vidpipe(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_verbs_are_there_in_the_order_of_use():
    commands = get_command(app).commands
    assert list(commands) == VERBS
    assert list(commands["ci"].commands) == CI_VERBS


@pytest.mark.parametrize(
    "verb", [*([verb] for verb in VERBS[:-1]), *(["ci", verb] for verb in CI_VERBS)], ids=" ".join
)
def test_the_help_of_a_verb_has_an_example_and_its_exit_codes(verb):
    result = CliRunner().invoke(app, [*verb, "--help"])
    assert result.exit_code == 0
    assert re.search(rf"Example: .*vidpipe {' '.join(verb)}", result.output)
    assert re.search(r"Exit codes: 0 ", result.output)


def test_the_summary_of_every_verb_fits_into_its_line():
    commands = vidpipe("--help").stdout.split("Commands:")[1]
    assert "..." not in commands


def test_help_starts_fast_because_it_imports_nothing_heavy():
    seconds = []
    for _ in range(3):  # other processes may slow one of them down
        started = time.perf_counter()
        assert vidpipe("--help").returncode == 0
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1
    code = f"import sys, pipeline.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_verbs(shell, monkeypatch):
    monkeypatch.setenv("_VIDPIPE_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", "vidpipe ro")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "vidpipe ro")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    result = CliRunner().invoke(app, [], prog_name="vidpipe")
    assert "rollback" in result.output
    assert "promote" not in result.output


def test_an_error_is_one_line_and_exit_code_1(tmp_path):
    process = vidpipe("check", cwd=tmp_path)
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.startswith("error: params.yaml: no such file")
    assert process.stderr.count("\n") == 1


def test_a_name_cannot_break_a_line_of_the_log_or_an_error():
    code = """
import logging
from pipeline.common.command import run_command
from pipeline.common.errors import PipelineError

def main():
    logging.info("%s", "a\\nb\\x1b[2J.mp4")
    raise PipelineError("c\\x85\\u202ed.mp4")

run_command(main)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert process.stderr == "a\\nb\\x1b[2J.mp4\nerror: c\\x85\\u202ed.mp4\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["crossval", "--folds", "1"], "--folds"),
        (["tune", "--minutes", "-1"], "--minutes"),
        (["predict", "--clips", "-1", "a.mp4"], "--clips"),
        (["predict"], "Missing argument"),
        (["promote", "--judge"], "No such option"),
        (["train"], "No such command 'train'"),
    ],
)
def test_wrong_arguments_have_exit_code_2(arguments, message):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.output


NAMES = [
    "two words.mp4", "$HOME.mp4", "$(touch pwned).mp4", "`touch pwned`.mp4", "=1+1.mp4",
    "two\nlines.mp4", "next\x85line.mp4", "latin \udce9.mp4",
    "it's.mp4", 'say "hi".mp4', "a;b & c.mp4", "[1].mp4", "ü.mp4",
    *(f"{number}.mp4" for number in range(16)),
]  # fmt: skip


def test_thirty_files_with_odd_names_are_predicted_in_one_call(versions, tmp_path, monkeypatch):
    for name in NAMES:
        (tmp_path / name).write_bytes(encode_mp4(numbered_frames(5), fps=10))
    write_model(tmp_path / "version/artifacts")
    versions.create_model_version(NAME, (tmp_path / "version").as_uri())
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    arguments = [*NAMES, "a*e.mp4 is gone", "--model", f"{NAME}/5", "--json", "out.json"]
    folder = {path.name for path in tmp_path.iterdir()}
    # A name that matches nothing stops the call; a file that does not exist is one failed video.
    result = CliRunner().invoke(app, ["predict", *arguments])
    assert "a*e.mp4 is gone: no video matches the pattern" in str(result.exception)
    arguments[len(NAMES)] = "gone\n\udcff.mp4"
    result = CliRunner().invoke(app, ["predict", *arguments, "--csv", "out.csv"])
    assert result.exit_code == 1
    answers = json.loads((tmp_path / "out.json").read_text())
    shown = [name.replace("\udce9", "\\xe9") for name in NAMES]
    assert [answer["video"] for answer in answers] == [*shown, "gone\n\\xff.mp4"]
    assert [answer["video"] for answer in answers if "error" in answer] == ["gone\n\\xff.mp4"]
    rows = read_table_csv(tmp_path / "out.csv")
    assert [row["video"] for row in rows] == [*shown, "gone\n\\xff.mp4"]
    assert {path.name for path in tmp_path.iterdir()} == folder | {"out.csv", "out.json"}


def test_predict_checks_its_outputs_before_it_reads_a_video(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without params.yaml, which is read next
    (tmp_path / "folder").mkdir()
    for option in ("--csv", "--json", "--preview"):
        result = CliRunner().invoke(app, ["predict", "a.mp4", option, "folder"])
        assert "folder: expected a file. Received: a folder" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["crossval"], "eval/crossval/summary.json"),
        (["tune"], "eval/tune/summary.json"),
        (["compare"], "eval/compare.html"),
        (["promote"], "eval/promotion.json"),
        (["retrain"], "eval/retrain.md"),
        (["data-check"], "eval/data_check.json"),
    ],
)
def test_every_other_command_checks_its_output_first_too(tmp_path, monkeypatch, arguments, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / output).mkdir(parents=True)
    result = CliRunner().invoke(app, arguments)
    assert f"{output}: expected a file. Received: a folder" in str(result.exception)


STAGES = {
    "first": {"cmd": "cp source first", "deps": ["source"], "outs": ["first"]},
    "train": {"cmd": "sh train.sh", "deps": ["first", "train.sh"], "outs": ["model"]},
    "last": {"cmd": "cp model last", "deps": ["model"], "outs": ["last"]},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A DVC repository of three stages that was built once."""
    root = tmp_path_factory.mktemp("project")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["data"]["videos"] = "."
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (root / "source").write_text("good")
    (root / "train.sh").write_text("cp first model")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--quiet", "--no-scm"], cwd=root, check=True)
    assert vidpipe("repro", "last", cwd=root).returncode == 0
    return root


def test_repro_restores_the_last_good_outputs_when_a_stage_fails(project):
    (project / "source").write_text("other")
    (project / "train.sh").write_text("echo half > model; exit 1")
    process = vidpipe("repro", "last", cwd=project)
    assert process.returncode == 255  # DVC's
    assert "Checked out the last good outputs again: model." in process.stderr
    assert "run the command again" in process.stderr
    assert (project / "model").read_text() == "good"
    assert (project / "first").read_text() == "other"  # its stage succeeded


def test_repro_restores_after_an_interruption_and_exits_with_130(project):
    (project / "train.sh").write_text("echo half > model; : > running; exec sleep 60")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "repro", "last"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (project / "running").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert "Checked out the last good outputs again: model." in log
    assert (project / "model").read_text() == "good"
