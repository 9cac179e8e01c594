"""Picture files are videos of one frame; folders of numbered pictures are videos."""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.common.records import VideoRecord
from pipeline.dataset.catalog import content_hashes
from pipeline.video.batch import decode_record
from pipeline.video.opening import VideoError
from pipeline.video.reading import FrameReader, Segment, read_frames
from pipeline.video.settings import DecodeSection
from tests.made_videos import code_picture, overwrite, read_code

DECODE = DecodeSection(fps=10, width=40, height=16, fit="stretch")
KEEP = DECODE.model_copy(update={"on_damage": "keep"})
SUFFIXES = (".bmp", ".jpg", ".png", ".tif", ".webp")


def encode(number: int = 19, suffix: str = ".png", **size: int) -> bytes:
    """Return a picture file that shows a number."""
    return cv2.imencode(suffix, code_picture(number, **size))[1].tobytes()


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve numbered pictures, which sort otherwise as text, and other files."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(1, 13):
        (folder / f"frames_{number}.png").write_bytes(encode(number))
    (folder / ".frames_13.png").write_bytes(b"hidden")
    (folder / "notes.txt").touch()
    return folder


def numbers(source, decode=DECODE, **options) -> list[int]:
    return [read_code(frame) for frame in FrameReader(source, decode, **options)]


def reason(source, decode=DECODE, **options) -> str:
    with pytest.raises(VideoError) as error:
        list(FrameReader(source, decode, **options))
    return error.value.reason


