from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.base.paths import CATALOG, CROSSVAL
from pipeline.catalog.records import CatalogEntry, write_catalog
from pipeline.evaluation.predictions import Predictions
from pipeline.stages import auditing
from pipeline.stages.auditing import audit_champion, cross_validated


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = {"a.mp4": "train", "b.mp4": "test", "c.mp4": "test"}
    write_catalog(
        CATALOG,
        [
            CatalogEntry(video, "cat", split, video, None, None, f"hash of {video}")
            for video, split in splits.items()
        ],
    )


@pytest.fixture
def champion(monkeypatch):
    def be(version, seen):
        monkeypatch.setattr(auditing, "version_with", lambda *_: version)
        monkeypatch.setattr(auditing, "trained_on", lambda *_: seen)

    return be


VERSION = SimpleNamespace(version="3")


def test_test_videos_that_the_champion_was_trained_on_are_named(champion):
    champion(VERSION, frozenset({"hash of a.mp4", "hash of c.mp4"}))
    (audit,) = audit_champion("classifier")
    assert (audit.value, audit.ok) == (1, False)
    assert audit.details == {"version": 3, "videos": ["c.mp4"]}


@pytest.mark.parametrize(("version", "seen"), [(None, None), (VERSION, None)])
def test_without_a_champion_or_its_catalog_there_is_nothing_to_say(champion, version, seen):
    champion(version, seen)
    assert audit_champion("classifier") == []


def test_a_registry_that_does_not_answer_costs_no_evaluation(monkeypatch, caplog):
    def fail(*_):
        raise PipelineError("no connection")

    monkeypatch.setattr(auditing, "version_with", fail)
    assert audit_champion("classifier") == []
    assert "It is not known whether the champion was trained on test videos" in caplog.text


def crossvalidated(names=("a", "b"), labels=(0, 1)):
    """Write what a cross-validation of videos ``names`` would."""
    Predictions(
        videos=names,
        groups=("",) * len(names),
        labels=np.array(labels),
        probabilities=np.full((len(names), 2), 0.5),
        class_names=("cat", "dog"),
    ).write_csv(CROSSVAL / "predictions.csv")


@pytest.mark.parametrize(
    ("names", "labels", "class_names", "is_used"),
    [
        (("a", "b"), (0, 1), ("cat", "dog"), True),
        (("a", "c"), (0, 1), ("cat", "dog"), False),  # another video
        (("a",), (0,), ("cat", "dog"), False),  # fewer
        (("a", "b"), (1, 1), ("cat", "dog"), False),  # another label
        (("a", "b"), (0, 1), ("cat", "cow", "dog"), False),  # another class
    ],
)
def test_a_cross_validation_is_used_if_it_was_of_these_clips(names, labels, class_names, is_used):
    crossvalidated(names, labels)
    clips = SimpleNamespace(names=["b", "a"], labels=["dog", "cat"])
    assert (cross_validated(clips, class_names) is not None) is is_used


def test_without_a_cross_validation_there_is_none():
    clips = SimpleNamespace(names=["b", "a"], labels=["dog", "cat"])
    assert cross_validated(clips, ("cat", "dog")) is None
