"""Compare two evaluated models on their common test videos: scores, params, changed videos."""

import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import yaml
from mlflow.entities import Run
from numpy.typing import NDArray

from pipeline.common.bootstrap import MIN_GROUPS
from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_file
from pipeline.common.pages import render_page, words
from pipeline.common.paths import PARAMS, PREDICTIONS, TABLES
from pipeline.common.settings import flatten_as_text
from pipeline.common.tables import align_columns
from pipeline.evaluation.predictions import Predictions, on_same_videos
from pipeline.evaluation.scores import Difference, paired_differences
from pipeline.evaluation.settings import EvaluateSection
from pipeline.registry.versions import find_version, lookup_version, version_title
from pipeline.tasks.settings import TaskSection
from pipeline.tracking.provenance import git_output
from pipeline.tracking.results import EVALUATION, SETTINGS
from pipeline.tracking.runs import existing_run
from pipeline.tracking.store import EXPERIMENT, connect, mlflow_errors

_RUN_ID = re.compile(r"(?:runs:/)?(?P<run_id>[0-9a-f]{32})")
_SHOWN_VIDEOS = 20  # of a list in the terminal; the page has all
_TEMPLATE = Path(__file__).parent / "templates" / "compare.html"


@dataclass(frozen=True)
class Side:
    """An evaluated model: its title, its predictions of the test videos, its params.

    Attributes:
        params: dotted key -> value as JSON.
    """

    title: str
    predictions: Predictions
    params: dict[str, str]


class ChangedParam(NamedTuple):
    """A param that differs; None where a side does not have it."""

    key: str
    a: str | None
    b: str | None


class ChangedVideo(NamedTuple):
    """A video that one side has right and the other wrong, with the answers as text."""

    video: str
    target: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True)
class Comparison:
    """Model B against model A on their common videos.

    Attributes:
        differences: by metric.
        params: that differ, of the sections that both sides have.
        became_right: wrong in A and right in B, where B is most confident first.
        became_wrong: right in A and wrong in B, in the same order.
        both_right, both_wrong: number of the other videos.
        n_groups: number of resampling groups of the common videos.
        remarks: sentences about what the sides do not have in common.
    """

    a: Side
    b: Side
    differences: dict[str, Difference]
    lower_is_better: frozenset[str]
    confidence: float
    params: tuple[ChangedParam, ...]
    became_right: tuple[ChangedVideo, ...]
    became_wrong: tuple[ChangedVideo, ...]
    both_right: int
    both_wrong: int
    n_groups: int
    remarks: tuple[str, ...]

    @property
    def n_videos(self) -> int:
        changed = len(self.became_right) + len(self.became_wrong)
        return changed + self.both_right + self.both_wrong

    def verdict(self, metric: str) -> str:
        """Return which side is better: its interval excludes zero and has enough groups."""
        difference = self.differences[metric]
        if difference.low == difference.high == difference.difference == 0:
            return "the same"
        if self.n_groups < MIN_GROUPS or difference.low <= 0 <= difference.high:
            return "not sure"
        b_is_better = (difference.low > 0) != (metric in self.lower_is_better)
        return "B is better" if b_is_better else "A is better"


def compare_sides(a: str, b: str, *, name: str, section: EvaluateSection) -> Comparison:
    """Compare two evaluated models by their names, as ``find_side`` and ``compare``."""
    return compare(find_side(a, name=name), find_side(b, name=name), section)


def find_side(text: str, *, name: str) -> Side:
    """Return the evaluated model that ``text`` names; the first of these that exists.

    1. ``workspace``, the name that DVC uses too: the results in eval/.
    2. A registered version: ``3``, ``@champion``, ``name@alias``, ``name/3``, ``models:/name/3``.
    3. A git revision: ``HEAD~1``, a branch, a tag, a commit.
    4. A run of MLflow: its id or its name.

    Args:
        name: of the registered model, for a version without it.

    Raises:
        PipelineError: none of them exists, or it has no predictions.
    """
    if text == "workspace":
        return _side(text, PREDICTIONS, PARAMS.read_text(encoding="utf-8"))
    if text.startswith(("@", "models:/")):  # nothing but a version
        find_version(text, name=name)
    if version := lookup_version(text, name=name):
        title = version_title(version)
        run = existing_run(version.run_id)
        if run is None:
            raise PipelineError(f"{title}: its run {version.run_id} is gone.")
        return _side_of_run(run, f"{title}, run {run.info.run_name}")
    if not text.startswith("-") and (
        commit := git_output("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}")
    ):
        return _side_of_commit(commit)
    if run := _find_run(text):
        return _side_of_run(run, f"run {run.info.run_name} of {_started(run)}")
    raise PipelineError(
        f"Expected workspace, a registered version (3, @champion, {name}/3), a git revision "
        f"(HEAD~1), or the id or name of a run of MLflow. Received: {text}"
    )


