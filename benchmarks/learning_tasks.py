"""Train params.yaml on the demo data set of each task; test ordered and shuffled clips.

``python -m benchmarks.learning --task NAME`` runs it. For each task, the stages run in a temporary
folder with the settings of ``vidpipe demo TASK``: catalog, decode and extract once, and train with
each seed. The results are written to docs/learning_tasks.md; those of other tasks and seeds are
kept.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.clips.arrays import ClipArrays
from pipeline.common.files import read_json, write_json
from pipeline.common.paths import CATALOG, CLIPS, MODEL, MODEL_METADATA, PARAMS
from pipeline.common.records import read_catalog
from pipeline.evaluation.predictions import Predictions, predict_videos
from pipeline.evaluation.scores import score_predictions
from pipeline.model.prediction import shuffled_order
from pipeline.model.saving import ModelMetadata, load_model
from pipeline.params import load_params
from pipeline.setup.demo import use_demo
from pipeline.tasks.targets import split_references

Result = dict[str, float]  # seed, and for each measure its value and <measure>_shuffled


@dataclass(frozen=True)
class Measure:
    """A score of the task on test videos.

    Attributes:
        score: key of the scores of the task.
        goal: lowest value that the default recipe should reach.
        only: column of the labels table and the cell of the videos that are scored; None: all.
    """

    score: str
    goal: float
    only: tuple[str, str] | None = None


# A measure that is not a score of the task; see _varying_words.
_VARYING_WORDS = "varying_words"

# Demo -> name of the measure in the output.
MEASURES: dict[str, dict[str, Measure]] = {
    "multilabel": {"multilabel_map": Measure("mean_average_precision", 0.95)},
    "regression": {"regression_r2": Measure("r2", 0.95)},
    "frames": {
        "frames_accuracy": Measure("frame_accuracy", 0.95),
        "frames_f1_50": Measure("f1_50", 0.85),
    },
    "caption": {
        "caption_exact": Measure("exact_match", 0.85, only=("combination", "seen")),
        "caption_word_accuracy_unseen": Measure(
            _VARYING_WORDS, 0.75, only=("combination", "unseen")
        ),
    },
    "side_inputs": {"side_accuracy": Measure("accuracy", 0.95)},
}

# Demo -> name and changes of params.yaml of a training that must score near chance.
CONTROLS: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
    "side_inputs": {"without_side_inputs": {"data": {"side_inputs": {}}}}
}

_REPOSITORY = Path.cwd()
_RESULTS = Path("docs/learning_tasks.json")  # demo -> one result a seed
_TABLE = Path("docs/learning_tasks.md")
_HEADER = """# What the pipeline learns of each demo data set

Written by `python -m benchmarks.learning --task all`: scores of the test videos, with their frames
in order and in random order, one number a seed. The settings are those of `vidpipe demo TASK`,
params.yaml with a few changes for each task.

| score | goal | seeds | value | with frames shuffled |
|---|---|---|---|---|
"""


def measure_tasks(demos: Sequence[str], seeds: Sequence[int]) -> dict[str, list[float]]:
    """Return each measure and ``<measure>_shuffled``, lists by seed, of all results so far."""
    results: dict[str, list[Result]] = read_json(_RESULTS) if _RESULTS.exists() else {}
    for demo in demos:
        results[demo] = by_seed([*results.get(demo, []), *_train_and_score(demo, seeds)])
        write_json(_RESULTS, results)
        _TABLE.write_text(_HEADER + "".join(_rows(results)), encoding="utf-8")
    return {
        name: [row[name] for row in rows]
        for rows in results.values()
        for name in rows[0]
        if name != "seed"
    }


def by_seed(results: Sequence[Result]) -> list[Result]:
    """Return the last result of each seed, sorted by seed."""
    last = {result["seed"]: result for result in results}
    return [last[seed] for seed in sorted(last)]


def _train_and_score(demo: str, seeds: Sequence[int]) -> list[Result]:
    with demo_project(demo) as root:
        for stage in ("catalog", "decode", "extract"):
            run_python(root, "-m", f"pipeline.stages.{stage}")
        results = []
        for seed in seeds:
            results.append({"seed": seed, **_scores_of_seed(root, demo, seed)})
            print(f"{demo}: {results[-1]}", flush=True)
        for name, changes in CONTROLS.get(demo, {}).items():
            _change_params(root, changes)
            run_python(root, "-m", "pipeline.stages.extract")
            for result in results:
                scores = _scores_of_seed(root, demo, int(result["seed"]))
                result |= {f"{measure}_{name}": scores[measure] for measure in MEASURES[demo]}
                print(f"{demo}, {name}: {scores}", flush=True)
        return results


@contextmanager
def demo_project(demo: str) -> Iterator[Path]:
    """Make a temporary folder with params.yaml and the videos of a demo data set."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "data/demo").mkdir(parents=True)
        for path in (PARAMS, Path("data/demo/params.yaml")):
            (root / path).write_bytes(path.read_bytes())
        use_demo(demo, root / PARAMS)
        run_python(root, "-m", "data.demo.generate", demo)
        yield root


