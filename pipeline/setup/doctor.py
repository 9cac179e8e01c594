"""``vidpipe doctor``: examine the machine, the environment and the project."""

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.findings import STATUS_MARKS, Finding, Status
from pipeline.common.paths import PARAMS, go_to_project
from pipeline.common.tables import align_columns, count_of, shorten_list, size_text

_REQUIREMENTS = Path("requirements.txt")
_PYTHONS = ((3, 11), (3, 13))  # oldest and newest that TensorFlow has wheels for
_MIN_DISK_BYTES = 5e9
_MIN_MEMORY_BYTES = 4e9
_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "prores", "msmpeg4v2", "wmv2")
_INSTALL = "touch pyproject.toml && make install"
_UI_PORT = 5000  # of make ui
_GPU_SCRIPT = """
import tensorflow as tf
print("GPUs:", len(tf.config.list_physical_devices("GPU")))
"""
_TENSORFLOW_SECONDS = 120


def examine() -> list[Finding]:
    """Return one finding for each part of the machine and of the project.

    Outside a project, its parts are left out: git and DVC there are not those of the project.
    """
    checks: list[tuple[str, Callable[[], tuple[Status, str]]]] = [
        ("Python", _python),
        ("disk", _disk),
        ("memory", _memory),
        ("GPU", _gpu),
        ("codecs", _codecs),
        ("folder", _folder),
    ]
    if PARAMS.is_file():
        checks += [
            ("packages", _packages),
            ("git", _git),
            ("DVC", _dvc),
            ("params.yaml", _params),
            ("MLflow", _mlflow),
            ("make ui", _ui_port),
        ]
    findings = []
    for name, check in checks:
        try:
            status, sentence = check()
        except (PipelineError, OSError) as error:
            status, sentence = "fail", str(error)
        except ModuleNotFoundError as error:
            status, sentence = "fail", f"the module {error.name} is missing. Run: {_INSTALL}"
        findings.append(Finding(name, status, sentence))
    return findings


def doctor_lines(findings: list[Finding]) -> list[str]:
    """Return a line for each finding."""
    rows = [(STATUS_MARKS[finding.status], finding.name, finding.sentence) for finding in findings]
    return align_columns(rows, "<<<")


def _python() -> tuple[Status, str]:
    version = ".".join(map(str, sys.version_info[:3]))
    if not _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        return "fail", f"{version}: expected 3.11, 3.12 or 3.13. Run: make install"
    return "ok", f"{version}, {sys.executable}"


def _packages() -> tuple[Status, str]:
    """Compare the installed versions with requirements.txt."""
    if not _REQUIREMENTS.is_file():
        return "fail", f"{_REQUIREMENTS}: no such file. Run: git restore {_REQUIREMENTS}"
    different = []
    n_pinned = 0
    for name, version in _pins():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        n_pinned += 1
        if installed != version:
            different.append(f"{name} {installed} instead of {version}")
    if different:
        return (
            "fail",
            f"{shorten_list(different, shown=3)}. Run: {_INSTALL}",
        )
    return "ok", f"all {n_pinned} as in {_REQUIREMENTS}"


def _pins() -> Iterator[tuple[str, str]]:
    """Yield the names and versions of requirements.txt that apply to this interpreter."""
    from packaging.markers import Marker

    pin = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)(?: ; (.*?))? *\\?$", re.MULTILINE)
    for name, version, marker in pin.findall(_REQUIREMENTS.read_text(encoding="utf-8")):
        if not marker or Marker(marker).evaluate():
            yield name, version


def _disk() -> tuple[Status, str]:
    free = shutil.disk_usage(Path()).free
    text = f"{size_text(free)} free in {Path.cwd()}"
    if free < _MIN_DISK_BYTES:
        return (
            "warn",
            f"{text}. Frames, clips and models need space: delete files or move the project",
        )
    return "ok", text


def _memory() -> tuple[Status, str]:
    import psutil

    available = psutil.virtual_memory().available
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        used = int(limit.with_name("memory.current").read_text())
        available = min(available, max(int(text) - used, 0))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{size_text(available)} available, {cores} cores"
    if available < _MIN_MEMORY_BYTES:
        return "warn", f"{text}. Close programs, or set compute.workers and train.batch_size lower"
    return "ok", text


