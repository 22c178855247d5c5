"""Loss and gradients of a phase recorded as a CUDA graph: one launch instead of thousands, where shapes are static.

What is recorded repeats the same operations on the same memory. So the batch is copied into fixed tensors, the step and
the elapsed share of the stage must not be used by the loss, and schedules, clipping and optimisers stay outside. The
first repetition is compared with the plain loss, which reads a value from the GPU once. What does not suit runs as
before, after one warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import Batch, Phase
from framecast.models.graphs import cuda_graph
from framecast.training.device import Device
from framecast.training.faults import fault, note_faults, terms
from framecast.training.gradients import only
from framecast.training.prefetch import each_tensor
from framecast.training.state import TrainState

#: Names and values of a loss's terms, and the gradients, one per trained parameter.
Found = tuple[tuple[str, ...], Tensor, list[Tensor | None]]
#: Most recorded phases and shapes of batches; further ones run as before.
LIMIT = 16
#: Largest relative difference between a recorded loss or gradient norm and the plain one: algorithms may differ.
TOLERANCE = 1e-2


def wants_graphs(setting: bool, device: Device, grad_accum_steps: int) -> bool:
    """Whether to record: where it is asked for, on a GPU.

    Raises:
        UserError: for several processes or micro-batches, whose noise and sums are not those of one graph.
    """
    if setting and device.world * grad_accum_steps > 1:
        raise UserError("--train.cuda-graph: needs one process and --grad-accum-steps 1; leave it out")
    return setting and device.device.type == "cuda"


def plain_gradients(state: TrainState, phase: Phase, batch: Batch, step: Any, device: Device) -> Found:
    """Terms and gradients of a loss of a whole batch; `grad` of the parameters is None afterwards.

    Args:
        state: of training.
        phase: whose loss it is.
        batch: on the device.
        step: of the stage.
        device: of this process.
    """
    parts = state.parts[phase.name]
    for p in parts.parameters:
        p.grad = None
    try:
        with only(state.model, phase, parts):
            with device.autocast():
                loss = state.losses.get(phase.name, phase.loss)(batch, step)
            names, values = terms(loss)
            loss.total.backward()  # type: ignore[no-untyped-call]
        return names, values, [p.grad for p in parts.parameters]
    finally:
        for p in parts.parameters:
            p.grad = None


class GraphedLosses:
    """The gradients of a stage's phases, recorded at the second batch of a kind and repeated from then on.

    Args:
        warn: called once, with one sentence, where a phase cannot be recorded.
        record: function without arguments -> one that repeats it, and its results, which lie in the same memory.
    """

    def __init__(
        self,
        warn: Callable[[str], None],
        record: Callable[[Callable[[], Found]], tuple[Callable[[], None], Found]] = cuda_graph,
    ) -> None:
        self.warn, self.record, self.warned = warn, record, False
        self.seen: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, _Recorded | None] = {}

    def __call__(self, state: TrainState, phase: Phase, batch: Batch, seed: int, device: Device) -> Found:
        """Terms and gradients of the phase for this batch, as `plain_gradients` gives them.

        Args:
            state: of training.
            phase: whose loss it is.
            batch: on the device.
            seed: of the noise of this step.
            device: of this process.
        """
        kind = (phase.name, _shapes(batch))
        self.seen[kind] += 1
        if self.seen[kind] > 1 and kind not in self.recorded and len(self.recorded) < LIMIT:
            self.recorded[kind] = self._recorded(state, phase, batch, seed, device)
            return _plain(state, phase, batch, seed, device)  # compared with the plain loss at another batch
        graph = self.recorded.get(kind)
        if graph is None:
            return _plain(state, phase, batch, seed, device)
        if graph.checked:
            return graph(batch, seed, device)
        return self._compared(kind, graph, state, phase, batch, seed, device)

    def gradients(
        self, state: TrainState, phase: Phase, batch: Batch, seed: int, device: Device, logged: dict[str, Tensor]
    ) -> list[Tensor | None]:
        """The gradients of the phase, with its terms noted in the state and in `logged`; arguments as of a call."""
        names, values, gradients = self(state, phase, batch, seed, device)
        note_faults(state, (phase.name, names), values)
        logged |= {f"{phase.name}/{name}": value for name, value in zip(names, values.unbind(), strict=True)}
        state.fault = fault(state)
        return list(gradients)

    def _recorded(self, state: TrainState, phase: Phase, batch: Batch, seed: int, device: Device) -> _Recorded | None:
        """The recorded phase; None where it cannot be. Weights and statistics stay as they are."""
        fixed = replace(each_tensor(Tensor.clone, batch), elapsed=_Varying("elapsed share of the stage"))  # type: ignore[arg-type]
        kept = _statistics(state)
        try:
            with device.noise(seed, batch.size):
                replay, results = self.record(
                    lambda: plain_gradients(state, phase, fixed, _Varying("step of the stage"), device)
                )
        except (RuntimeError, TypeError) as error:  # such as a value read from the GPU
            self._refuse(phase, str(error).partition("\n")[0])
            return None
        finally:
            _restore(kept)
        return _Recorded(fixed, replay, results)

    def _compared(
        self,
        kind: Hashable,
        graph: _Recorded,
        state: TrainState,
        phase: Phase,
        batch: Batch,
        seed: int,
        device: Device,
    ) -> Found:
        """The plain result of a batch; the record is given up where it differs, such as by a value of the host."""
        kept = _statistics(state)
        again = graph(batch, seed, device)
        sums = _sums(again)
        _restore(kept)
        found = _plain(state, phase, batch, seed, device)
        graph.checked = True
        if not torch.allclose(sums, _sums(found), rtol=TOLERANCE, atol=1e-6, equal_nan=True):
            self.recorded[kind] = None
            self._refuse(phase, "repeated, it gives other values")
        return found

    def _refuse(self, phase: Phase, reason: str) -> None:
        if not self.warned:
            self.warned = True
            self.warn(f"--train.cuda-graph: phase {phase.name!r} runs without a CUDA graph ({reason[:200]})")


class _Recorded:
    """A recorded phase with the memory of its batch and results."""

    def __init__(self, batch: Batch, replay: Callable[[], None], results: Found) -> None:
        self.batch, self.replay, self.results, self.checked = batch, replay, results, False

    def __call__(self, batch: Batch, seed: int, device: Device) -> Found:
        for fixed, given in zip(_tensors(self.batch), _tensors(batch), strict=True):
            fixed.copy_(given, non_blocking=True)
        with device.noise(seed, batch.size):
            self.replay()
        names, values, gradients = self.results
        return names, values.clone(), list(gradients)


class _Varying:
    """A value that changes from step to step, so that a recorded loss must not use it: any use is an error."""

    def __init__(self, what: str) -> None:
        self.what = what

    def _used(self, *_: Any) -> Any:
        raise RuntimeError(f"the loss depends on the {self.what}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = _used
    __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __lt__ = __le__ = __gt__ = __ge__ = _used
    __eq__ = __ne__ = __hash__ = __bool__ = __int__ = __float__ = __index__ = __round__ = _used


def _plain(state: TrainState, phase: Phase, batch: Batch, seed: int, device: Device) -> Found:
    with device.noise(seed, batch.size):
        return plain_gradients(state, phase, batch, state.stage_step, device)


def _tensors(batch: Batch) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    each_tensor(note, batch)
    return found


def _shapes(batch: Batch) -> Hashable:
    """What a recorded phase depends on: shapes, dtypes and devices of the batch's tensors."""
    return tuple((tuple(x.shape), x.dtype, x.device) for x in _tensors(batch))


def _sums(found: Found) -> Tensor:
    """Terms of the loss, and the norm of all gradients."""
    _, values, gradients = found
    norms = [g.float().norm() for g in gradients if g is not None]
    return torch.cat([values, torch.stack(norms).norm()[None] if norms else values[:0]])


def _statistics(state: TrainState) -> list[tuple[Tensor, Tensor]]:
    """The model's buffers, such as the statistics of batch norm, and their values."""
    return [(b, b.clone()) for b in state.model.buffers()]


def _restore(kept: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for buffer, value in kept:
            buffer.copy_(value)