def _scores_of_seed(root: Path, demo: str, seed: int) -> dict[str, float]:
    _change_params(root, {"train": {"seed": seed}})
    run_python(root, "-m", "pipeline.stages.train")
    code = f"from benchmarks.learning_tasks import print_scores; print_scores({demo!r})"
    scores: dict[str, float] = json.loads(run_python(root, "-c", code).splitlines()[-1])
    return scores


def _change_params(root: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    params = yaml.safe_load((root / PARAMS).read_text(encoding="utf-8"))
    for section, values in changes.items():
        params[section] |= values
    (root / PARAMS).write_text(yaml.safe_dump(params), encoding="utf-8")


def run_python(root: Path, *arguments: str) -> str:
    """Run Python in ``root`` and return what it prints."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def print_scores(demo: str) -> None:
    """Print the measures of the model in the working directory as JSON."""
    model, task = load_model(MODEL), ModelMetadata.read(MODEL_METADATA).task
    test = ClipArrays(CLIPS / "test")
    cells = {record.name: record.extra for record in read_catalog(CATALOG)}
    values: dict[str, Any] = {}
    for ending, order in (("", None), ("_shuffled", shuffled_order(0))):
        predictions = predict_videos(model, test, task, frame_order=order)
        for name, measure in MEASURES[demo].items():
            values[name + ending] = _value(measure, predictions, cells)
    print(json.dumps(values))


def _value(
    measure: Measure, predictions: Predictions, cells: Mapping[str, Mapping[str, str]]
) -> float:
    chosen = predictions
    if measure.only is not None:
        column, cell = measure.only
        rows = [n for n, video in enumerate(predictions.videos) if cells[video][column] == cell]
        chosen = predictions.rows(rows)
    if measure.score == _VARYING_WORDS:
        return _varying_words(chosen)
    return float(score_predictions(chosen, load_params().evaluate)[measure.score].value)


def _varying_words(predictions: Predictions) -> float:
    """Return the proportion of right words, at the positions where the references differ.

    The other words are the same in all captions of the demo set, so they would be right anyway.
    """
    references = [split_references(target)[0].split() for target in predictions.targets]
    varying = [n for n, words in enumerate(zip(*references, strict=True)) if len(set(words)) > 1]
    task, targets = predictions.task, predictions.targets
    captions = [
        task.prediction_cells(target, output)["predicted"].split()
        for target, output in zip(targets, predictions.outputs, strict=True)
    ]
    is_right = [
        n < len(caption) and caption[n] == reference[n]
        for caption, reference in zip(captions, references, strict=True)
        for n in varying
    ]
    return float(np.mean(is_right))


def _rows(results: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    for demo, measures in MEASURES.items():
        for name, measure in measures.items() if demo in results else ():
            rows = {"": f"{measure.goal}"} | dict.fromkeys(CONTROLS.get(demo, {}), "chance")
            for control, goal in rows.items():
                key = f"{name}_{control}" if control else name
                columns = [
                    ", ".join(format(row[column], form) for row in results[demo])
                    if column in results[demo][0]
                    else ""
                    for column, form in (
                        ("seed", "d"),
                        (key, ".3f"),
                        (f"{key}_shuffled", ".3f"),
                    )
                ]
                yield f"| `{key}` | {goal} | {' | '.join(columns)} |\n"
