import copy
from pathlib import Path

import pytest
import yaml

from pipeline.base.errors import PipelineError
from pipeline.params import Params, load_params

COMMITTED = yaml.safe_load(Path("params.yaml").read_text())


@pytest.fixture
def write(tmp_path):
    """Write params.yaml with dotted keys changed; return its path."""

    def write(**changes: object) -> Path:
        content = copy.deepcopy(COMMITTED)
        for dotted, value in changes.items():
            *sections, key = dotted.split(".")
            section = content
            for name in sections:
                section = section[name]
            section[key] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_committed_params_are_valid():
    params = load_params(Path("params.yaml"))
    assert params.extract.frames == COMMITTED["extract"]["frames"]


def test_every_section_of_the_model_is_in_the_committed_file():
    names = {field.alias or name for name, field in Params.model_fields.items()}
    assert names == set(COMMITTED)


def test_a_number_that_pyyaml_reads_as_text_is_a_number(write):
    assert load_params(write(**{"train.learning_rate": "2e-3"})).train.learning_rate == 0.002


@pytest.mark.parametrize(
    ("dotted", "value", "message"),
    [
        (
            "model.cnn.trainable",
            0,
            "model.cnn.trainable: Input should be all, none or a number of layers greater than 0. "
            "Received: 0",
        ),
        (
            "model.temporal.units",
            [],
            "model.temporal.units: List should have at least 1 item after validation, not 0. "
            "Received: []",
        ),
        (
            "model.temporal.summary",
            "max",
            "model.temporal.summary: Input should be 'last', 'mean', 'attention' or 'conv1d'. "
            "Received: 'max'",
        ),
        ("train.epoch", 3, "train.epoch: unknown key (remove it or correct its spelling)"),
        ("trian", {}, "trian: unknown key (remove it or correct its spelling)"),
        (
            "train.epochs",
            0,
            "train.epochs: Input should be greater than 0. Received: 0",
        ),
        (
            "train.epochs",
            True,
            "train.epochs: Input should be a valid integer. Received: True",
        ),
        (
            "promote.metric",
            "recall",
            "promote.metric: Input should be 'accuracy', 'macro_f1' or 'log_loss'. "
            "Received: 'recall'",
        ),
        (
            "promote.class_floor",
            1.5,
            "promote.class_floor: Input should be less than or equal to 1. Received: 1.5",
        ),
        (
            "promote.min_groups",
            0,
            "promote.min_groups: Input should be greater than 0. Received: 0",
        ),
        (
            "promote.min_gain",
            float("nan"),
            "promote.min_gain: Input should be a finite number. Received: nan",
        ),
        (
            "decode.fps",
            float("inf"),
            "decode.fps: Input should be a finite number. Received: inf",
        ),
        (
            "train.seed",
            2**32,
            "train.seed: Input should be less than 4294967296. Received: 4294967296",
        ),
        (
            "decode.fit",
            "zoom",
            "decode.fit: Input should be 'crop', 'letterbox' or 'stretch'. Received: 'zoom'",
        ),
        (
            "train.augmentation.shift",
            1.5,
            "train.augmentation.shift: Input should be less than 1. Received: 1.5",
        ),
        (
            "train.augmentation.flip_swaps",
            [["left", "right"], ["left", "up"]],
            "train.augmentation.flip_swaps: Input should name every class once at most, with the "
            "one that it becomes. Received: [['left', 'right'], ['left', 'up']]",
        ),
        (
            "train.augmentation.flip_swaps",
            [["left", "left"]],
            "train.augmentation.flip_swaps: Input should name every class once at most, with the "
            "one that it becomes. Received: [['left', 'left']]",
        ),
        (
            "report.bins",
            201,
            "report.bins: Input should be less than or equal to 200. Received: 201",
        ),
        (
            "data.labels",
            "labels.csv",
            "data: labels must be the same path as videos when layout is folders, because the "
            "folder names are the labels; set it to data/demo/videos",
        ),
        (
            "catalog.val_share",
            0.9,
            "catalog: val_share + test_share must leave videos to train on (sum below 1)",
        ),
    ],
)
def test_an_error_names_the_key_the_rule_and_the_value(write, dotted, value, message):
    path = write(**{dotted: value})
    with pytest.raises(PipelineError) as error:
        load_params(path)
    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.temporal.recurrent": "convlstm2d", "model.frame_features": 0},
            "model.cnn.pooling: expected none, because model.temporal.recurrent is convlstm2d, "
            "which reads feature maps. Received: flatten",
        ),
        (
            {"model.temporal.recurrent": "convlstm2d", "model.cnn.pooling": "none"},
            "model.frame_features: expected 0, because convlstm2d reads feature maps, which no "
            "dense layer sums up. Received: 48",
        ),
        (
            {"model.cnn.pooling": "none"},
            "model.cnn.pooling: expected flatten or average, because only convlstm2d reads "
            "feature maps and model.temporal.recurrent is lstm. Received: none",
        ),
        (
            {"model.cnn.weights": "imagenet"},
            "model.cnn.weights: expected none or the path of a file, because small_cnn has no "
            "imagenet weights. Received: imagenet",
        ),
        (
            {"model.temporal.recurrent": "none"},
            "model.temporal.summary: expected mean, attention or conv1d, because with "
            "model.temporal.recurrent none the last frame knows nothing of the others. "
            "Received: last",
        ),
        (
            {
                "model.temporal.recurrent": "none",
                "model.temporal.summary": "mean",
                "model.temporal.bidirectional": True,
                "model.temporal.recurrent_dropout": 0.1,
            },
            "model.temporal.bidirectional: expected false, because model.temporal.recurrent is "
            "none. Received: true; model.temporal.recurrent_dropout: expected 0, because "
            "model.temporal.recurrent is none. Received: 0.1",
        ),
        (
            {"model.motion": "both", "model.cnn.backbone": "MobileNetV2"},
            "model.motion: expected none or difference, because model.cnn.backbone is "
            "MobileNetV2, which takes three channels. Received: both",
        ),
        (
            {"train.optimizer": "adam", "train.weight_decay": 0.01},
            "train.weight_decay: expected 0, because train.optimizer is adam; adamw decays "
            "weights. Received: 0.01",
        ),
        (
            {"train.schedule": "reduce_on_plateau", "train.warmup_epochs": 2},
            "train.warmup_epochs: expected 0, because train.schedule is reduce_on_plateau. "
            "Received: 2",
        ),
        (
            {"train.epochs": 3, "train.warmup_epochs": 3},
            "train.warmup_epochs: expected fewer than train.epochs, 3. Received: 3",
        ),
        (
            {
                "train.epochs": 9,
                "train.warmup_epochs": 3,
                "train.fine_tuning.head_epochs": 3,
            },
            "train.warmup_epochs: expected fewer than 3, because the rate rises in each phase, and "
            "with train.fine_tuning.head_epochs 3 of train.epochs 9 the shorter one has no more. "
            "Received: 3",
        ),
        (
            {
                "train.epochs": 9,
                "train.warmup_epochs": 3,
                "train.fine_tuning.head_epochs": 7,
            },
            "train.warmup_epochs: expected fewer than 2, because the rate rises in each phase, and "
            "with train.fine_tuning.head_epochs 7 of train.epochs 9 the shorter one has no more. "
            "Received: 3",
        ),
        (
            {"train.epochs": 3, "train.fine_tuning.head_epochs": 3},
            "train.fine_tuning.head_epochs: expected fewer than train.epochs, 3. Received: 3",
        ),
        (
            {"model.cnn.trainable": "none", "train.fine_tuning.head_epochs": 3},
            "train.fine_tuning.head_epochs: expected 0, because model.cnn.trainable is none, so "
            "there is nothing to unfreeze. Received: 3",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(write, changes, message):
    path = write(**changes)
    with pytest.raises(PipelineError) as error:
        load_params(path)
    assert str(error.value) == f"{path}: {message}"


def test_all_mistakes_are_reported_at_once(tmp_path):
    content = copy.deepcopy(COMMITTED)
    content["train"]["epochs"] = -1
    del content["decode"]["fps"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(PipelineError, match=r"decode\.fps: missing; train\.epochs: .* -1"):
        load_params(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"nowhere\.yaml: no such file\. Run the command from"):
        load_params(tmp_path / "nowhere.yaml")


def test_broken_yaml_is_one_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("data: [1,\ntrain: {")
    with pytest.raises(PipelineError, match=r"is not valid YAML") as error:
        load_params(path)
    assert "\n" not in str(error.value)
