"""train: fit the model on the clips, weight its streams, and calibrate it."""

import logging
from pathlib import Path

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.preprocessing import Preprocessing
from pipeline.common import paths
from pipeline.common.command import run_command
from pipeline.common.files import write_csv, write_json
from pipeline.model.checkpoints import remove_checkpoint
from pipeline.model.fitting import calibrate, fit, make_deterministic
from pipeline.model.network import build_model
from pipeline.model.replicated_fitting import Training, fit_replicas
from pipeline.model.saving import ModelMetadata, model_digest, save_model
from pipeline.model.streams import stream_weights
from pipeline.params import load_params
from pipeline.tasks.task import task_class
from pipeline.tracking import results
from pipeline.tracking.epochs import EpochMetrics, TimeLeft
from pipeline.tracking.runs import tag_cnn_weights, tag_model, training_run, warned

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    make_deterministic(params.train.seed, params.train.threads)
    preprocessing = Preprocessing.read(paths.PREPROCESSING)
    train, val = ClipArrays(paths.CLIPS / "train"), ClipArrays(paths.CLIPS / "val")
    task = task_class(params.task.type).learn(train.video_targets(), params.task)
    task.check_mirror(params.train.augmentation.flip_swaps)
    side_inputs = train.learn_side_inputs()
    model = build_model(
        params.model,
        task,
        frame_shape=train.frames(0).shape[1:],
        precision=params.train.precision,
        side_inputs=side_inputs,
    )
    logger.info(
        "%s; %d parameters, %d training clips", task.summary(), model.count_params(), len(train)
    )
    with training_run(
        params=params.training_params(),
        dataset=params.data.videos,
        on_error=params.tracking.on_error,
    ) as run:
        if run.id:
            with warned("The register stage will log the catalog"):
                results.log_data(run.id, paths.CATALOG, name=results.CATALOG)
        if params.model.cnn.weights not in ("none", "imagenet"):
            tag_cnn_weights(run, Path(params.model.cnn.weights))
        callbacks = [EpochMetrics(run), TimeLeft(params.train.n_epochs(len(train)))]
        features = paths.FEATURES
        if params.compute.has_replicas:
            training = Training(
                params.model, params.train, task, side_inputs, paths.CLIPS, features
            )
            result = fit_replicas(model, training, params.compute, callbacks=callbacks)
        else:
            result = fit(
                model,
                task,
                train,
                val,
                params.train,
                callbacks=callbacks,
                features_folder=features,
            )
        # Not an output of the stage, so it stays if the calibration fails.
        save_model(model, paths.UNCALIBRATED)
        task = calibrate(model, task, val)
        save_model(model, paths.MODEL)
        ModelMetadata(task, preprocessing, side_inputs).write(paths.MODEL_METADATA)
        write_csv(paths.HISTORY, list(result.history[0]), result.history)
        kept = result.history[result.kept_epoch - 1]
        val_metric = f"val_{task.training_metric}"
        write_json(
            paths.TRAINING,
            {
                "kept_epoch": result.kept_epoch,
                "epochs": len(result.history),
                val_metric: kept[val_metric],
                "val_loss": kept["val_loss"],
                **{f"weight_{name}": value for name, value in stream_weights(model).items()},
                **task.calibration(model),
            },
        )
        tag_model(run, model_digest(paths.MODEL, paths.MODEL_METADATA))
        paths.UNCALIBRATED.unlink()
        # Of workers that failed before this training, which ran in one process.
        remove_checkpoint(paths.CHECKPOINT)


if __name__ == "__main__":
    run_command(main)
