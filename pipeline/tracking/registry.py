"""The MLflow model registry: new versions, which are found again by the content of the model."""

import importlib.metadata
import logging
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model

import pipeline
from pipeline.base.files import sha256_of_file, sha256_of_json
from pipeline.serving.contract import DEFAULTS, ServingConfig
from pipeline.tracking.aliases import CHALLENGER
from pipeline.tracking.runs import MODEL_SHA256
from pipeline.tracking.signature import SIGNATURE
from pipeline.tracking.store import connect, mlflow_errors

logger = logging.getLogger(__name__)


_LOGGED_NAME = "classifier"  # of the model within its run
_CODE_SHA256 = "code.sha256"
_SERVABLE = Path(__file__).with_name("servable.py")
# What the code that serves a model imports, other than the standard library.
INFERENCE_MODULES = (
    "av",
    "cv2",
    "keras",
    "mlflow",
    "numpy",
    "pandas",
    "pebble",
    "tensorflow",
    "tqdm",
    "zstandard",
)


def register_model(
    run_id: str,
    *,
    name: str,
    model_sha256: str,
    model_path: Path,
    metadata_path: Path,
    example_video: bytes,
    tags: Mapping[str, str],
    config: ServingConfig = DEFAULTS,
) -> int:
    """Make the model a version of ``name`` with the alias ``challenger``; return its number.

    A model that has a version already keeps it: its tags are updated, the alias moves to it.
    The same weights with other code of ``pipeline`` are another model, because the code goes
    with the model and makes its input.

    Args:
        run_id: of the training that made the model.
        model_sha256: digest of the model; becomes the tag ``model.sha256``.
        model_path: what ``save_classifier`` wrote.
        metadata_path: what ``ClipsMetadata.write`` wrote.
        example_video: bytes of a small video file, stored as the input example.
        tags: of the version: commit, data, scores.
        config: how the model is served where nobody says otherwise.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    client = connect()
    code_sha256 = _code_digest()
    with mlflow_errors():
        version = _find_version(client, name, model_sha256, code_sha256)
        if version is None:
            model_id = _logged_model(client, run_id, code_sha256) or _log_model(
                client,
                run_id,
                code_sha256=code_sha256,
                artifacts={"model": str(model_path), "metadata": str(metadata_path)},
                example_video=example_video,
                config=config,
            )
            version = mlflow.register_model(f"models:/{model_id}", name)
        identity = {MODEL_SHA256: model_sha256, _CODE_SHA256: code_sha256}
        for key, value in {**tags, **identity}.items():
            client.set_model_version_tag(name, version.version, key, value)
        client.set_registered_model_alias(name, CHALLENGER, version.version)
    return int(version.version)


def inference_requirements() -> list[str]:
    """Return the packages that serving needs, pinned to what is installed: ``numpy==2.4.1``."""
    distributions = importlib.metadata.packages_distributions()
    names = {name for module in INFERENCE_MODULES for name in distributions[module]}
    return sorted(f"{name}=={importlib.metadata.version(name)}" for name in names)


def _code_digest() -> str:
    """Return the SHA-256 of the code that travels with a model."""
    root = Path(pipeline.__file__).parent
    files = sorted(root.rglob("*.py"))
    return sha256_of_json([[str(file.relative_to(root)), sha256_of_file(file)] for file in files])


def _find_version(
    client: MlflowClient, name: str, model_sha256: str, code_sha256: str
) -> ModelVersion | None:
    """Return the newest version of this very model whose files are still there."""
    found = client.search_model_versions(
        f"name = '{name}' AND tags.`{MODEL_SHA256}` = '{model_sha256}' "
        f"AND tags.`{_CODE_SHA256}` = '{code_sha256}'"
    )
    for version in sorted(found, key=lambda version: int(version.version), reverse=True):
        if mlflow.artifacts.list_artifacts(f"models:/{name}/{version.version}"):
            return version
    return None


def _logged_model(client: MlflowClient, run_id: str, code_sha256: str) -> str | None:
    """Return the id of the model that the run has, if its files are complete and there."""
    run = client.get_run(run_id)
    logged = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run_id}' AND name = '{_LOGGED_NAME}'"
    )
    for model in logged:
        is_ready = model.status == LoggedModelStatus.READY
        if (
            is_ready
            and model.tags.get(_CODE_SHA256) == code_sha256
            and mlflow.artifacts.list_artifacts(model.model_uri)
        ):
            return str(model.model_id)
    return None


def _log_model(
    client: MlflowClient,
    run_id: str,
    *,
    code_sha256: str,
    artifacts: dict[str, str],
    example_video: bytes,
    config: ServingConfig,
) -> str:
    """Log the servable model to a run that has ended.

    ``mlflow.pyfunc.log_model`` would have to open the run again, which changes its end time.
    """
    run = client.get_run(run_id)
    model = client.create_logged_model(
        run.info.experiment_id,
        name=_LOGGED_NAME,
        source_run_id=run_id,
        params=run.data.params,
        tags={_CODE_SHA256: code_sha256},
    )
    Model.log(
        artifact_path=None,
        flavor=mlflow.pyfunc,
        run_id=run_id,
        model_id=model.model_id,
        python_model=str(_SERVABLE),
        code_paths=[str(Path(pipeline.__file__).parent)],
        artifacts=artifacts,
        model_config=config.to_json(),
        signature=SIGNATURE,
        input_example=pd.DataFrame({"video": [example_video]}),
        pip_requirements=inference_requirements(),
    )
    return str(model.model_id)
