"""Work on untrusted files in processes of their own: one may hang or crash, the rest goes on."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_TRIES = 2  # a crash may be the machine's fault (memory), so a task gets a second chance


@dataclass(frozen=True)
class Failure:
    """A task that gave no result, and why."""

    reason: str


def run_isolated(
    work: Callable[[TaskT], ResultT],
    chunks: Sequence[Sequence[TaskT]],
    *,
    workers: int,
    timeout_seconds: float,
) -> Iterator[tuple[TaskT, ResultT | Failure]]:
    """Yield each task with its result, in the order in which they are done.

    A task that takes longer than ``timeout_seconds`` is stopped; one whose process dies is
    tried once more. Exceptions that ``work`` raises are bugs and are raised here.

    Args:
        work: a function at the top level of a module; its results can be pickled.
        chunks: tasks that go to a process together, because handing one over takes some
            milliseconds. A chunk that fails as a whole is done again task by task.
        workers: processes, started afresh and not forked.
    """
    if not chunks:
        return
    # Forked processes would inherit threads and locks of this one.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(max_workers=min(workers, len(chunks)), context=context)

    def start(chunk: Sequence[TaskT], tries: int) -> None:
        future = pool.schedule(_work_through, args=(work, chunk), timeout=timeout_seconds)
        pending[future] = (chunk, tries)

    pending: dict[Future[list[ResultT]], tuple[Sequence[TaskT], int]] = {}
    try:
        for chunk in chunks:
            start(chunk, 1)
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                chunk, tries = pending.pop(future)
                try:
                    yield from zip(chunk, future.result(), strict=True)
                except (TimeoutError, ProcessExpired) as error:
                    is_crash = isinstance(error, ProcessExpired)
                    if len(chunk) > 1:
                        for task in chunk:
                            start([task], 1)
                    elif is_crash and tries < _TRIES:
                        start(chunk, tries + 1)
                    else:
                        yield chunk[0], Failure(_reason(error, timeout_seconds))
    except BaseException:
        pool.stop()  # type: ignore[no-untyped-call]
        raise
    else:
        pool.close()  # type: ignore[no-untyped-call]
    finally:
        pool.join()


def _work_through(work: Callable[[TaskT], ResultT], chunk: Sequence[TaskT]) -> list[ResultT]:
    return [work(task) for task in chunk]


def _reason(error: TimeoutError | ProcessExpired, timeout_seconds: float) -> str:
    if isinstance(error, ProcessExpired):
        return f"the process died (exit code {error.exitcode})"
    return f"not done after {timeout_seconds:g} s"