def _find_run(text: str) -> Run | None:
    """Return the run with this id, also as ``runs:/id``, or with this name."""
    if as_id := _RUN_ID.fullmatch(text):
        return existing_run(as_id["run_id"])
    quote = '"' if "'" in text else "'"
    if quote in text:
        raise PipelineError(f"MLflow cannot search for a run with the name {text}. Give its id.")
    client = connect()
    with mlflow_errors():
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return None
        runs = client.search_runs(
            [experiment.experiment_id], f"attributes.run_name = {quote}{text}{quote}"
        )
    if len(runs) > 1:
        ids = ", ".join(f"{run.info.run_id} of {_started(run)}" for run in runs[:10])
        raise PipelineError(f"{len(runs)} runs have the name {text}. Give the id of one: {ids}")
    return runs[0] if runs else None


def _started(run: Run) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))


def _side_of_run(run: Run, title: str) -> Side:
    settings = {key: value for key, value in run.data.tags.items() if key.startswith(SETTINGS)}
    run_id, folder = run.info.run_id, f"{EVALUATION}/{TABLES.name}"
    path = f"{folder}/{PREDICTIONS.name}"
    client = connect()
    with tempfile.TemporaryDirectory() as temporary:
        with mlflow_errors():
            if path not in [file.path for file in client.list_artifacts(run_id, folder)]:
                raise PipelineError(
                    f"Run {run_id} has no {path}: its model was not evaluated. Check its model "
                    "out and run: dvc repro --force --single-item register"
                )
            copied = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=path, dst_path=temporary
            )
        return _side(title, Path(copied), {**run.data.params, **settings})


def _side_of_commit(commit: str) -> Side:
    title = git_output("show", "--no-patch", "--format=commit %h: %s", commit) or commit
    content = git_output("show", f"{commit}:./{PREDICTIONS}") or _read_from_dvc(commit)
    if content is None:
        raise PipelineError(
            f"{title!r}: neither git nor DVC has its {PREDICTIONS}. Commit the results of each "
            "run: git add dvc.lock params.yaml eval models. Or compare with a version, such as "
            "@champion, or with a run."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PREDICTIONS.name)
        path.write_text(content, encoding="utf-8")
        return _side(title, path, git_output("show", f"{commit}:./{PARAMS}") or "")


def _read_from_dvc(commit: str) -> str | None:
    """Return the predictions of a commit from DVC's cache, where dvc.yaml keeps them there."""
    import dvc.api  # takes a second
    from dvc.exceptions import DvcException

    try:
        return str(dvc.api.read(str(PREDICTIONS), rev=commit, encoding="utf-8"))
    except (DvcException, FileNotFoundError):
        return None


def _side(title: str, predictions: Path, params: dict[str, str] | str) -> Side:
    """Read a side; ``params`` may be the text of params.yaml."""
    if isinstance(params, str):
        params = flatten_as_text(yaml.safe_load(params) or {})
    task_type = params.get("task.type", TaskSection().type)
    return Side(title, Predictions.read_csv(predictions, task_type=task_type), params)


def compare(a: Side, b: Side, section: EvaluateSection) -> Comparison:
    """Compare two evaluated models.

    Raises:
        PipelineError: there is no common video.
    """
    common_a, common_b = on_same_videos(a.predictions, b.predictions)
    is_right_a, is_right_b = common_a.is_right, common_b.is_right
    return Comparison(
        a=a,
        b=b,
        differences=paired_differences(common_a, common_b, section),
        lower_is_better=common_b.task.lower_is_better,
        confidence=section.confidence,
        params=tuple(_changed_params(a.params, b.params)),
        became_right=_changed_videos(common_a, common_b, ~is_right_a & is_right_b),
        became_wrong=_changed_videos(common_a, common_b, is_right_a & ~is_right_b),
        both_right=int((is_right_a & is_right_b).sum()),
        both_wrong=int((~is_right_a & ~is_right_b).sum()),
        n_groups=section.resampling(common_b.resampling_groups).n_groups,
        remarks=tuple(_remarks(a.predictions, b.predictions, len(common_b.videos))),
    )


