"""Names of versions, the data that a version was trained on, and folders for an export."""

from pathlib import Path

import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.records import DecodeFacts, VideoRecord, write_catalog, write_decode_index
from pipeline.registry.evidence import Answer, contender
from pipeline.registry.versions import (
    existing_version,
    export_version,
    find_version,
    recorded_records,
    trained_on,
    version_file,
    version_number,
)
from pipeline.tasks.classification import Classification
from pipeline.tracking.results import CATALOG, DECODE_INDEX, log_data
from pipeline.tracking.runs import ensure_run
from tests.registered import NAME


@pytest.mark.parametrize(
    "text",
    [
        "2",
        "@champion",
        f"{NAME}@champion",
        f"{NAME}/2",
        f"models:/{NAME}/2",
        f"models:/{NAME}@champion",
    ],
)
def test_a_version_has_several_names(versions, text):
    versions.set_registered_model_alias(NAME, "champion", "2")
    version = find_version(text, name=NAME)
    assert (version.name, version.version) == (NAME, 2)
    assert version_number(text, name=NAME) == 2


@pytest.mark.parametrize(
    "text",
    [
        "7", "challenger", "@champion", "other@champion", "other/1", "models:/other", "runs:/1", "",
    ],
)  # fmt: skip
def test_an_unknown_version_is_an_error_with_accepted_names_and_existing_versions(versions, text):
    versions.set_registered_model_alias(NAME, "challenger", "4")
    with pytest.raises(PipelineError) as caught:
        find_version(text, name=NAME)
    message = (
        f"has no version {text!r}. Expected a version such as 3, @champion, {NAME}@champion, "
        f"{NAME}/3 or models:/{NAME}/3. {NAME} has the versions 4, 3, 2, 1; aliases: @challenger."
    )
    if text.endswith("@champion"):
        message += " Name one of these, or make one champion with: vidpipe promote"
    assert str(caught.value).endswith(message)


def test_without_any_version_the_remedy_is_to_register_one(versions):  # noqa: ARG001
    with pytest.raises(PipelineError, match=r"empty has no versions\. .* vidpipe repro"):
        find_version("3", name="empty")


def test_a_version_of_another_model_has_no_number_here(versions):
    versions.create_registered_model("other")
    versions.create_model_version("other", Path.cwd().as_uri())
    with pytest.raises(PipelineError, match=f"Expected a version of {NAME} .* Received: other/1"):
        version_number("other/1", name=NAME)
    versions.delete_registered_model("other")


def test_a_file_that_a_version_lacks_is_an_error(versions):  # noqa: ARG001
    with pytest.raises(PipelineError, match=f"{NAME} version 1 has no file model.keras"):
        version_file(existing_version(NAME, 1), "model.keras")


# Recorded data


def record(video: str, split: str, sha256: str, *, group: str = "") -> VideoRecord:
    return VideoRecord(video, "left", split, group or video, sha256=sha256)


RECORDS = [
    record("a.mp4", "train", "aaaa"),
    record("b.mp4", "val", "bbbb"),
    record("c.mp4", "test", "cccc"),
    record("fifo.mp4", "train", ""),
]


@pytest.fixture
def catalog(tmp_path) -> Path:
    write_catalog(tmp_path / "today.csv", RECORDS)
    return tmp_path / "today.csv"


@pytest.fixture
def version_of(versions, registry):
    """A function that creates a version of a new run, with these tables."""

    def version_of(model_sha256: str, **tables: Path):
        run_id = ensure_run(model_sha256, params={}, dataset="data", history=[])
        for name, path in tables.items():
            log_data(run_id, path, name={"catalog": CATALOG, "index": DECODE_INDEX}[name])
        return versions.create_model_version(NAME, registry.as_uri(), run_id=run_id)

    return version_of


def test_a_version_knows_the_videos_that_it_was_trained_on(version_of, catalog):
    version = version_of("one", catalog=catalog)
    assert trained_on(version).contents == {"aaaa", "bbbb"}


def test_test_videos_of_a_training_group_count_as_seen(version_of, catalog):
    """Groups of another name now: merged is the group of a.mp4, which was joined to another."""
    now = [
        record("a.mp4", "train", "aaaa", group="merged"),
        record("same content.mp4", "test", "bbbb", group="x"),
        record("other take of b.mp4", "test", "eeee", group="b.mp4"),
        record("other take of a.mp4", "test", "ffff", group="merged"),
        record("c.mp4", "test", "cccc"),
    ]
    judged = contender(
        version_of("of groups", catalog=catalog),
        [(one, Answer(error="not needed")) for one in now if one.split == "test"],
        catalog=now,
        task=Classification,
    )
    assert judged.seen == {"same content.mp4", "other take of b.mp4", "other take of a.mp4"}


def test_the_first_catalog_of_a_run_is_kept(version_of, catalog):
    version_of("two", catalog=catalog)
    write_catalog(catalog, [record("d.mp4", "train", "dddd")])
    assert trained_on(version_of("two", catalog=catalog)).contents == {"aaaa", "bbbb"}


def test_recorded_records_have_the_decode_facts(version_of, catalog, tmp_path):
    assert recorded_records(version_of("three", catalog=catalog)) == RECORDS
    facts = [
        VideoRecord(one.video, one.target, facts=DecodeFacts(key=one.video, frames=3))
        for one in RECORDS
    ]
    write_decode_index(tmp_path / "index.csv", facts)
    version = version_of("four", catalog=catalog, index=tmp_path / "index.csv")
    assert [one.facts.frames for one in recorded_records(version)] == [3] * 4


def test_data_that_was_not_recorded_is_unknown(version_of, versions, registry, tmp_path, caplog):
    version = version_of("five", catalog=tmp_path / "none.csv")
    assert f"{tmp_path}/none.csv: no such file" in caplog.text
    gone = versions.create_model_version(NAME, registry.as_uri(), run_id="0" * 32)
    for one in (version, gone, existing_version(NAME, 1)):
        assert trained_on(one) is None
        assert recorded_records(one) is None


# Folders for an export; test_register.py exports a model


def test_a_folder_with_other_content_is_not_replaced(versions, tmp_path):  # noqa: ARG001
    folder = tmp_path / "thesis"
    folder.mkdir()
    for name in ("model.json", "model.keras", "saved_model", "thesis.pdf"):
        (folder / name).touch()
    with pytest.raises(PipelineError) as caught:
        export_version(existing_version(NAME, 1), folder)
    assert str(caught.value) == (
        f"{folder}: expected a folder that is new, empty or an earlier export, which is replaced. "
        "Received: a folder with model.json, model.keras, saved_model, thesis.pdf"
    )
    assert (folder / "thesis.pdf").exists()


def test_a_file_is_not_replaced_by_a_folder(versions, tmp_path):  # noqa: ARG001
    (tmp_path / "exported").write_text("mine")
    with pytest.raises(PipelineError, match=r"an earlier export.* Received: a file$"):
        export_version(existing_version(NAME, 1), tmp_path / "exported")
    assert (tmp_path / "exported").read_text() == "mine"
