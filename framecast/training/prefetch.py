"""Training batches that a thread makes ahead of the step, and copies to a GPU while the step before them runs.

A batch is a function of seed, step and stream, so those made ahead are the ones that the step would have made.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from framecast.core.types import Batch, Phase

#: Batches made ahead on a GPU, unless the user chooses another number; on a CPU the thread would take time of the step.
AHEAD_ON_GPU = 2

#: Steps that are searched for the next batch, where most have none.
LOOK_AHEAD = 1000


def batches_ahead(wanted: int | None, device: torch.device) -> int:
    """The number of batches to make ahead: `wanted`, or without one the default of the device."""
    if wanted is not None:
        return wanted
    return AHEAD_ON_GPU if device.type == "cuda" else 0


def streams_of(phases: Sequence[Phase], step: int) -> list[str]:
    """The streams whose batches the phases of a stage need at one of its steps, in the order of their first use."""
    return list(dict.fromkeys(phase.stream for phase in phases if phase.should_run(step)))


class Prefetch:
    """The batches of a stage by step and stream, on the device, made ahead by one thread.

    Args:
        make: (step, stream) -> batch on the CPU; never called by two threads at once.
        streams: step -> streams in the order of their use; a batch of another one is made when it is asked for.
        device: that the batches are copied to.
        ahead: largest number of batches made ahead; 0 starts no thread.
        lock: held while `make` runs, so that others can read the same data.
    """

    def __init__(
        self,
        make: Callable[[int, str], Batch],
        streams: Callable[[int], list[str]],
        device: torch.device,
        ahead: int,
        lock: threading.Lock,
    ) -> None:
        self.make, self.streams, self.device, self.ahead, self.lock = make, streams, device, ahead, lock
        self._changed = threading.Condition()
        self._made: dict[tuple[int, str], Any] = {}
        self._asked = 0  # step of the last call of `get`
        self._wanted: tuple[int, str] | None = None  # the batch that it waits for
        self._step, self._left = 0, list[str]()  # what the thread makes next: streams of a step
        self._running = False
        self._thread: threading.Thread | None = None
        self._copies: torch.cuda.Stream | None = None
        if ahead and device.type == "cuda":
            self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def get(self, step: int, stream: str) -> Batch:
        """The batch of a step; steps must not decrease.

        Raises:
            UserError: the data cannot be read, in the thread as without one.
        """
        if not self.ahead:
            return self._direct(step, stream)
        if self._thread is None:
            self._start(step)
        key = (step, stream)
        with self._changed:
            for old in [k for k in self._made if k[0] < step]:
                del self._made[old]
            self._asked = step
            self._changed.notify_all()
            while key not in self._made and self._is_coming(*key):
                self._wanted = key
                self._changed.wait()
            self._wanted = None
            found = self._made.pop(key, None)
            self._changed.notify_all()
        if isinstance(found, BaseException):
            raise found
        return self._direct(step, stream) if found is None else self._received(*found)

    def close(self) -> None:
        """End the thread, after the batch that it is making; batches made ahead are dropped."""
        with self._changed:
            self._running = False
            self._made.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _direct(self, step: int, stream: str) -> Batch:
        with self.lock:
            batch = self.make(step, stream)
        return batch.to(self.device)

    def _start(self, step: int) -> None:
        self._asked = self._step = step
        self._left, self._running = self.streams(step), True
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    def _is_coming(self, step: int, stream: str) -> bool:
        """Whether the thread will make this batch. Within `_changed`."""
        if not self._running or step < self._step:
            return False
        return stream in (self._left if step == self._step else self.streams(step))

    def _work(self) -> None:
        with contextlib.suppress(Exception):  # of a schedule: `get` then makes the batches, and the step raises it
            while (key := self._next()) is not None:
                try:
                    with self.lock:
                        batch = self.make(*key)
                    made: Any = self._copied(batch)
                except BaseException as error:  # raised by `get`, at the step that needs the batch
                    made = error
                with self._changed:
                    if not self._running:
                        return
                    self._running = not isinstance(made, BaseException)
                    self._left.pop(0)
                    self._made[key] = made
                    self._changed.notify_all()
        with self._changed:
            self._running = False
            self._changed.notify_all()

    def _next(self) -> tuple[int, str] | None:
        """The next batch to make, once there is room for it; None at the end."""
        with self._changed:
            while self._running:
                if self._asked > self._step:
                    self._step, self._left = self._asked, self.streams(self._asked)
                while not self._left and self._step < self._asked + LOOK_AHEAD:
                    self._step += 1
                    self._left = self.streams(self._step)
                # a batch that `get` waits for is made even without room, or both would wait for each other
                awaited = self._wanted is not None and self._wanted not in self._made
                if self._left and (len(self._made) < self.ahead or awaited):
                    return self._step, self._left[0]
                self._changed.wait()
        return None

    def _copied(self, batch: Batch) -> tuple[Batch, Any]:
        """The batch on the device and, on a GPU, the event at which its copy on a stream of its own is complete."""
        if self._copies is None:
            return batch.to(self.device), None
        with torch.cuda.stream(self._copies):
            moved = each_tensor(Tensor.pin_memory, batch).to(self.device)
            return moved, self._copies.record_event()

    def _received(self, batch: Batch, event: Any) -> Batch:
        """The batch, for use on the current stream of the GPU, without waiting on the CPU."""
        if event is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            each_tensor(lambda tensor: _used_on(tensor, current), batch)
        return batch


def each_tensor(function: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
    """The batch with a function applied to each of its tensors."""
    return replace(
        batch,
        context=function(batch.context),
        future=function(batch.future),
        actions=None if batch.actions is None else function(batch.actions),
        extras={name: function(x) for name, x in batch.extras.items()},
        latents={name: function(x) for name, x in batch.latents.items()},
        lead_times=None if batch.lead_times is None else function(batch.lead_times),
    )


def _used_on(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    """The tensor, whose memory is not used again before the work of the stream on it is done."""
    tensor.record_stream(stream)
    return tensor
