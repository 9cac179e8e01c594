"""train: fit the CNN-LSTM on the clips; keep the weights of the best epoch, and calibrate."""

import logging
from pathlib import Path
from typing import Any

from pipeline.base.command import run_command
from pipeline.base.files import write_csv, write_json
from pipeline.base.paths import CATALOG, CLIPS, FEATURES, HISTORY, MODEL, MODEL_METADATA, TRAINING
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.shards import ClipArrays
from pipeline.model.architecture import Architecture, Cnn, Temporal
from pipeline.model.augmentation import Augmentation, check_classes
from pipeline.model.calibration import Calibration, calibrate
from pipeline.model.classifier import build_classifier
from pipeline.model.metadata import ClassifierMetadata
from pipeline.model.saving import model_digest, save_classifier
from pipeline.model.training import FineTuning, FitOptions, FitResult, fit, make_deterministic
from pipeline.params import Params, load_params
from pipeline.tracking.epochs import EpochMetrics
from pipeline.tracking.lineage import log_catalog
from pipeline.tracking.runs import tag_cnn_weights, tag_model, training_run, warned

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    options = fit_options(params)
    make_deterministic(params.train.seed, params.train.threads)
    metadata = ClipsMetadata.read(CLIPS / "metadata.json")
    check_classes(options.augmentation, metadata.class_names)
    train, val = ClipArrays(CLIPS / "train"), ClipArrays(CLIPS / "val")
    model = build_classifier(
        architecture(params),
        n_classes=len(metadata.class_names),
        frame_shape=train.frames(0).shape[1:],
        precision=params.train.precision,
    )
    logger.info("%d parameters, %d training clips", model.count_params(), len(train))
    run = training_run(params=params.of_model(), dataset=params.data.videos)
    with run as run_id:
        with warned("evaluate will log the catalog"):
            log_catalog(run_id, CATALOG)
        if params.model.cnn.weights not in ("none", "imagenet"):
            tag_cnn_weights(run_id, Path(params.model.cnn.weights))
        result = fit(
            model,
            train,
            val,
            metadata.class_names,
            options,
            callbacks=[EpochMetrics(run_id)],
            features_folder=FEATURES,
        )
        calibration = calibrate(
            model, val, metadata.class_names, target_accuracy=params.evaluate.target_accuracy
        )
        save_classifier(model, MODEL)
        ClassifierMetadata(
            class_names=metadata.class_names,
            preprocessing=metadata.preprocessing,
            abstain_below=calibration.abstain_below,
        ).write(MODEL_METADATA)
        _write_result(result, calibration)
        tag_model(run_id, model_digest(MODEL, MODEL_METADATA))


def architecture(params: Params) -> Architecture:
    """Return the model that params.yaml asks for."""
    model = params.model
    return Architecture(
        cnn=Cnn(**model.cnn.model_dump()),
        frame_features=model.frame_features,
        temporal=Temporal(**model.temporal.model_dump()),
        dropout=model.dropout,
        l2=model.l2,
        motion=model.motion,
    )


def fit_options(params: Params, **changes: Any) -> FitOptions:
    """Return how params.yaml asks for the model to be fitted, with ``changes``."""
    train = params.train
    sections = {"augmentation", "fine_tuning"}
    options = {
        **train.model_dump(exclude={"threads", "precision", *sections}),
        "augmentation": Augmentation(**train.augmentation.model_dump()),
        "fine_tuning": FineTuning(**train.fine_tuning.model_dump()),
    }
    return FitOptions(**{**options, **changes})


def _write_result(result: FitResult, calibration: Calibration) -> None:
    write_csv(HISTORY, list(result.history[0]), result.history)
    best = result.history[result.best_epoch - 1]
    write_json(
        TRAINING,
        {
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
            "val_accuracy": best["val_accuracy"],
            "val_loss": best["val_loss"],
            "temperature": calibration.temperature,
        },
    )


if __name__ == "__main__":
    run_command(main)
