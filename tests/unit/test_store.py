"""The frame store: what is written is read, bit for bit, or is recognised as damaged."""

import tracemalloc

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.records import DecodeFacts
from pipeline.video import store
from pipeline.video.settings import DecodeSection
from pipeline.video.store import (
    frames_key,
    load_frames,
    read_frame_settings,
    read_stored,
    stored_path,
    write_frame_settings,
    write_frames,
    write_quarantined,
)

DECODE = DecodeSection(width=16, height=12)
FACTS = DecodeFacts(key="", codec="h264", source_fps=25.0, is_variable_rate=False, rotation=90)


def noise(n_frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n_frames, 12, 16, 3), dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    return stored_path(tmp_path, "a" * 32)


def write(path, frames, facts=FACTS) -> DecodeFacts:
    return write_frames(path, iter(frames), lambda: facts, key="a" * 32)


@pytest.mark.parametrize("n_frames", [1, 32, 33, 100])
def test_frames_come_back_bit_for_bit(path, n_frames):
    write(path, noise(n_frames))
    np.testing.assert_array_equal(load_frames(path, DECODE, range(n_frames)), noise(n_frames))


def test_facts_come_back_with_key_number_of_frames_and_brightness(path):
    frames = noise(40)
    facts = write(path, frames)
    assert (facts.key, facts.frames, facts.codec) == ("a" * 32, 40, "h264")
    assert facts.brightness == round(frames.mean() / 255, 4)
    assert read_stored(path) == facts


@pytest.mark.parametrize(("level", "brightness"), [(0, 0.0), (51, 0.2), (255, 1.0)])
def test_brightness_is_0_for_black_and_1_for_white(path, level, brightness):
    facts = write(path, np.full((33, 12, 16, 3), level, np.uint8))
    assert facts.brightness == brightness


def test_a_quarantined_video_keeps_its_reason(path):
    facts = DecodeFacts(key="a" * 32, reason="the file is empty")
    write_quarantined(path, facts)
    assert read_stored(path) == facts
    assert facts.status == "quarantined"


def test_some_frames_come_back_in_the_order_of_their_indices(path):
    frames = noise(100)
    write(path, frames)
    for indices in ([0], [99], [40, 3, 41, 3], [], range(100)):
        np.testing.assert_array_equal(load_frames(path, DECODE, indices), frames[list(indices)])


def test_an_index_that_the_video_does_not_have_is_refused(path):
    write(path, noise(40))
    for index in (40, 64, -1):
        with pytest.raises(PipelineError, match=r"frames\.zip: .* cannot be read"):
            load_frames(path, DECODE, [0, index])


def test_memory_holds_the_frames_once(path):
    decode = DecodeSection(width=128, height=128)
    n_frames, frame, block = 320, 128 * 128 * 3, 32 * 128 * 128 * 3
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(n_frames))
    assert peak_bytes(lambda: write(path, frames)) < 3 * block
    assert (
        peak_bytes(lambda: load_frames(path, decode, range(n_frames)))
        < n_frames * frame + 3 * block
    )
    assert peak_bytes(lambda: load_frames(path, decode, range(20, 320, 40))) < 3 * block


def peak_bytes(work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_same_frames_give_the_same_bytes(path, tmp_path):
    write(path, noise(40))
    write(tmp_path / "again", noise(40))
    assert path.read_bytes() == (tmp_path / "again").read_bytes()


@pytest.mark.parametrize("position", [0.0, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_one_changed_bit_is_noticed(path, position):
    write(path, noise(40))
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 0x10
    path.write_bytes(content)
    assert read_stored(path) is None


def test_a_file_under_another_name_is_noticed(path, tmp_path):
    write(path, noise(1))
    assert read_stored(path.rename(stored_path(tmp_path, "b" * 32))) is None


def test_facts_of_another_version_count_as_missing(path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(store, "FACTS_VERSION", store.FACTS_VERSION - 1)
        write(path, noise(1))
        assert read_stored(path) is not None
    assert read_stored(path) is None


def test_no_file_is_written_when_decoding_fails(path):
    def frames():
        yield noise(1)[0]
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        write(path, frames())
    assert not list(path.parent.iterdir())


def test_the_key_depends_on_content_segment_and_frame_settings_only():
    other_settings = {"fps": 5.0, "width": 32, "height": 32, "fit": "stretch"}
    limits = {"on_damage": "keep", "max_seconds": 10.0, "max_pixels": 10_000}
    keys = {
        frames_key("content", None, None, DECODE),
        frames_key("other content", None, None, DECODE),
        frames_key("content", 0.0, None, DECODE),
        frames_key("content", 0.0, 1.0, DECODE),
        *(
            frames_key("content", None, None, DECODE.model_copy(update={key: value}))
            for key, value in {**other_settings, **limits}.items()
        ),
    }
    assert len(keys) == 4 + 7
    of_the_run = DECODE.model_copy(update={"timeout_seconds": 1.0, "max_bad_fraction": 0.5})
    assert frames_key("content", None, None, of_the_run) in keys


def test_settings_of_the_frames_come_back(tmp_path):
    decode = DecodeSection(fps=2.5, width=8, height=6, fit="letterbox", on_damage="keep")
    write_frame_settings(tmp_path, decode.model_copy(update={"timeout_seconds": 1.0}))
    assert read_frame_settings(tmp_path) == decode
    content = (tmp_path / "settings.json").read_bytes()
    write_frame_settings(tmp_path, decode)
    assert (tmp_path / "settings.json").read_bytes() == content  # timeouts change no frame


def test_a_missing_file_names_the_command_to_run(tmp_path):
    with pytest.raises(PipelineError, match=r"no\.frames\.zip: .* cannot be read .* dvc repro"):
        load_frames(tmp_path / "no.frames.zip", DECODE, [0])
    with pytest.raises(PipelineError, match=r"settings\.json: no such file.* dvc repro decode"):
        read_frame_settings(tmp_path)
