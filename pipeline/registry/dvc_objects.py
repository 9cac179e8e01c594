"""Read DVC objects by digest, from the cache of this repository or from its default remote.

DVC reads outputs of a revision. The data of a registered version may never have been committed,
and then only its digest leads to its files.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.errors import AuthError, ConfigError, RemoteMissingDepsError

from pipeline.common.errors import PipelineError, first_line

_FAILURES = (AuthError, ConfigError, DvcException, OSError)


@dataclass(frozen=True, order=True)
class DataFile:
    """A file of an output: its path relative to the output, or its name, and its MD5."""

    path: str
    md5: str


class DvcObjects:
    """Reads objects by digest, without touching the working tree.

    Attributes:
        places: pairs of a name for messages and a function that opens the place.
        failures: why places could not be read.
    """

    def __init__(self, places: Sequence[tuple[str, Callable[[], HashFileDB]]]) -> None:
        self.places = places
        self.failures: list[str] = []

    def files(self, digest: str, path: Path) -> list[DataFile] | None:
        """Return the files of an output, by path; None when their list is unavailable.

        Args:
            digest: as in dvc.lock; ends with ``.dir`` for a folder.
            path: of the output.
        """
        if not digest.endswith(".dir"):
            return [DataFile(path.name, digest)]
        content = self.content(digest)
        if content is None:
            return None
        return sorted(DataFile(entry["relpath"], entry["md5"]) for entry in json.loads(content))

    def content(self, digest: str) -> bytes | None:
        """Return the bytes of an object; None when no place has it."""
        for name, open_place in self.places:
            try:
                database = open_place()
                path = database.oid_to_path(digest)
                if database.fs.exists(path):
                    return bytes(database.fs.cat_file(path))
            except RemoteMissingDepsError as error:
                reason = f"{error.url}: the package dvc-{error.protocol} is not installed"
            except _FAILURES as error:
                reason = first_line(error).split(" in <Repo")[0].rstrip(".")
            else:
                continue
            if (failure := f"{name}: {reason}") not in self.failures:
                self.failures.append(failure)
        return None


@contextmanager
def open_objects(root: Path = Path()) -> Iterator[DvcObjects]:
    """Open the cache and the default remote of the DVC repository at ``root``.

    Raises:
        PipelineError: it is not a DVC repository.
    """
    try:
        opened = Repo(str(root))
    except NotDvcRepoError:
        raise PipelineError(
            f"{root.absolute()}: not a DVC repository. Run: git init && dvc init"
        ) from None
    with closing(opened) as repo:
        yield DvcObjects(
            [
                ("DVC cache", lambda: repo.cache.local),
                ("DVC remote", lambda: repo.cloud.get_remote_odb(command="pull")),
            ]
        )
