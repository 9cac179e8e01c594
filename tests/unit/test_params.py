import copy
from pathlib import Path

import pytest
import yaml

from pipeline.common.errors import PipelineError
from pipeline.params import load_params, parse_params

DEFAULTS = parse_params({"data": {"videos": "videos"}}).model_dump(by_alias=True)


@pytest.fixture
def write(tmp_path):
    """Write params.yaml with dotted keys changed; return its path."""

    def write(**changes: object) -> Path:
        content = copy.deepcopy(DEFAULTS)
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


def dotted_keys(content, prefix=""):
    """Keys of all values that are not sections."""
    return {
        key
        for name, value in content.items()
        for key in (
            dotted_keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
        )
    }


def test_the_committed_file_has_every_key():
    params = load_params(Path("params.yaml"))
    committed = yaml.safe_load(Path("params.yaml").read_text())
    assert dotted_keys(committed) == dotted_keys(params.model_dump(by_alias=True))


def test_training_params_are_those_that_decide_the_model():
    params = load_params(Path("params.yaml")).training_params()
    assert set(params) == {"data", "catalog", "decode", "extract", "task", "model", "train"}


def test_a_number_that_pyyaml_reads_as_text_is_a_number(write):
    assert load_params(write(**{"train.learning_rate": "2e-3"})).train.learning_rate == 0.002


def test_the_decoder_gets_the_rate_of_images(write):
    params = load_params(write(**{"data.image_fps": 24}))
    assert params.decode.image_fps == 24
    assert "image_fps" not in params.training_params()["decode"]


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
        ("train.epoch", 3, "train.epoch: unknown key. Did you mean train.epochs?"),
        (
            "model.cnn.poling",
            "flatten",
            "model.cnn.poling: unknown key. Did you mean model.cnn.pooling?",
        ),
        ("task.zzz", 1, "task.zzz: unknown key. Remove it or correct its spelling"),
        (
            "model.motion",
            "both",
            "model.motion: unknown key. Set model.streams instead: [frames] for none, "
            "[differences] for difference, [frames, differences] for both",
        ),
        ("decode.image_fps", 5, "decode.image_fps: unknown key. Set data.image_fps instead"),
        ("data.image_fps", 0, "data.image_fps: Input should be greater than 0. Received: 0"),
        (
            "data.side_inputs",
            {"age": "text"},
            "data.side_inputs.age: Input should be 'number' or 'category'. Received: 'text'",
        ),
        (
            "data.side_inputs",
            {"group": "category"},
            "data.side_inputs: Names of columns should have letters, digits, spaces, - and _, and "
            "differ from video, path, split, group, start_seconds, end_seconds, fold_1, fold_2, "
            "... Received: 'group'. Rename the column in the labels table",
        ),
        ("TRAIN", {}, "TRAIN: unknown key. Did you mean train?"),
        ("trian", {}, "trian: unknown key. Did you mean train?"),
        ("train.batch_size", 0, "train.batch_size: Input should be greater than 0. Received: 0"),
        (
            "train.epochs",
            0,
            "train.epochs: Input should be auto or a number greater than 0. Received: 0",
        ),
        (
            "train.batch_size",
            True,
            "train.batch_size: Input should be a valid integer. Received: True",
        ),
        (
            "task.type",
            "counting",
            "task.type: Input should be one of caption, classification, frames, multilabel, "
            "regression. Received: 'counting'",
        ),
        (
            "promote.limits",
            {"class_recall": -1},
            "promote.limits.class_recall: Input should be greater than or equal to 0. Received: -1",
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
            "train.augmentation.flip_swaps: Input should name every class at most once. "
            "Received: [['left', 'right'], ['left', 'up']]",
        ),
        (
            "train.augmentation.flip_swaps",
            [["left", "left"]],
            "train.augmentation.flip_swaps: Input should name every class at most once. "
            "Received: [['left', 'left']]",
        ),
        (
            "catalog.val_share",
            0.9,
            "catalog: val_share + test_share must be below 1, to leave training videos",
        ),
    ],
)
def test_an_error_names_the_key_the_rule_and_the_value(write, dotted, value, message):
    path = write(**{dotted: value})
    with pytest.raises(PipelineError) as error:
        load_params(path)
    assert str(error.value).replace("brightness, ", "") == f"{path}: {message}"  # of other tests


