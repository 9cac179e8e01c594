"""What DVC keeps under a digest: in the cache of this repository, or at its default remote."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.errors import AuthError, ConfigError, RemoteMissingDepsError

from pipeline.base.errors import PipelineError

_FOLDER_SUFFIX = ".dir"
_FORMATTED = 32  # hexadecimal digits of an MD5
_FAILURES = (AuthError, ConfigError, DvcException, OSError, RemoteMissingDepsError)


@dataclass(frozen=True)
class DataFile:
    """A file of an output, as DVC knows it."""

    path: str  # relative to the output; its name if the output is one file
    md5: str


class DataObjects:
    """Reads objects by their digest, without touching the working tree.

    >>> with open_objects() as objects:
    ...     files = objects.files("9327eb6250aeef08734bc939f9573490.dir", Path("data/frames"))
    """

    def __init__(self, places: Sequence[tuple[str, Callable[[], HashFileDB]]]) -> None:
        self._places = places
        self._failures: list[str] = []

    @property
    def failures(self) -> str:
        """Why places could not be asked, as a sentence; empty if all could."""
        return "; ".join(dict.fromkeys(self._failures))

    def files(self, digest: str, path: Path) -> list[DataFile] | None:
        """Return the files of an output, by path; None if the list cannot be had.

        Args:
            digest: as in dvc.lock; ends with ``.dir`` for a folder.
            path: of the output.
        """
        if not digest.endswith(_FOLDER_SUFFIX):
            return [DataFile(path.name, digest)] if len(digest) == _FORMATTED else None
        content = self.content(digest)
        if content is None:
            return None
        listed = [DataFile(entry["relpath"], entry["md5"]) for entry in json.loads(content)]
        return sorted(listed, key=lambda file: file.path)

    def content(self, digest: str) -> bytes | None:
        """Return the bytes of an object, None if no place has it."""
        for name, place in self._places:
            try:
                database = place()
                path = database.oid_to_path(digest)
                if database.fs.exists(path):
                    return bytes(database.fs.cat_file(path))
            except _FAILURES as error:
                self._failures.append(f"{name}: {_reason(error)}")
        return None


@contextmanager
def open_objects(root: Path = Path()) -> Iterator[DataObjects]:
    """Open the cache and the default remote of the repository at ``root``.

    Raises:
        PipelineError: it is no DVC repository.
    """
    try:
        opened = Repo(str(root))
    except NotDvcRepoError:
        raise PipelineError(f"{root.absolute()}: expected a DVC repository, found none.") from None
    with closing(opened) as repo:
        yield DataObjects(
            [
                ("DVC cache", lambda: repo.cache.local),
                ("DVC remote", lambda: repo.cloud.get_remote_odb(command="pull")),
            ]
        )


def has_remote(root: Path = Path()) -> bool:
    """Tell whether DVC has a default remote in the repository at ``root``."""
    with closing(Repo(str(root))) as repo:
        return bool(repo.config["core"].get("remote"))


def _reason(error: Exception) -> str:
    if isinstance(error, RemoteMissingDepsError):
        return f"{error.url}: expected the package dvc-{error.protocol}, it is not installed"
    lines = str(error).strip().splitlines()
    return lines[0].split(" in <Repo")[0].rstrip(".") if lines else type(error).__name__
