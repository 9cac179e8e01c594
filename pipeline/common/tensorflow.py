"""Import TensorFlow without its start-up messages.

During its import, TensorFlow writes to stderr from C++, before any setting of its log applies:
absl, oneDNN and CUDA report what is normal on a machine without a GPU. An import hook removes
these lines and keeps all others, whichever module imports TensorFlow or Keras first.
"""

import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import FrameType, ModuleType

from pipeline.common.command import end_interrupted

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_ENVIRONMENT = {
    # Hide messages below fatal errors.
    _LOG_LEVEL: "3",
    # The frames of a batch are tensors of tens of megabytes. The C library returns such memory to
    # the system after each use; TensorFlow's own allocator keeps it.
    "TF_CPU_ALLOCATOR_USE_BFC": "true",
    # Otherwise the first process takes the whole memory of every GPU that it sees. Several workers,
    # or a training and a server, can share a GPU with it.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    # oneDNN's convolutions are faster over many frames. TensorFlow enables them by default on some
    # processors only.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}
_HARMLESS = re.compile(
    # Information and warnings: "I0000 00:00:1795763690.909079    9126 port.cc:153] oneDNN ..."
    r"[IW]\d{4} \d\d:\d\d:|\S+ \S+: [IW] "
    r"|WARNING: All log messages before absl::InitializeLog|To enable the following instructions"
    # Errors where there is no GPU, or where two libraries register one plugin.
    r"|.*(failed call to cuInit|Unable to register cu\w+ factory)"
)


def hide_startup_messages() -> None:
    """Install the import hook: settings of this project, no harmless messages.

    Environment variables that are already set are kept; TF_CPP_MIN_LOG_LEVEL=0 shows all
    messages. If TensorFlow is already imported, the hook is not installed.
    """
    is_prepared = any(isinstance(finder, _TensorFlowFinder) for finder in sys.meta_path)
    if "tensorflow" not in sys.modules and not is_prepared:
        sys.meta_path.insert(0, _TensorFlowFinder())


class _TensorFlowFinder(MetaPathFinder):
    """Wrap the first import of ``tensorflow``."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_quietly(module: ModuleType) -> None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            # A child process inherits our level; any other level is that of the user.
            is_ours = os.environ[_LOG_LEVEL] == _ENVIRONMENT[_LOG_LEVEL]
            hides = _harmless_lines_removed if is_ours else nullcontext
            with _ended_by_interrupt(), hides():
                execute(module)
                module.config.list_physical_devices("GPU")  # CUDA reports a missing driver here

        spec.loader.exec_module = execute_quietly  # type: ignore[method-assign]
        return spec


@contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """End the process if Ctrl-C is pressed inside the block.

    Packages that use TensorFlow if it is there catch all exceptions of its import, and would go on.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupts: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if interrupts:
            end_interrupted()


@contextmanager
def _harmless_lines_removed() -> Iterator[None]:
    """Buffer the stderr of the process during the block, then write all but harmless lines."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        stderr = os.dup(2)
        held = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError:  # stderr is closed, or there is no folder for temporary files
        yield
        return
    with held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held.read().splitlines(keepends=True):
                if not _HARMLESS.match(line.decode("utf-8", "replace")):
                    os.write(2, line)
