"""MLflow: runs, the model registry, and the model in the form in which it is served."""

import os

# MLflow decides when it is imported whether it sends usage statistics, so this must come first,
# and every import of it in this repository is below this package. Set it to false to take part.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
