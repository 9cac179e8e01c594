"""Bad input: one line that names culprit and remedy, no traceback, earlier outputs intact."""


def fails(workspace, *command: str) -> str:
    """Run a command that must fail; return its output after checking that nothing was lost."""
    before = workspace.snapshot()
    done = workspace.run(*command, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert workspace.snapshot() == before
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stdout
    return errors[0]


def test_a_bad_parameter_is_found_by_the_check_and_by_its_stage(workspace):
    workspace.set_params(train={"epochs": -1})
    message = "train.epochs: Input should be auto or a number greater than 0. Received: -1"
    assert message in fails(workspace, "vidpipe", "check")
    assert message in fails(workspace, "vidpipe", "repro")


def test_a_missing_folder(workspace):
    workspace.set_params(data={"videos": "nowhere"})
    assert "data.videos: no such folder. Received: nowhere" in fails(workspace, "vidpipe", "check")


def test_a_folder_without_a_video(workspace):
    empty = workspace.root / "empty"
    empty.mkdir()
    (empty / "notes.txt").touch()
    workspace.set_params(data={"videos": "empty", "labels": ""})
    assert "empty: no video found. Expected empty/<class>/<video>" in fails(
        workspace, "vidpipe", "repro"
    )


def test_a_row_whose_file_does_not_exist(workspace):
    (workspace.root / "labels.csv").write_text("video,label\nleft/no_such.mp4,left\n")
    assert "labels.csv, line 2: " in fails(workspace, "vidpipe", "repro")


def test_a_class_with_too_few_videos(workspace):
    source = (workspace.root / "videos/left/000.mp4").read_bytes()
    (workspace.root / "videos/spin").mkdir()
    workspace.add_video("spin", source + b"\0")
    assert "too few groups of videos of class 'spin' (1)" in fails(workspace, "vidpipe", "repro")


def test_broken_files_are_quarantined_with_a_reason(workspace):
    empty = workspace.add_video("left", b"")
    text = workspace.add_video("right", b"no frames here\n" * 50)
    done = workspace.run("dvc", "repro", "extract")
    assert "2 of 34 videos quarantined, see data/frames/index.csv" in done.stdout
    assert f"{empty}: the file is empty" in done.stdout
    assert f"{text}: not a video that can be opened" in done.stdout
    ledger = (workspace.root / "data/frames/index.csv").read_text()
    assert f"{empty},quarantined,the file is empty," in ledger


def test_too_many_broken_files_stop_the_run(workspace):
    for number in range(6):
        workspace.add_video("left", f"text {number}".encode())
    workspace.run("dvc", "repro", "catalog")
    before = workspace.snapshot()
    done = workspace.run("vidpipe", "repro", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert (
        "error: 6 of 38 videos cannot be used, more than decode.max_bad_fraction = 0.1 allows"
        in done.stdout
    )
    assert "left/016.mp4: not a video" in done.stdout
    assert before.items() <= workspace.snapshot().items()