class TestPictureFile:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_it_is_a_video_of_one_frame(self, tmp_path, suffix):
        path = tmp_path / f"any{suffix}"
        path.write_bytes(encode(19, suffix))
        for source in (path, path.read_bytes()):
            reader = FrameReader(source, DECODE)
            (frame,) = reader
            assert (frame.shape, read_code(frame)) == ((16, 40, 3), 19)
        facts = reader.facts
        assert facts.codec == {".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:])
        assert (facts.container, facts.width, facts.height) == ("picture", 80, 32)
        assert (facts.source_fps, facts.source_seconds, facts.source_frames) == (None, None, 1)

    def test_colours_are_rgb_and_the_content_decides_not_the_name(self, tmp_path):
        red = Image.new("RGB", (32, 32), (250, 10, 20))
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
        path.write_bytes(saved(red, "PNG"))
        assert (read_frames(path, DECODE) == (250, 10, 20)).all()

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", [3, 6, 8])
    def test_the_orientation_in_exif_is_applied(self, kind, orientation):
        turns = {3: 2, 6: 1, 8: 3}[orientation]  # quarter turns that the camera was turned by
        exif = Image.Exif()
        exif[0x0112] = orientation
        lying = Image.fromarray(np.ascontiguousarray(np.rot90(code_picture(19), turns)))
        reader = FrameReader(saved(lying, kind, exif=exif), DECODE)
        assert [read_code(frame) for frame in reader] == [19]
        assert (reader.facts.upright_size, reader.facts.rotation) == ((80, 32), 0)

    @pytest.mark.parametrize(
        ("kind", "mode"),
        [
            ("PNG", "1"),
            ("PNG", "L"),
            ("PNG", "LA"),
            ("PNG", "P"),
            ("PNG", "RGBA"),
            ("BMP", "P"),
            ("JPEG", "L"),
            ("JPEG", "CMYK"),
            ("TIFF", "CMYK"),
            ("TIFF", "P"),
            ("WEBP", "RGBA"),
        ],
    )
    def test_grey_palette_cmyk_and_transparent_pictures(self, kind, mode):
        assert numbers(saved(Image.fromarray(code_picture(19)).convert(mode), kind)) == [19]

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_sixteen_bits_a_channel(self, suffix):
        deep = code_picture(19).astype(np.uint16) * 257
        assert numbers(cv2.imencode(suffix, deep)[1].tobytes()) == [19]

    def test_the_first_picture_of_a_multi_picture_jpeg(self):
        pictures = [Image.fromarray(code_picture(number)) for number in (19, 4)]
        content = saved(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
        assert numbers(content) == [19]

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
    def test_several_pictures_in_one_file_are_refused(self, kind):
        pictures = [Image.fromarray(code_picture(number)) for number in (19, 4)]
        content = saved(pictures[0], kind, save_all=True, append_images=pictures[1:])
        assert reason(content) == "several pictures in one file. Convert it to a video"

    def test_a_segment_begins_with_the_picture_or_is_empty(self):
        assert numbers(encode(), segment=Segment(0, 0.5)) == [19]
        assert "the last frame is at 0.00 s" in reason(encode(), segment=Segment(1))


class TestDamage:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("decode", [DECODE, KEEP])
    def test_a_picture_that_was_cut_short_is_refused(self, suffix, decode):
        noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
        content = cv2.imencode(suffix, noise)[1].tobytes()
        for share in (0.1, 0.5, 0.9, 0.99):
            text = reason(content[: int(share * len(content))], decode)
            assert text.startswith(("damaged (", "not a picture that can be opened"))

    @pytest.mark.parametrize("suffix", [".jpg", ".tif"])
    def test_damage_that_opencv_fills_in_is_noticed(self, suffix):
        noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
        content = cv2.imencode(suffix, noise)[1].tobytes()
        zeros = overwrite(content, len(content) // 2, bytes(60))
        assert cv2.imdecode(np.frombuffer(zeros, np.uint8), cv2.IMREAD_COLOR) is not None
        assert reason(zeros).startswith("damaged (")

    def test_a_jpeg_that_claims_more_pixels_than_it_has_data_for(self):
        content = encode(19, ".jpg")
        size = content.index(b"\xff\xc0") + 5
        assert reason(overwrite(content, size, b"\x10\0\x10\0")).startswith("damaged (")

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_an_intact_jpeg_of_one_colour_within_the_limit_of_pixels(self, mode, options):
        exact = DECODE.model_copy(update={"max_pixels": 1003 * 1001})
        picture = Image.new(mode, (1003, 1001))
        assert len(read_frames(saved(picture, "JPEG", **options), exact)) == 1

    @pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff text", b"BM text"])
    def test_another_file_with_the_name_of_a_picture(self, tmp_path, content):
        path = tmp_path / "a.jpg"
        path.write_bytes(content)
        assert reason(path).startswith(("the file is empty", "not a "))

    def test_paths_that_are_not_regular_files(self, tmp_path):
        os.mkfifo(tmp_path / "fifo.jpg")
        (tmp_path / "loop.jpg").symlink_to("loop.jpg")
        assert reason(tmp_path / "fifo.jpg") == "not a regular file"
        assert reason(tmp_path / "loop.jpg").startswith("cannot be read")
        assert reason(tmp_path / "none.jpg").startswith("cannot be read")


class TestBombs:
    """Small files that claim many pixels."""

    def test_the_limit_of_pixels(self):
        small = DECODE.model_copy(update={"max_pixels": 80 * 32 - 1})
        expected = "80 x 32 pixels are more than decode.max_pixels = 2559"
        assert [reason(encode(suffix=suffix), small) for suffix in SUFFIXES] == [expected] * 5

    @pytest.mark.parametrize("side", [9_000, 14_000])
    def test_a_png_is_refused_by_its_header(self, side, monkeypatch):
        monkeypatch.setattr(cv2, "imdecode", None)  # nothing is decoded
        picture = Image.new("1", (side, side))
        text = reason(saved(picture, "PNG"))
        assert "more" in text
        assert text.endswith("than decode.max_pixels = 35000000")

    def test_the_limit_of_pillow_is_named_below_a_larger_one_of_the_settings(self):
        large = DECODE.model_copy(update={"max_pixels": 250_000_000})
        text = reason(saved(Image.new("1", (14_000, 14_000)), "PNG"), large)
        assert text == "more pixels than Pillow's limit of 178956970"

    def test_a_file_with_more_bytes_than_its_picture_can_have_is_not_read(self, tmp_path):
        path = tmp_path / "a.bmp"
        path.write_bytes(encode(suffix=".bmp"))
        with path.open("r+b") as file:
            file.truncate(1 << 40)  # a sparse file
        assert "bytes are too many for a picture" in reason(path)


class TestFolder:
    def test_pictures_are_shown_by_number_at_the_rate_of_images(self, folder):
        reader = FrameReader(folder, DECODE)
        assert [read_code(frame) for frame in reader] == list(range(1, 13))
        facts = reader.facts
        assert (facts.container, facts.codec, facts.source_frames) == ("pictures", "png", 12)
        assert (facts.source_fps, facts.source_seconds, facts.is_variable_rate) == (10, 1.2, False)

    def test_frames_are_chosen_by_time(self, folder):
        slow = DECODE.model_copy(update={"fps": 4.0})
        assert numbers(folder, slow) == [1, 3, 6, 8, 11]
        faster = DECODE.model_copy(update={"image_fps": 20.0})
        assert numbers(folder, faster) == [1, 3, 5, 7, 9, 11]
        slower = DECODE.model_copy(update={"image_fps": 5.0})
        assert numbers(folder, slower, segment=Segment(0.4, 0.8)) == [3, 3, 4, 4]
        assert numbers(folder, segment=Segment(0.5)) == [6, 7, 8, 9, 10, 11, 12]

    def test_only_the_frames_that_are_needed_are_decoded(self, folder):
        (folder / "frames_3.png").write_bytes(b"damaged")
        assert numbers(folder, select=lambda count: [0, count - 1]) == [1, 12]

    def test_a_missing_number_is_damage(self, folder):
        for number in (8, 9):
            (folder / f"frames_{number}.png").unlink()
        expected = "damaged after 0.7 s (pictures 8 to 9 are missing)"
        assert reason(folder) == expected
        assert numbers(folder, segment=Segment(0, 0.6)) == [1, 2, 3, 4, 5, 6]
        reader = FrameReader(folder, KEEP)
        assert [read_code(frame) for frame in reader] == [1, 2, 3, 4, 5, 6, 7]
        assert (reader.facts.reason, reader.facts.source_seconds) == (expected, 0.7)

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (b"text", "not a picture that can be opened"),
            (encode(height=64), "80 x 64 pixels, earlier pictures 80 x 32"),
            (encode()[:-20], "damaged (the picture cannot be decoded)"),
        ],
    )
    def test_a_picture_that_is_damaged_or_of_another_size(self, folder, content, fault):
        (folder / "frames_5.png").write_bytes(content)
        assert reason(folder) == f"damaged after 0.4 s (frames_5.png: {fault})"
        reader = FrameReader(folder, KEEP)
        assert [read_code(frame) for frame in reader] == [1, 2, 3, 4]
        assert (reader.count, reader.facts.source_frames) == (4, 4)

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("other_1.png", "the names frames_1.png and other_1.png have different beginnings"),
            ("cover.png", "the name cover.png does not end with a number"),
            ("frames_01.png", "frames_01.png and frames_1.png have the same number"),
        ],
    )
    def test_names_that_are_not_one_series(self, folder, name, fault):
        (folder / name).write_bytes(encode())
        assert reason(folder) == f"not a folder of numbered pictures ({fault})"

    def test_an_empty_folder_and_a_fifo(self, folder, tmp_path):
        (tmp_path / "empty").mkdir()
        assert reason(tmp_path / "empty").endswith("(the folder has no picture)")
        (folder / "frames_2.png").unlink()
        os.mkfifo(folder / "frames_2.png")
        assert reason(folder) == "damaged after 0.1 s (frames_2.png: not a regular file)"

    def test_the_limit_of_seconds(self, folder):
        short = DECODE.model_copy(update={"max_seconds": 1.0})
        assert reason(folder, short) == "longer than decode.max_seconds = 1"
        assert len(numbers(folder, short, segment=Segment(0.4))) == 8


def test_a_folder_is_decoded_again_when_a_picture_or_the_rate_of_images_changes(folder, tmp_path):
    (tmp_path / "one.png").write_bytes(encode())
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "store").mkdir()

    def keys(decode: DecodeSection = DECODE) -> Iterator[tuple[str, str]]:
        names = ["clip", "copy", "one.png"]
        hashes = content_hashes(tmp_path, names)
        for name, sha256 in zip(names, hashes, strict=True):
            record = VideoRecord(name, "", sha256=sha256)
            facts = decode_record(record, folder=tmp_path / "store", videos=tmp_path, decode=decode)
            yield name, facts.key

    first = dict(keys())
    assert first["clip"] == first["copy"]
    (folder / "frames_5.png").write_bytes(encode(6))
    (folder / "notes.txt").write_text("no picture")
    second = dict(keys())
    assert [name for name in first if first[name] != second[name]] == ["clip"]
    third = dict(keys(DECODE.model_copy(update={"image_fps": 5.0})))
    assert [name for name in first if third[name] == second[name]] == ["one.png"]
