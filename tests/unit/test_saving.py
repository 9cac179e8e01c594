"""Models on disk: the same bytes for the same weights, and the metadata beside them."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.settings import ExtractSection
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json, write_json
from pipeline.model.saving import (
    ModelMetadata,
    export_saved_model,
    load_model,
    model_digest,
    save_model,
)
from pipeline.video.settings import DecodeSection
from tests.architectures import TASK, build, built, inputs_of, outputs_of, tiny

METADATA = ModelMetadata(TASK, Preprocessing(DecodeSection(), ExtractSection()))


def test_the_same_weights_give_the_same_bytes_without_the_optimizer(tmp_path):
    plain, compiled = build(tiny()), build(tiny())
    compiled.compile("adam", "sparse_categorical_crossentropy")
    save_model(plain, tmp_path / "plain.keras")
    save_model(compiled, tmp_path / "compiled.keras")
    assert (tmp_path / "plain.keras").read_bytes() == (tmp_path / "compiled.keras").read_bytes()


def test_other_weights_or_other_metadata_give_another_digest(tmp_path):
    digests = set()
    for seed, threshold in ((0, 0.5), (1, 0.5), (0, 0.6)):
        save_model(build(tiny(), seed=seed), tmp_path / "model.keras")
        METADATA.write(tmp_path / "model.json")
        metadata = read_json(tmp_path / "model.json")
        metadata["task"]["abstain_below"] = threshold
        write_json(tmp_path / "model.json", metadata)
        digests.add(model_digest(tmp_path / "model.keras", tmp_path / "model.json"))
    assert len(digests) == 3


@pytest.mark.parametrize("content", [None, "text"])
def test_a_file_that_is_not_a_model_is_named(tmp_path, content):
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PipelineError, match=r"model\.keras: not a Keras model\. .*Received: "):
        load_model(path)


def test_metadata_come_back_from_disk(tmp_path):
    METADATA.write(tmp_path / "model.json")
    assert ModelMetadata.read(tmp_path / "model.json") == METADATA
    content = read_json(tmp_path / "model.json")
    assert content.keys() == {"task", "preprocessing", "side_inputs"}
    assert content["task"]["type"] == "classification"


def test_missing_metadata_are_named(tmp_path):
    with pytest.raises(PipelineError, match=r"model\.json: no such file\. .*dvc repro train"):
        ModelMetadata.read(tmp_path / "model.json")


def test_metadata_of_other_frames_are_refused(tmp_path):
    METADATA.write(tmp_path / "model.json")
    content = read_json(tmp_path / "model.json")
    content["preprocessing"]["frames_version"] = 0
    write_json(tmp_path / "model.json", content)
    with pytest.raises(PipelineError, match="frames of version 0"):
        ModelMetadata.read(tmp_path / "model.json")


def test_an_exported_model_runs_without_keras(tmp_path):
    inputs = inputs_of(tiny())
    export_saved_model(built("mean"), tmp_path / "exported")
    exported = tf.saved_model.load(tmp_path / "exported")
    tensors = {name: tf.constant(array) for name, array in inputs.items()}
    outputs = exported.signatures["serving_default"](**tensors)["output_0"]
    np.testing.assert_allclose(outputs, outputs_of(built("mean"), inputs), atol=1e-6)
