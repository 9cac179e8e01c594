"""Work on untrusted files in processes of their own: one may hang or crash, the rest goes on."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_PENDING_A_WORKER = 4
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
    waiting = deque((chunk, 1) for chunk in chunks)
    pending: dict[Future[list[ResultT]], tuple[Sequence[TaskT], int]] = {}
    try:
        while waiting or pending:
            # Few at a time: what is pending is looked through at every result.
            while waiting and len(pending) < _PENDING_A_WORKER * workers:
                chunk, tries = waiting.popleft()
                future = pool.schedule(_work_through, args=(work, chunk), timeout=timeout_seconds)
                pending[future] = (chunk, tries)
            for done in wait(pending, return_when=FIRST_COMPLETED).done:
                chunk, tries = pending.pop(done)
                try:
                    yield from zip(chunk, done.result(), strict=True)
                except (TimeoutError, ProcessExpired) as error:
                    again = _to_try_again(chunk, tries, error)
                    waiting.extendleft(again)
                    if not again:
                        yield chunk[0], Failure(_reason(error, timeout_seconds))
    except BaseException:
        pool.stop()  # type: ignore[no-untyped-call]
        raise
    else:
        pool.close()  # type: ignore[no-untyped-call]
    finally:
        pool.join()


def _to_try_again(
    chunk: Sequence[TaskT], tries: int, error: TimeoutError | ProcessExpired
) -> list[tuple[Sequence[TaskT], int]]:
    """Return what of a failed chunk gets another try, with the number of that try."""
    is_crash = isinstance(error, ProcessExpired)
    if len(chunk) > 1:
        return [([task], tries + 1 if is_crash else tries) for task in chunk]
    return [(chunk, tries + 1)] if is_crash and tries < _TRIES else []


def _work_through(work: Callable[[TaskT], ResultT], chunk: Sequence[TaskT]) -> list[ResultT]:
    return [work(task) for task in chunk]


def _reason(error: TimeoutError | ProcessExpired, timeout_seconds: float) -> str:
    if isinstance(error, ProcessExpired):
        return f"the process died (exit code {error.exitcode})"
    return f"not done after {timeout_seconds:g} s"