def test_a_long_value_is_cut(write):
    with pytest.raises(PipelineError) as error:
        load_params(write(**{"train.batch_size": "x" * 1000}))
    assert "train.batch_size: Input should be a valid integer. Received: 'xxx" in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        (
            {"model.temporal.recurrent": "convlstm2d", "model.frame_features": 0},
            [
                "model.cnn.pooling: expected none, because model.temporal.recurrent is convlstm2d, "
                "which reads feature maps. Received: average"
            ],
        ),
        (
            {"model.temporal.recurrent": "convlstm2d", "model.cnn.pooling": "none"},
            [
                "model.frame_features: expected 0, because convlstm2d reads feature maps, not "
                "feature vectors. Received: 48"
            ],
        ),
        (
            {"model.cnn.pooling": "none"},
            [
                "model.cnn.pooling: expected flatten or average, because only convlstm2d reads "
                "feature maps and model.temporal.recurrent is lstm. Received: none"
            ],
        ),
        (
            {"model.cnn.weights": "imagenet"},
            [
                "model.cnn.weights: expected none or the path of a file, because small_cnn has no "
                "imagenet weights. Received: imagenet"
            ],
        ),
        (
            {"model.temporal.recurrent": "none", "model.temporal.bidirectional": True},
            [
                "model.temporal.summary: expected mean, attention or conv1d, because without a "
                "recurrent layer the last frame carries nothing of the others. Received: last",
                "model.temporal.bidirectional: expected false, because model.temporal.recurrent "
                "is none. Received: true",
            ],
        ),
        *(
            (
                {"model.streams": streams, "extract.frames": 1},
                [
                    "extract.frames: expected 2 or more, because model.streams has differences and "
                    "one frame has no difference. Received: 1. Raise it, or set model.streams to "
                    "[frames]"
                ],
            )
            for streams in (["differences"], ["frames", "differences"])
        ),
        (
            {"train.schedule": "reduce_on_plateau", "train.warmup_epochs": 2},
            [
                "train.warmup_epochs: expected 0, because train.schedule is reduce_on_plateau. "
                "Received: 2",
                "train.patience: expected 2 or more, because train.schedule is reduce_on_plateau, "
                "which waits for half of it. Received: 0",
            ],
        ),
        (
            {"train.warmup_epochs": 24},
            [
                "train.warmup_epochs: expected fewer than train.epochs, 24, the fewest that auto "
                "can be. Received: 24"
            ],
        ),
        (
            {"train.epochs": 3, "train.warmup_epochs": 3},
            ["train.warmup_epochs: expected fewer than train.epochs, 3. Received: 3"],
        ),
        (
            {"train.epochs": 9, "train.warmup_epochs": 3, "train.fine_tuning.head_epochs": 3},
            [
                "train.warmup_epochs: expected fewer than 3, the epochs of the shorter phase "
                "(train.fine_tuning.head_epochs is 3 of 9), because the learning rate rises in "
                "each phase. Received: 3"
            ],
        ),
        (
            {"train.epochs": 9, "train.warmup_epochs": 3, "train.fine_tuning.head_epochs": 7},
            [
                "train.warmup_epochs: expected fewer than 2, the epochs of the shorter phase "
                "(train.fine_tuning.head_epochs is 7 of 9), because the learning rate rises in "
                "each phase. Received: 3"
            ],
        ),
        (
            {"train.epochs": 3, "train.fine_tuning.head_epochs": 3},
            ["train.fine_tuning.head_epochs: expected fewer than train.epochs, 3. Received: 3"],
        ),
        (
            {"model.cnn.trainable": "none", "train.fine_tuning.head_epochs": 3},
            [
                "train.fine_tuning.head_epochs: expected 0, because model.cnn.trainable is none "
                "and nothing is unfrozen. Received: 3"
            ],
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(write, changes, messages):
    path = write(**changes)
    with pytest.raises(PipelineError) as error:
        load_params(path)
    assert str(error.value) == f"{path}: {'; '.join(messages)}"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a trained model, a file of weights, and links to both."""
    monkeypatch.chdir(tmp_path)
    for name in ("models/model.keras", "data/weights/cnn.h5", "elsewhere.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data/weights/link.keras").symlink_to("../../models/model.keras")
    (tmp_path / "data/weights/linked").symlink_to("../../models")
    (tmp_path / "data/weights/loop").symlink_to("loop")
    (tmp_path / "data/weights/inner.h5").symlink_to("cnn.h5")
    return tmp_path


@pytest.mark.parametrize(
    "weights",
    [
        "models/model.keras",
        "./data/../models/model.keras",
        "{project}/models/model.keras",
        "data/weights/../../models/model.keras",
        "data/weights/link.keras",
        "data/weights/linked/model.keras",
        "data/weights/loop",
        "elsewhere.h5",
    ],
)
def test_weights_that_a_training_deletes_or_dvc_does_not_watch_are_refused(write, project, weights):
    received = weights.format(project=project)
    with pytest.raises(PipelineError) as error:
        load_params(write(**{"model.cnn.weights": received}))
    for part in ("model.cnn.weights: expected", f"Received: {received}. Copy", "dvc add"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "weights",
    ["none", "data/weights/cnn.h5", "{project}/data/weights/cnn.h5", "data/weights/inner.h5"],
)
def test_weights_in_their_folder_are_accepted(write, project, weights):
    weights = weights.format(project=project)
    assert load_params(write(**{"model.cnn.weights": weights})).model.cnn.weights == weights


def test_all_mistakes_are_reported_at_once(tmp_path):
    content = copy.deepcopy(DEFAULTS)
    content["train"]["epochs"] = -1
    del content["data"]["videos"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(PipelineError, match=r"data\.videos: missing.*; train\.epochs: .* -1"):
        load_params(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"nowhere\.yaml: no such file in .*Run the command"):
        load_params(tmp_path / "nowhere.yaml")


def test_broken_yaml_is_one_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("data: [1,\ntrain: {")
    with pytest.raises(PipelineError, match=r"yaml, line 2, column 9: not valid YAML: ") as error:
        load_params(path)
    assert "\n" not in str(error.value)
    path.write_bytes("data: {videos: Vidéos}".encode("latin-1"))
    with pytest.raises(PipelineError, match=r"yaml: expected text in UTF-8\..* Save the file as"):
        load_params(path)
    path.write_text("")
    with pytest.raises(PipelineError, match=r"expected sections such as data: and train:"):
        load_params(path)
