"""Which process wrote something, and whether it still runs.

A process id is unique only within one boot of a machine and one process namespace. A host name does
not identify them, because containers and machines that share a store may have the same name.
"""

import socket
from collections.abc import Mapping
from pathlib import Path

import psutil

_HOST, PID, _STARTED = "process.host", "process.pid", "process.started"
_SPACE = "process.space"
# psutil computes the start of a process from the system clock, which may be adjusted.
_SAME_START_SECONDS = 2.0


def process_tags() -> dict[str, str]:
    """Return tags that identify this process: host, process space, process id, start time."""
    process = psutil.Process()
    return {
        _HOST: socket.gethostname(),
        _SPACE: _process_space(),
        PID: str(process.pid),
        _STARTED: f"{process.create_time():.2f}",
    }


def is_here(tags: Mapping[str, str]) -> bool:
    """Return whether ``process_tags`` are of a process that this one can look up."""
    return tags.get(_SPACE) == _process_space()


def is_alive(tags: Mapping[str, str]) -> bool:
    """Return whether the process with these ``process_tags`` runs on this machine."""
    if not is_here(tags):
        return False
    try:
        process = psutil.Process(int(tags[PID]))
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        is_same = abs(process.create_time() - float(tags[_STARTED])) < _SAME_START_SECONDS
    except psutil.NoSuchProcess:
        return False
    return is_same and not is_zombie


def _process_space() -> str:
    """Return the scope in which process ids are unique: boot of the machine and namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"
