"""Prepare batches in the background while the network computes."""

from __future__ import annotations

import copy
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self

import torch

from strokelib.errors import ParameterError


class Resumable(Protocol):
    """A stream of batches whose position can be saved."""

    def __next__(self) -> Any:
        """The next batch."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""


class Prefetch:
    """The batches of a sampler, the same and in the same order, made ahead of their use by one thread.

    Torch lets other threads run while it computes, so a thread is enough: no data are copied between processes. The
    thread computes on one core, like every other job. It ends when this object is closed or no longer used, after the
    batch it is at; a process that ends waits for the ``ahead`` batches that were asked for, no longer.

    The position is that of what was handed out, never of what was prepared: a training that stops here resumes
    without a gap. An error in the thread is raised where its batch is asked for, with the traceback of its origin,
    and leaves the position where it was. While this object is in use the sampler belongs to it; it may be used by
    itself again after :meth:`close`.

    Args:
        sampler: Draws from generators of its own; one that used torch's, numpy's or Python's global generator would
            share it with the training.
        ahead: Batches that are kept ready, at least 1.

    Raises:
        ParameterError: ``ahead`` is below 1.
    """

    def __init__(self, sampler: Resumable, ahead: int = 2) -> None:
        if ahead < 1:
            raise ParameterError("ahead", found=ahead, wanted="1 or more", next_step="use the sampler without Prefetch")
        self._sampler, self._ahead = sampler, ahead
        self._handed_out: dict[str, Any] = {}  # holds while there is a worker; else the sampler knows the position
        self._prepared: deque[Future] = deque()
        self._worker: ThreadPoolExecutor | None = None
        self._end: weakref.finalize | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next batch; waits for it where it is not ready."""
        if self._worker is None:
            self._handed_out = copy.deepcopy(self._sampler.state_dict())
            self._worker = _one_thread_worker()
            self._end = weakref.finalize(self, self._worker.shutdown, wait=False, cancel_futures=True)
        while len(self._prepared) <= self._ahead:
            self._prepared.append(self._worker.submit(_prepare, self._sampler))
        try:
            batch, self._handed_out = self._prepared.popleft().result()
        except BaseException:
            self.close()
            raise
        return batch

    def close(self) -> None:
        """End the thread, drop what it has prepared and put the sampler where the batches handed out end."""
        if self._worker is not None and self._end is not None:
            self._end.detach()
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = None
            self._prepared.clear()
            self._sampler.load_state_dict(self._handed_out)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch handed out."""
        return copy.deepcopy(self._sampler.state_dict() if self._worker is None else self._handed_out)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position; what was prepared is dropped."""
        self.close()
        self._sampler.load_state_dict(state)


def _prepare(sampler: Resumable) -> tuple[Any, dict[str, Any]]:
    """A batch and the position after it. It knows nothing of its :class:`Prefetch`, which can thus be collected."""
    return next(sampler), copy.deepcopy(sampler.state_dict())


def _become_one_thread() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # fixes this thread's number; it would follow the caller's otherwise


def _one_thread_worker() -> ThreadPoolExecutor:
    """A thread that computes on one core. Torch tells new numbers to all threads to come: the caller's is put back."""
    before = torch.get_num_threads()
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    worker.submit(_become_one_thread).result()
    torch.set_num_threads(before)
    return worker
