"""TensorFlow is imported without its harmless messages; real errors are shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Stands for TensorFlow, which takes seconds to import.
FAKE = """
import contextlib, os

def log(line):
    with contextlib.suppress(OSError):  # stderr may be closed
        os.write(2, line.encode() + b"\\n")

LINES = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795763690.909079 9126 port.cc:153] oneDNN custom operations are on.",
    "2026-01-01 00:00:00.123456: W tensorflow/core/x.cc:9] Could not find cuda drivers.",
    "E0000 00:00:1795763690.909079 9126 cuda_fft.cc:1] Unable to register cuFFT factory",
    "E0000 00:00:1795763690.909079 9126 memory.cc:1] Out of memory",
]
for line in LINES:
    log(line)

class config:
    def list_physical_devices(kind):
        log("E0000 00:00:1 9126 cuda_platform.cc:52] failed call to cuInit: 303")
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "tensorflow.py").write_text(FAKE)

    def run(code, *, fake=True, prefix="", **environment):
        paths = [str(tmp_path), str(ROOT)] if fake else [str(ROOT)]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
        return subprocess.run(
            ["bash", "-c", f'"$0" -c "$1" {prefix}', sys.executable, code],
            env={**clean, "PYTHONPATH": os.pathsep.join(paths), **environment},
            capture_output=True,
            text=True,
            check=True,
        )

    return run


IMPORT = "import pipeline.model, sys, os, tensorflow; os.write(2, b'after\\n')"


def test_harmless_lines_are_removed_and_errors_are_shown(run):
    assert run(IMPORT).stderr.splitlines() == [
        "E0000 00:00:1795763690.909079 9126 memory.cc:1] Out of memory",
        "after",
    ]


def test_a_log_level_that_is_set_shows_everything(run):
    assert len(run(IMPORT, TF_CPP_MIN_LOG_LEVEL="0").stderr.splitlines()) == 7


def test_a_child_process_removes_them_too(run):
    code = f"import subprocess, tensorflow; subprocess.run([sys.executable, '-c', {IMPORT!r}])"
    lines = run(f"import pipeline.model, sys; {code}").stderr.splitlines()
    assert len(lines) == 3  # the error of each import, and the line after


def test_it_works_when_stderr_is_closed(run):
    code = "import pipeline.model, sys, tensorflow; print(sys.stderr, tensorflow.__name__)"
    assert run(code, prefix="2>&-").stdout == "None tensorflow\n"


def test_a_failing_import_shows_its_messages(run, tmp_path):
    (tmp_path / "tensorflow.py").write_text(FAKE + "raise ImportError('no such library')")
    code = (
        "import pipeline.model\ntry:\n    import tensorflow\nexcept ImportError as e:\n    print(e)"
    )
    result = run(code)
    assert result.stdout == "no such library\n"
    assert "Out of memory" in result.stderr


def test_settings_are_applied_only_when_tensorflow_is_imported(run):
    code = (
        "import pipeline.params, os, sys; assert 'tensorflow' not in sys.modules; "
        "print(os.environ.get('TF_ENABLE_ONEDNN_OPTS')); import tensorflow; "
        "print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    )
    assert run(code).stdout == "None\n1\n"
    assert run(code, TF_ENABLE_ONEDNN_OPTS="0").stdout == "0\n0\n"


def test_the_real_tensorflow_starts_without_a_line(run):
    code = "import pipeline.clips.batches, pipeline.model.network, keras; keras.ops.zeros(1) + 1"
    assert run(code, fake=False).stderr == ""