def _gpu() -> tuple[Status, str]:
    """Ask TensorFlow in a process of its own, because its import takes seconds."""
    try:
        process = subprocess.run(
            [sys.executable, "-c", _GPU_SCRIPT],
            capture_output=True,
            text=True,
            timeout=_TENSORFLOW_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "fail", (
            f"TensorFlow did not start within {_TENSORFLOW_SECONDS} seconds. Look for other "
            "programs that use the GPU or the disk"
        )
    count = re.search(r"GPUs: (\d+)", process.stdout)
    if count is None:
        lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        return "fail", f"TensorFlow cannot be imported: {lines[-1]}. Run: {_INSTALL}"
    if int(count[1]):
        return "ok", f"TensorFlow uses {count[1]}"
    if shutil.which("nvidia-smi"):
        version = importlib.metadata.version("tensorflow")
        return "warn", (
            "there is an NVIDIA driver, but TensorFlow sees no GPU. Run: .venv/bin/pip install "
            f"'tensorflow[and-cuda]=={version}'"
        )
    return "ok", "none: training uses the processor"


def _codecs() -> tuple[Status, str]:
    import av
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    missing = []
    for name in _CODECS:
        try:
            Codec(name, "r")
        except UnknownCodecError:
            missing.append(name)
    if missing:
        names = ", ".join(missing)
        return "warn", f"PyAV {av.__version__} cannot decode {names}. Convert such videos to H.264"
    return "ok", f"PyAV {av.__version__} decodes {', '.join(_CODECS)}"


def _folder() -> tuple[Status, str]:
    if not PARAMS.is_file():
        return "fail", f"no {PARAMS} in {Path.cwd()}. {go_to_project()}"
    if not os.access(Path(), os.W_OK):
        return "fail", f"{Path.cwd()} cannot be written. Make it writable, or clone it elsewhere"
    return "ok", f"{Path.cwd()} can be written"


def _git() -> tuple[Status, str]:
    from pipeline.tracking.provenance import git_output

    if shutil.which("git") is None:
        return "fail", "git is not installed; DVC needs it"
    if git_output("rev-parse", "--git-dir") is None:
        return (
            "fail",
            f"{Path.cwd()} is not in a git repository. Run: git init && git add . && git commit",
        )
    commit = git_output("rev-parse", "--short", "HEAD")
    if commit is None:
        return "warn", "no commit yet, so runs cannot name theirs. Run: git add . && git commit"
    changes = (git_output("status", "--porcelain") or "").splitlines()
    if changes:
        return "warn", (
            f"at {commit} with {count_of(len(changes), 'uncommitted change')}, so a run cannot be "
            "rebuilt from its commit. Run: git status"
        )
    return "ok", f"at {commit}, nothing uncommitted"


def _dvc() -> tuple[Status, str]:
    from pipeline.retraining.checks import running_process
    from pipeline.retraining.dvc_data import has_remote, outdated_stages
    from pipeline.tracking.provenance import git_output

    if git_output("rev-parse", "--git-dir") is None:
        return "unknown", "needs git, see the line above"
    if not Path(".dvc").is_dir():
        return "fail", "there is no .dvc here. Run: dvc init"
    if process := running_process():
        return "ok", f"stages are running, in process {process}"
    stages = outdated_stages()
    remote = "a remote" if has_remote() else "no remote, so data is only on this machine"
    if stages:
        return "ok", f"{remote}; vidpipe repro would run {', '.join(stages)}"
    return "ok", f"{remote}; all stages are up to date"


def _params() -> tuple[Status, str]:
    from pipeline.retraining.checks import check_settings

    check_settings()
    return "ok", "valid, and its paths exist"


def _mlflow() -> tuple[Status, str]:
    from pipeline.tracking.store import EXPERIMENT, connect, mlflow_errors, shown_uri

    if "MLFLOW_TRACKING_URI" not in os.environ and not Path("mlflow.db").exists():
        return "ok", f"{shown_uri()}, created by the first training"
    client = connect()
    with mlflow_errors():
        experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = "no runs yet" if experiment is None else f"runs are in the experiment {EXPERIMENT}"
    return "ok", f"{shown_uri()}, {runs}"


def _ui_port() -> tuple[Status, str]:
    with socket.socket() as probe:
        probe.settimeout(1)
        is_used = probe.connect_ex(("127.0.0.1", _UI_PORT)) == 0
    if is_used:
        return "warn", f"port {_UI_PORT} is in use. Stop its program, or run: make ui PORT=5050"
    return "ok", f"port {_UI_PORT} is free"
