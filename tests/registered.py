"""A registered model of four versions without weights, and its champion."""

from pathlib import Path

from mlflow import MlflowClient

from pipeline.registry.champions import Record, champion_number, set_champion
from pipeline.registry.versions import existing_version
from pipeline.tracking.store import connect

NAME = "test-classifier"


def new_versions(folder: Path) -> MlflowClient:
    """Register four versions, none of which was ever champion, in place of earlier ones.

    Args:
        folder: stands for the files of each version.
    """
    client = connect()
    if client.search_registered_models(f"name = '{NAME}'"):
        client.delete_registered_model(NAME)
    client.create_registered_model(NAME)
    for number in range(1, 5):
        tags = {"git.commit": f"{number:040x}", "model.sha256": f"{number:064x}"}
        client.create_model_version(NAME, folder.as_uri(), tags=tags)
    return client


def make_champion(number: int) -> Record:
    """Promote a version, whoever is champion."""
    version = existing_version(NAME, number)
    assert version is not None
    return set_champion(
        NAME,
        version,
        expected=champion_number(NAME),
        action="promoted",
        reason=f"{number} is good",
    )
