"""MLflow: the store, one run a training, and its results.

An observer of the stages: it changes no output of a stage.
"""

import os

# MLflow decides while it is imported whether it sends usage statistics. Importing this package
# first switches them off; MLFLOW_DISABLE_TELEMETRY=false switches them on.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
