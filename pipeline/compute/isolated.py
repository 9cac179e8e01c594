"""Run tasks in processes that may block or die, on this machine."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Self, TypeVar

from pebble import ProcessExpired, ProcessPool

from pipeline.common.errors import PipelineError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_PENDING_PER_WORKER = 4
_MAX_TRIES = 2  # a crash may have another cause than the task, such as a lack of memory
_MAX_BREAKS = 3  # of a pool, without a result in between


@dataclass(frozen=True)
class Failure:
    """A task without a result, and the reason."""

    reason: str


class IsolatedPool:
    """Processes that run tasks. One that dies, or whose task takes too long, is replaced."""

    def __init__(
        self,
        workers: int,
        *,
        timeout_seconds: float | None,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        """Prepare the pool; its processes start with the first task.

        Args:
            workers: number of processes.
            timeout_seconds: a task that takes longer is stopped; None: no limit.
            initializer: called once in each process.
        """
        self._workers = workers
        self._timeout_seconds = timeout_seconds
        self._initializer = initializer
        self._pool = self._new_pool()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the running tasks, or stop them if the block raised an error."""
        if kind is not None:
            self.stop()
        else:
            self._pool.close()  # type: ignore[no-untyped-call]
            self._pool.join()

    def stop(self) -> None:
        """Stop the processes and their tasks."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def _schedule(
        self, work: Callable[[TaskT], ResultT], chunk: Sequence[TaskT]
    ) -> Future[list[ResultT]]:
        # The processes inherit the mask: Ctrl-C, which they receive too, is for this process, which
        # stops them. The resource tracker, which they start otherwise, would unblock the signal.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        timeout = self._timeout_seconds
        try:
            return self._pool.schedule(_run_chunk, args=(work, chunk), timeout=timeout)
        except RuntimeError:  # an idle process died
            self._replace_pool()
            return self._pool.schedule(_run_chunk, args=(work, chunk), timeout=timeout)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _replace_pool(self) -> None:
        self.stop()
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        # A forked process would inherit the threads and locks of this one.
        context = multiprocessing.get_context("spawn")
        return ProcessPool(
            max_workers=self._workers, initializer=self._initializer, context=context
        )

    def run(
        self, work: Callable[[TaskT], ResultT], chunks: Iterable[Sequence[TaskT]]
    ) -> Iterator[tuple[TaskT, ResultT | Failure]]:
        """Yield each task with its result, as ``run_isolated``."""
        waiting = deque((chunk, 1) for chunk in chunks)
        pending: dict[Future[list[ResultT]], tuple[Sequence[TaskT], int]] = {}
        breaks = 0
        while waiting or pending:
            # Few futures at a time, because ``wait`` examines all pending ones for each result.
            while waiting and len(pending) < _PENDING_PER_WORKER * self._workers:
                chunk, tries = waiting.popleft()
                pending[self._schedule(work, chunk)] = (chunk, tries)
            for done in wait(pending, return_when=FIRST_COMPLETED).done:
                chunk, tries = pending.pop(done)
                try:
                    yield from zip(chunk, done.result(), strict=True)
                    breaks = 0
                except (BrokenProcessPool, CancelledError):
                    # A process died before the pool knew its task: every task fails, and none
                    # counts a try, because no one knows which one it was.
                    breaks += 1
                    if breaks > _MAX_BREAKS:
                        raise PipelineError(
                            f"{breaks} times, a process died before its first task. Look at the "
                            "free memory of this machine, then run the command again."
                        ) from None
                    waiting.extendleft([(chunk, tries), *pending.values()])
                    pending.clear()
                    self._replace_pool()
                    break
                except (TimeoutError, ProcessExpired) as error:
                    is_crash = isinstance(error, ProcessExpired)
                    tries += is_crash
                    if len(chunk) > 1 or (is_crash and tries <= _MAX_TRIES):
                        waiting.extendleft(([task], tries) for task in chunk)
                    elif isinstance(error, ProcessExpired):
                        yield chunk[0], Failure(f"the process died (exit code {error.exitcode})")
                    else:
                        yield chunk[0], Failure(f"not finished after {self._timeout_seconds:g} s")


def run_isolated(
    work: Callable[[TaskT], ResultT],
    chunks: Sequence[Sequence[TaskT]],
    *,
    workers: int,
    timeout_seconds: float | None,
    initializer: Callable[[], None] | None = None,
) -> Iterator[tuple[TaskT, ResultT | Failure]]:
    """Yield each task with its result, in the order in which they finish.

    A task that takes longer than ``timeout_seconds`` is stopped. If the process of a task dies,
    the task runs once more. Exceptions of ``work`` are defects and are raised.

    Args:
        work: a function that can be pickled, with results that can be pickled.
        chunks: tasks that a process receives together. If a chunk fails, its tasks run one by
            one.
        workers: number of processes.
        timeout_seconds: None: no limit.
        initializer: called once in each process.

    Raises:
        PipelineError: processes die when they start.
    """
    if not chunks:
        return
    with IsolatedPool(
        min(workers, len(chunks)), timeout_seconds=timeout_seconds, initializer=initializer
    ) as pool:
        yield from pool.run(work, chunks)


def _run_chunk(work: Callable[[TaskT], ResultT], chunk: Sequence[TaskT]) -> list[ResultT]:
    return [work(task) for task in chunk]