def _changed_params(a: dict[str, str], b: dict[str, str]) -> Iterator[ChangedParam]:
    """Yield the params that differ; 10 in params.yaml equals 10.0 of a run."""
    sections_a, sections_b = ({key.split(".")[0] for key in params} for params in (a, b))
    for key in dict.fromkeys((*b, *a)):
        change = ChangedParam(key, a.get(key), b.get(key))
        try:
            is_same = float(change.a or "") == float(change.b or "")
        except ValueError:
            is_same = change.a == change.b
        if key.split(".")[0] in sections_a & sections_b and not is_same:
            yield change


def _changed_videos(
    a: Predictions, b: Predictions, is_changed: NDArray[np.bool_]
) -> tuple[ChangedVideo, ...]:
    rows = np.flatnonzero(is_changed).tolist()
    confidence = b.task.confidence(b.outputs)
    rows.sort(key=lambda row: (-confidence[row], b.videos[row]))

    def answer(side: Predictions, row: int) -> str:
        return side.task.answer_line(side.task.answer(side.outputs[row], top_k=1), shown=1)[0]

    return tuple(
        ChangedVideo(b.videos[row], b.targets[row], answer(a, row), answer(b, row)) for row in rows
    )


def _remarks(a: Predictions, b: Predictions, n_common: int) -> Iterator[str]:
    targets_a: defaultdict[str, list[str]] = defaultdict(list)
    targets_b: defaultdict[str, list[str]] = defaultdict(list)
    for name, side, targets in (("A", a, targets_a), ("B", b, targets_b)):
        if others := len(side.videos) - n_common:
            yield f"Not compared, because only {name} has them: {others} of its videos."
        for video, target in zip(side.videos, side.targets, strict=True):
            targets[video].append(target)
    if a.task.summary() != b.task.summary():
        yield f"A knows {a.task.summary()}. B knows {b.task.summary()}."
    common = targets_a.keys() & targets_b.keys()
    if changed := sum(targets_a[video] != targets_b[video] for video in common):
        yield f"Videos with another target in B, which counts for both: {changed}."


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return a comparison as text."""
    rows = [("", "A", "B", "B - A", f"{comparison.confidence:.0%} interval", "")]
    rows += [
        (
            words(metric),
            f"{difference.value_a:.4f}",
            f"{difference.value_b:.4f}",
            f"{difference.difference:+.4f}",
            f"{difference.low:+.4f} to {difference.high:+.4f}",
            comparison.verdict(metric),
        )
        for metric, difference in comparison.differences.items()
    ]
    lines = [
        f"A  {comparison.a.title}",
        f"B  {comparison.b.title}",
        "",
        f"On the {comparison.n_videos} common videos:",
        *align_columns(rows, "<>>>><"),
        *comparison.remarks,
        "",
    ]
    if comparison.params:
        params = [(key, a or "-", b or "-") for key, a, b in comparison.params]
        lines += ["Params that differ:", *align_columns([("", "A", "B"), *params], "<<<")]
    else:
        lines.append("No param differs.")
    both_right, both_wrong = comparison.both_right, comparison.both_wrong
    lines += ["", f"Right in both: {both_right}, wrong in both: {both_wrong}."]
    for title, videos in (
        ("Became wrong", comparison.became_wrong),
        ("Became right", comparison.became_right),
    ):
        lines.append(f"{title}: {len(videos)}")
        if videos:
            shown = [("video", "target", "A", "B"), *videos[:_SHOWN_VIDEOS]]
            lines += align_columns(shown, "<<<<")
        if len(videos) > _SHOWN_VIDEOS:
            lines.append(f"  and {len(videos) - _SHOWN_VIDEOS} more")
    return lines


def write_comparison_page(comparison: Comparison, path: Path) -> None:
    """Write a comparison as one HTML file."""
    with replacing_file(path) as temporary:
        temporary.write_text(render_page(_TEMPLATE, comparison=comparison), encoding="utf-8")
