import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.common.errors import PipelineError
from pipeline.common.files import (
    create_array,
    output_file,
    read_csv,
    read_json,
    remove_in_progress,
    replacing_file,
    replacing_folder,
    sha256_of_json,
    write_csv,
    write_json,
)


def test_a_file_is_replaced_only_when_complete(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with replacing_file(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(RuntimeError), replacing_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_only_when_complete(tmp_path):
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with replacing_folder(path) as temporary:
            (temporary / name).touch()
    with pytest.raises(RuntimeError), replacing_folder(path) as temporary:
        (temporary / "half").touch()
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_array_is_created_with_its_space(tmp_path):
    path = tmp_path / "a.npy"
    array = create_array(path, np.int16, (3, 70_000))
    array[1] = 7
    array.flush()
    assert path.stat().st_blocks * 512 >= array.nbytes
    assert np.load(path)[:, 0].tolist() == [0, 7, 0]


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_a_full_disk_is_named_and_leaves_nothing(small_disk, replacing):
    path = small_disk / "output"
    with pytest.raises(PipelineError) as error, replacing(path) as temporary:
        array = temporary / "a.npy" if temporary.is_dir() else temporary
        create_array(array, np.uint8, (2_000_000,))
    message = str(error.value)
    assert message.startswith(f"{path}: cannot be written (No space left on device). ")
    assert f"bytes are free in {small_disk}. Make room there" in message
    assert list(small_disk.iterdir()) == []


def test_a_device_without_space_is_named():
    full = pytest.raises(PipelineError, match=r"^/dev/full: cannot be written \(No space left")
    with full, replacing_file(Path("/dev/full")) as path:
        path.write_text("content")


def test_a_limit_of_the_size_of_files_is_named(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        too_large = pytest.raises(PipelineError, match=r"output: cannot be written \(File too la")
        with too_large, replacing_file(tmp_path / "output") as temporary:
            create_array(temporary, np.uint8, (200_000,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    (tmp_path / "sub" / ".in-progress-1").mkdir(parents=True)
    (tmp_path / ".in-progress-2").touch()
    (tmp_path / "kept").touch()
    remove_in_progress(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "sub"]


def test_a_cell_of_a_megabyte_reads_back_from_csv(tmp_path):
    write_csv(tmp_path / "long.csv", ["target"], [{"target": "0 to 1 walk|" * 100_000}])
    assert len(read_csv(tmp_path / "long.csv")[0]["target"]) == 1_200_000


def test_json_and_csv_are_byte_stable_and_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.5]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    0.5\n  ],\n  "b": 1\n}\n'
    assert read_json(tmp_path / "a.json") == {"a": [0.5], "b": 1}
    write_csv(tmp_path / "a.csv", ("x", "y"), [{"x": 1, "y": None}, {"x": "a,b", "y": "é"}])
    assert (tmp_path / "a.csv").read_bytes() == 'x,y\n1,\n"a,b",é\n'.encode()
    assert read_csv(tmp_path / "a.csv") == [{"x": "1", "y": ""}, {"x": "a,b", "y": "é"}]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2))
@example(["a\rb", "\r\n"])
@example(["", "\n"])
def test_every_text_reads_back_from_csv(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    write_csv(path, ("x", "y"), [dict(zip("xy", cells, strict=True)), {"x": "last", "y": "row"}])
    first, last = read_csv(path)
    assert list(first.values()) == cells
    assert last == {"x": "last", "y": "row"}


def test_the_hash_of_a_value_does_not_depend_on_the_order_of_keys():
    assert sha256_of_json({"a": 1, "b": 2}) == sha256_of_json({"b": 2, "a": 1})
    assert sha256_of_json({"a": 1}) != sha256_of_json({"a": 2})


def test_a_device_or_a_pipe_is_written_and_not_replaced(tmp_path):
    device, pipe = tmp_path / "null", tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    with replacing_file(output_file(pipe)) as temporary:
        temporary.write_text("through the pipe")
    reader.join()
    assert received == ["through the pipe"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    device.symlink_to("/dev/null")
    with replacing_file(output_file(device)) as temporary:
        temporary.write_text("nothing")
    assert Path("/dev/null").is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["null", "pipe"]


APPEND_TO_STDOUT = """
import sys
from pathlib import Path
from pipeline.common.files import output_file, replacing_file
print("printed before")
with replacing_file(output_file(Path(sys.argv[1]))) as temporary:
    temporary.write_text("output\\n")
print("printed after")
"""


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("mode", ["a", "w"])
def test_an_output_to_a_redirected_stdout_keeps_what_the_file_has(tmp_path, name, mode):
    log = tmp_path / "log.csv"
    log.write_text("earlier\n")
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = [sys.executable, "-c", APPEND_TO_STDOUT, str(tmp_path / name)]
    with log.open(mode) as stdout:
        subprocess.run(code, stdout=stdout, check=True)
    earlier = ["earlier"] if mode == "a" else []
    assert log.read_text().split("\n") == [
        *earlier, "printed before", "output", "printed after", "",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "log.csv"]


def test_an_output_through_a_link_without_target_creates_the_target(tmp_path):
    link, target = tmp_path / "link", tmp_path / "new" / "target"
    link.symlink_to("new/target")
    with replacing_file(output_file(link)) as temporary:
        temporary.write_text("content")
    assert link.is_symlink()
    assert target.read_text() == "content"


def test_an_output_whose_name_has_the_greatest_length_is_written(tmp_path):
    name = "é" * 125 + ".json"  # 255 bytes
    with replacing_file(output_file(tmp_path / name)) as temporary:
        temporary.write_text("{}")
    with replacing_folder(tmp_path / "folder" / name):
        pass
    assert (tmp_path / name).read_text() == "{}"
    assert (tmp_path / "folder" / name).is_dir()


def test_a_folder_that_a_killed_run_left_is_removed_by_the_next_run(tmp_path):
    with replacing_folder(tmp_path / "a[1]") as temporary:
        leftover = temporary.name
    (tmp_path / leftover).mkdir()
    with replacing_folder(tmp_path / "a[1]"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a[1]"]


def test_an_output_may_be_new_in_new_folders_or_replace_a_file_or_the_target_of_a_link(tmp_path):
    old, link, new = tmp_path / "old", tmp_path / "link", tmp_path / "a/b/new"
    old.touch()
    link.symlink_to("old")
    assert [output_file(path) for path in (old, link, new)] == [old, old, new]
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", r"folder: expected a file\. Received: a folder"),
        ("link to folder", r"link to folder: expected a file\. Received: a folder"),
        ("file/below", r"below: cannot be created.*file is not a folder"),
        ("loop", r"loop: cannot be created.*links to itself.* Name another"),
        ("dangling/below", r"below: cannot be created.*dangling is not a folder"),
        ("é" * 125 + "a.json", r"a\.json: cannot be created.*256 bytes.* at most 255"),
        ("new/" + "a" * 256, r"a: cannot be created.*256 bytes.* at most 255"),
        ("socket", r"socket: expected a file\. Received: a socket"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link to folder").symlink_to("folder")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(PipelineError, match=message):
            output_file(tmp_path / name)


def test_an_output_in_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(PipelineError, match=r"out\.csv: cannot be created.* Name another"):
        output_file(tmp_path / "new/out.csv")
