"""Register a model with the code that serves it, and find it again by its content.

A version is identified by the digests of its weights and metadata and of the code that travels
with it. Without the second digest, weights that are served by changed preprocessing would keep
the scores of the code before.
"""

import importlib.metadata
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model

import pipeline
from pipeline.common.files import sha256_of_file, sha256_of_json
from pipeline.common.side_inputs import example_values
from pipeline.model.saving import ModelMetadata
from pipeline.registry.versions import CHALLENGER, version_uri
from pipeline.serving import pyfunc
from pipeline.serving.request import ServingConfig
from pipeline.tracking.runs import MODEL_SHA256
from pipeline.tracking.store import connect, mlflow_errors

logger = logging.getLogger(__name__)

# The packages of pipeline/ that serve a model.
TRAVELLING_PACKAGES = ("clips", "common", "model", "serving", "tasks", "video")
# What they import when they serve, other than the standard library.
# fmt: off
INFERENCE_MODULES = (
    "PIL", "av", "cv2", "keras", "mlflow", "numpy", "pandas", "psutil", "pydantic", "tensorflow",
)
# fmt: on

# Tag of a version: digest of the test videos that its scores are of.
TEST_DATA = "test_data.sha256"

_CODE_SHA256 = "code.sha256"
_LOGGED_NAME = "model"  # of the model within its run
_PACKAGE = Path(pipeline.__file__).parent


def register_model(
    run_id: str,
    *,
    name: str,
    model_sha256: str,
    model_path: Path,
    metadata_path: Path,
    example_video: bytes,
    tags: Mapping[str, str],
    config: ServingConfig,
) -> int:
    """Make the model a version of ``name`` with the alias ``challenger``; return its number.

    A model that has a version already keeps it. Its tags are updated, unless they are of other
    test videos: its scores stay those that it was registered with, and the run has those of every
    evaluation.

    Args:
        model_sha256: ``model.saving.model_digest`` of the model.
        model_path: file of ``save_model``.
        metadata_path: file of ``ModelMetadata.write``.
        example_video: bytes of a small video file, stored as the input example.
        tags: of the version: commit, data, scores.
        config: how the model is served by default.
    """
    client = connect()
    files = _code_files()
    code_sha256 = sha256_of_json([[str(file), sha256_of_file(_PACKAGE / file)] for file in files])
    identity = {MODEL_SHA256: model_sha256, _CODE_SHA256: code_sha256}
    with mlflow_errors():
        version = _find_registered(client, name, identity)
        if version is None:
            model_id = _find_logged(client, run_id, code_sha256) or _log_model(
                client,
                run_id,
                code_sha256=code_sha256,
                artifacts={"model": str(model_path), "metadata": str(metadata_path)},
                example_video=example_video,
                config=config,
            )
            version = mlflow.register_model(f"models:/{model_id}", name)
        if version.tags.get(TEST_DATA, tags.get(TEST_DATA)) != tags.get(TEST_DATA):
            logger.info(
                "%s version %s keeps the scores that it was registered with, because the test "
                "videos are other ones now. The new scores are in its run.",
                name,
                version.version,
            )
        else:
            for key, value in {**tags, **identity}.items():
                client.set_model_version_tag(name, version.version, key, value)
        client.set_registered_model_alias(name, CHALLENGER, version.version)
    return int(version.version)


def inference_requirements() -> list[str]:
    """Return the packages that serving needs, pinned to the installed versions."""
    distributions = importlib.metadata.packages_distributions()
    names = {name for module in INFERENCE_MODULES for name in distributions[module]}
    return sorted(f"{name}=={importlib.metadata.version(name)}" for name in names)


def _code_files() -> list[Path]:
    """Return the Python files that travel with a model, relative to ``pipeline/``."""
    files = [file for name in TRAVELLING_PACKAGES for file in (_PACKAGE / name).rglob("*.py")]
    return sorted(file.relative_to(_PACKAGE) for file in [_PACKAGE / "__init__.py", *files])


def _find_registered(
    client: MlflowClient, name: str, identity: Mapping[str, str]
) -> ModelVersion | None:
    """Return the newest version with these tags whose files exist."""
    tags = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in identity.items())
    versions = client.search_model_versions(f"name = '{name}' AND {tags}")
    for version in sorted(versions, key=lambda version: int(version.version), reverse=True):
        if mlflow.artifacts.list_artifacts(version_uri(version)):
            return version
    return None


def _find_logged(client: MlflowClient, run_id: str, code_sha256: str) -> str | None:
    """Return the id of the complete model with this code that the run has; None without one."""
    run = client.get_run(run_id)
    logged = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run_id}' AND name = '{_LOGGED_NAME}'"
    )
    for model in logged:
        has_code = model.tags.get(_CODE_SHA256) == code_sha256
        is_complete = model.status == LoggedModelStatus.READY
        if has_code and is_complete and mlflow.artifacts.list_artifacts(model.model_uri):
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
    """Log the model to its run, which has ended; return its id.

    ``mlflow.pyfunc.log_model`` would open the run again, which changes its end time.
    """
    run = client.get_run(run_id)
    model = client.create_logged_model(
        run.info.experiment_id,
        name=_LOGGED_NAME,
        source_run_id=run_id,
        params=run.data.params,
        tags={_CODE_SHA256: code_sha256},
    )
    metadata = ModelMetadata.read(Path(artifacts["metadata"]))
    example = example_values(metadata.side_inputs)
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder, "pipeline")
        for file in _code_files():
            (code / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_PACKAGE / file, code / file)
        Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=model.model_id,
            python_model=pyfunc.__file__,
            code_paths=[str(code)],
            artifacts=artifacts,
            model_config=config.to_json(),
            signature=pyfunc.signature_of(metadata.task, metadata.side_inputs),
            input_example=pd.DataFrame([{"video": example_video, **example}]),
            pip_requirements=inference_requirements(),
            metadata={"answers_frames": metadata.task.answers_frames},  # for worker.py
        )
    return str(model.model_id)
