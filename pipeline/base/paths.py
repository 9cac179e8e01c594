"""Where each stage puts its output, as in dvc.yaml: relative to the root of the repository."""

from pathlib import Path

CATALOG = Path("data/catalog/catalog.csv")
FRAMES = Path("data/frames")
FRAMES_INDEX = FRAMES / "index.csv"
DATA_SUMMARY = Path("data/report/summary.csv")
VIDEOS_PICTURE = Path("data/report/videos.png")
CLIPS = Path("data/clips")
FEATURES = Path("data/features")  # a cache of train, no output: it may be deleted
MODEL = Path("models/classifier.keras")
MODEL_METADATA = Path("models/classifier.json")
HISTORY = Path("models/history.csv")
TRAINING = Path("models/training.json")
METRICS = Path("eval/metrics.json")
INTERVALS = Path("eval/intervals.json")
PREDICTIONS = Path("eval/predictions.csv")
PER_CLASS = Path("eval/per_class.csv")
PLOTS = Path("eval/plots")
SLICES = Path("eval/slices.csv")
AUDITS = Path("eval/audits.json")
LEAKS = Path("eval/leaks.csv")
LABEL_ISSUES = Path("eval/label_issues.csv")
REVIEW = Path("eval/review")
REVIEW_REPORT = REVIEW / "report.html"
REGISTRATION = Path("eval/registration.json")
COMPARISON = Path("eval/compare.html")  # of the command, no output of a stage
PROMOTION = Path("eval/promotion.json")
PROMOTION_REPORT = Path("eval/promotion.md")
CROSSVAL = Path("eval/crossval")
DATA_CHECK = Path("eval/data_check.json")
RETRAINED = Path("eval/retrain.md")
