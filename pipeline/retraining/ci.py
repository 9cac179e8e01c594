"""Steps of a CI job around a retraining: pull, commit, report, outcome."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json
from pipeline.common.paths import (
    CATALOG,
    DECODE_ATTEMPT,
    METRICS,
    MODEL,
    PROMOTION,
    RETRAIN_REPORT,
)
from pipeline.params import Params
from pipeline.registry.promotion import gate_rules
from pipeline.retraining import dvc_data
from pipeline.retraining.report import without_pictures
from pipeline.retraining.repro import read_registration
from pipeline.retraining.retrain import last_state, standing
from pipeline.tracking.provenance import git_output

# GitHub and GitLab start no pipeline for a commit with this in its message.
_NO_CI = "[skip ci]"
_COMMITTED = (
    "*dvc.lock",
    DECODE_ATTEMPT.as_posix(),
    METRICS.parent.as_posix(),
    MODEL.parent.as_posix(),
)
_STOPPED = "The retraining stopped with an error before its end: see the log of the job."
_NAME, _EMAIL = "Retraining", "retraining@users.noreply.github.com"


def pull_videos(params: Params) -> str:
    """Get the videos and their catalog from DVC's remote, without frames; return a sentence."""
    if not dvc_data.has_remote():
        return "DVC has no default remote: nothing is pulled."
    dvc_data.pull(only=[CATALOG, Path(params.data.videos)])
    return "The videos and their catalog are on disk."


def commit_results(branch: str, *, remote: str = "origin") -> str:
    """Commit dvc.lock, the attempt of decode, eval/ and models/, and push to ``branch``.

    If the branch has moved meanwhile, the commit is rebased: dvc.lock records what the results
    were computed from.

    Returns:
        A sentence.

    Raises:
        PipelineError: git fails. After a conflict the commit is kept for people to resolve.
    """
    _run("git", "add", "--all", "--", *_COMMITTED)
    if git_output("diff", "--cached", "--quiet") is not None:
        return "Nothing to commit."
    headline = "Retrained"
    if PROMOTION.exists():
        report = read_json(PROMOTION)
        headline += f": version {report['challenger']['version']} {report['outcome']}"
    message = f"{headline} {_NO_CI}"
    identity = {
        f"GIT_{role}_{field}": os.environ.get(f"GIT_{role}_{field}", value)
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", _NAME), ("EMAIL", _EMAIL))
    }
    push = ("git", "push", "--quiet", remote, f"HEAD:refs/heads/{branch}")
    _run("git", "commit", "--quiet", "--message", message, **identity)
    try:
        _run(*push)
    except PipelineError:
        try:
            _run("git", "pull", "--quiet", "--rebase", remote, branch, **identity)
        except PipelineError:
            git_output("rebase", "--abort")
            raise
        _run(*push)
    return f"Committed and pushed to {branch}: {message}"


def post_report(environment: Mapping[str, str]) -> list[str]:
    """Post the report to the summary of the job and to the pull or merge request.

    Comments go through CML if it is installed, which uploads the pictures, otherwise through
    GitHub's gh. A retraining that stopped before its end is reported as such.

    Args:
        environment: ``GITHUB_STEP_SUMMARY``: file of the summary; ``PULL_REQUEST``: number to
            comment on, or empty.

    Returns:
        A sentence for each place.
    """
    state = last_state()
    if state in (None, "nothing"):
        return ["Nothing was retrained, so there is nothing to report."]
    is_complete = state == "reported"
    sentences = [] if is_complete else [_STOPPED]
    text = f"{_STOPPED}\n"
    if is_complete:
        text = without_pictures(RETRAIN_REPORT.read_text(encoding="utf-8"))
    if summary := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as out:
            out.write(text)
        sentences.append("The report is in the summary of the job.")
    if number := environment.get("PULL_REQUEST"):
        sentences.append(_comment(number, text, has_pictures=is_complete))
    return sentences or ["There is no job summary and no pull request here."]


def outcome_lines(params: Params) -> list[str]:
    """Return ``version=`` and ``promotable=``, for GITHUB_OUTPUT or a dotenv report.

    ``promotable`` is ``true`` if the version passed the gate and is not champion yet.
    """
    registration = read_registration()
    is_promotable = standing(registration, gate_rules(params)) == "passed"
    version = (registration and registration.version) or ""
    return [f"version={version}", f"promotable={str(is_promotable).lower()}"]


def _comment(number: str, text: str, *, has_pictures: bool) -> str:
    """Comment on a pull request; CML uploads the pictures that lie beside the report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, RETRAIN_REPORT.name)
        path.write_text(text, encoding="utf-8")
        if shutil.which("cml"):
            report = str(RETRAIN_REPORT if has_pictures else path)
            command = ["cml", "comment", "update", f"--target=pr/{number}", "--publish", report]
        elif shutil.which("gh"):
            command = ["gh", "pr", "comment", number, "--body-file", str(path)]
        else:
            return "No comment: neither cml nor gh is installed."
        _run(*command)
    return f"The report is a comment on {number}, posted by {command[0]}."


def _run(*command: str, **environment: str) -> None:
    process = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if process.returncode:
        output = " ".join(process.stdout.split())
        raise PipelineError(f"{' '.join(command[:2])} failed: {output}")
