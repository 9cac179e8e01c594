"""Paths of the stages and commands, relative to the root of the repository."""

import shlex
from pathlib import Path

PARAMS = Path("params.yaml")
DVC_LOCK = Path("dvc.lock")

CATALOG = Path("data/catalog/catalog.csv")
FRAMES = Path("data/frames")
DECODE_INDEX = FRAMES / "index.csv"
DECODE_ATTEMPT = Path("data/decode_attempt.yaml")  # in git; dvc.yaml reads it
DATA_REPORT = Path("data/report/report.html")
DATA_SUMMARY = Path("data/report/summary.csv")
DATA_PICTURE = Path("data/report/videos.png")
CLIPS = Path("data/clips")
UNUSED_CLIPS = CLIPS / "unused"  # of videos without a split, if any: official folds use them
CLIPS_INDEX = "clips.csv"  # in the folder of each split
PREPROCESSING = CLIPS / "preprocessing.json"
FEATURES = Path("data/features")  # cache of frame features; may be deleted at any time

WEIGHTS = Path("data/weights")  # input: files that model.cnn.weights may name

MODEL = Path("models/model.keras")
MODEL_METADATA = Path("models/model.json")
UNCALIBRATED = Path("models/uncalibrated.keras")  # only until the train stage ends
CHECKPOINT = Path("models/checkpoint.npz")  # of several workers, until their training ends
HISTORY = Path("models/history.csv")
TRAINING = Path("models/training.json")

METRICS = Path("eval/metrics.json")
INTERVALS = Path("eval/intervals.json")
AUDITS = Path("eval/audits.json")
TABLES = Path("eval/tables")
PREDICTIONS = TABLES / "predictions.csv"
SLICES = TABLES / "slices.csv"
NEAR_DUPLICATES = TABLES / "near_duplicates.csv"
LABEL_ISSUES = TABLES / "label_issues.csv"
PLOTS = Path("eval/plots")
REVIEW = Path("eval/review")
REVIEW_REPORT = REVIEW / "report.html"
REGISTRATION = Path("eval/registration.json")

# Written by commands, not by stages.
COMPARISON = Path("eval/compare.html")
PROMOTION = Path("eval/promotion.json")
PROMOTION_REPORT = Path("eval/promotion.md")
CROSSVAL = Path("eval/crossval")
TUNE = Path("eval/tune")
DATA_CHECK = Path("eval/data_check.json")
RETRAIN_REPORT = Path("eval/retrain.md")


def go_to_project() -> str:
    """Return the remedy for a command in another folder: the root of the installed project."""
    root = Path(__file__).resolve().parents[2]
    command = f": cd {shlex.quote(str(root))}" if (root / PARAMS).is_file() else "."
    return f"Run the command from the root of the project{command}"
