"""Roll-out steps recorded as CUDA graphs, so that a frame is one launch instead of hundreds.

A step is recorded for each kind of state: names, shapes and dtypes of its tensors, and the values of those on the host.
Steps that cannot be recorded, such as one that reads a value from the GPU, run as before.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

from framecast.models.base import Predictor, RolloutState

#: A step that is recorded: its result lies in the same memory after every replay.
Step = Callable[[], tuple[RolloutState, Tensor]]
#: Results of what is recorded.
Found = TypeVar("Found")
#: Most recorded steps of a model; states of further kinds are stepped as before.
LIMIT = 16

_KNOWN: weakref.WeakKeyDictionary[Predictor, GraphedStep] = weakref.WeakKeyDictionary()


def graphed_step(model: Predictor) -> GraphedStep:
    """The recorded steps of a model, shared by all its roll-outs."""
    return _KNOWN.setdefault(model, GraphedStep(model))


def cuda_graph(step: Callable[[], Found]) -> tuple[Callable[[], None], Found]:
    """A function that repeats a step on the GPU, and where its results lie; also used for losses and their gradients.

    Raises:
        RuntimeError: the step does something that cannot be recorded.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # its copies of weights are freed at the end of autocast
    try:
        with torch.cuda.stream(stream):
            for _ in range(2):  # libraries allocate at their first calls
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            found = step()
    finally:
        torch.set_autocast_cache_enabled(cached)
    return graph.replay, found


class GraphedStep:
    """`rollout_step` of a model, recorded at the second state of a kind and repeated from then on.

    Args:
        model: in eval mode, without gradients.
        record: step -> function that repeats it, and its results.
    """

    def __init__(
        self,
        model: Predictor,
        record: Callable[[Step], tuple[Callable[[], None], tuple[RolloutState, Tensor]]] = cuda_graph,
    ) -> None:
        self.model, self.record = weakref.ref(model), record
        self.lock = threading.Lock()  # roll-outs share the memory of the recorded step
        self.seen: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, _Recorded | None] = {}

    def __call__(self, state: RolloutState, action: Tensor | None) -> tuple[RolloutState, Tensor]:
        """The next state and frame, as `rollout_step` gives them."""
        model = self.model()
        assert model is not None
        with self.lock:
            kind = _kind(model, state, action)
            self.seen[kind] += 1
            if self.seen[kind] > 1 and kind not in self.recorded and len(self.recorded) < LIMIT:
                self.recorded[kind] = self._recorded(model, state, action)
            step = self.recorded.get(kind)
            if step is not None:
                return step(state, action)
            if len(self.seen) > 1000:  # kinds that differ in host values at every step
                self.seen.clear()
        return model.rollout_step(state, action)

    def _recorded(self, model: Predictor, state: RolloutState, action: Tensor | None) -> _Recorded | None:
        inputs = {name: value.clone() for name, value in state.items()}
        led = None if action is None else action.clone()
        try:
            replay, results = self.record(lambda: model.rollout_step(inputs, led))
        except RuntimeError:  # such as a value read from the GPU
            return None
        return _Recorded(inputs, led, replay, results)


class _Recorded:
    """A recorded step with the memory of its inputs and results."""

    def __init__(
        self,
        inputs: RolloutState,
        action: Tensor | None,
        replay: Callable[[], None],
        results: tuple[RolloutState, Tensor],
    ) -> None:
        self.inputs, self.action, self.replay, self.results = inputs, action, replay, results

    def __call__(self, state: RolloutState, action: Tensor | None) -> tuple[RolloutState, Tensor]:
        for name, value in self.inputs.items():
            value.copy_(state[name], non_blocking=True)
        if self.action is not None and action is not None:
            self.action.copy_(action, non_blocking=True)
        self.replay()
        after, frame = self.results
        return {name: value.clone() for name, value in after.items()}, frame.clone()


def _kind(model: Predictor, state: RolloutState, action: Tensor | None) -> Hashable:
    """What a recorded step depends on: modes, memory of the weights, and the inputs but for values on the GPU."""
    parameter = next(model.parameters(), None)
    weights = None if parameter is None else (parameter.data_ptr(), parameter.device)
    tensors: dict[str, Any] = {**state, "": action}
    inputs = tuple((name, None if x is None else _form(x, parameter)) for name, x in tensors.items())
    return torch.is_autocast_enabled(), weights, inputs


def _form(x: Tensor, parameter: Tensor | None) -> Hashable:
    host = parameter is not None and x.device != parameter.device
    return tuple(x.shape), x.dtype, x.device, tuple(x.flatten().tolist()) if host else None
