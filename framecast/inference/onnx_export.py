"""ONNX graphs of a predictor: one for `rollout_init`, one for `rollout_step`, checked through onnxruntime.

Both have a batch of one clip. Every tensor of the rollout state is an output of the first graph (`state_NAME`), and an
input (`state_NAME`) and an output (`next_NAME`) of the second, which also takes the action and returns the next frame.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.io import write_json
from framecast.core.types import FORMAT
from framecast.inference.starts import Start
from framecast.media.images import to_uint8
from framecast.models.base import Predictor, RolloutState

#: Files of an export.
INIT, STEP, GRAPHS = "rollout_init.onnx", "rollout_step.onnx", "graphs.json"
#: Largest difference of a float32 graph's frames (0…1) from those of the model.
TOLERANCE = 1e-3
#: Least share of equal uint8 values in the frames of a graph with float16 weights.
EQUAL = 0.999

_STEPS = 8  # frames compared
_LARGE = 256  # elements from which a weight is stored as float16
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class InitGraph(nn.Module):
    """`rollout_init` of one clip as a function of tensors: the state's entries in alphabetical order.

    Args:
        model: the predictor.
    """

    def __init__(self, model: Predictor) -> None:
        super().__init__()
        self.model = model

    def forward(self, context: Tensor, actions: Tensor | None, seed: Tensor | None) -> tuple[Tensor, ...]:
        """The state after context (1, t, c, h, w) 0…1 and actions (1, t - 1, a), with seed (1,) int64 if it has one."""
        state = self.model.rollout_init(context, actions=actions)
        if seed is not None:
            state = {**state, "seed": seed}
        return tuple(state[name].clone() for name in sorted(state))  # an output must be no input


class StepGraph(nn.Module):
    """`rollout_step` of one clip as a function of tensors.

    Args:
        model: the predictor.
        names: entries of the state, in the order of the tensors.
    """

    def __init__(self, model: Predictor, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, state: tuple[Tensor, ...], action: Tensor | None) -> tuple[Tensor, ...]:
        """The next state's entries, then the frame (1, c, h, w) 0…1."""
        new, frame = self.model.rollout_step(dict(zip(self.names, state, strict=True)), action)
        return *(new[name].clone() for name in self.names), frame.clone()


@dataclass(frozen=True)
class Agreement:
    """Comparison of graphs with their model over some frames.

    Attributes:
        difference: largest difference of a pixel, 0…1.
        equal: share of equal uint8 values.
    """

    difference: float
    equal: float


def export_graphs(model: Predictor, start: Start, folder: Path, name: str, half: bool = False) -> Agreement:
    """Files INIT, STEP and GRAPHS in a folder, compared with the model on real frames.

    Args:
        model: in eval mode, on the CPU.
        start: real context with its actions.
        folder: existing folder.
        name: of the run, for messages.
        half: store large weights as float16; arithmetic stays in float32.

    Raises:
        UserError: a package is missing, an operation of the model has no ONNX form, or the graphs differ from the
            model.
    """
    check_installed()
    context, actions = _inputs(model, start)
    try:
        state = model.rollout_init(context, actions=actions, generator=torch.Generator().manual_seed(0))
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error
    names = tuple(sorted(state))
    action = None if actions is None else actions[:, -1]
    _check_shapes(model, state, action, name)
    seed = state.get("seed")
    labels = [key for key, value in (("context", context), ("actions", actions), ("seed", seed)) if value is not None]
    with _quiet():
        init = _graph(InitGraph(model), (context, actions, seed), labels, [f"state_{n}" for n in names], name)
        inputs = [f"state_{n}" for n in names] + ([] if action is None else ["action"])
        outputs = [*(f"next_{n}" for n in names), "frame"]
        step = _graph(StepGraph(model, names), (tuple(state[n] for n in names), action), inputs, outputs, name)
    _save(init, folder / INIT, half)
    _save(step, folder / STEP, half)
    write_json(folder / GRAPHS, describe(model, state))
    found = compare(model, folder, context, actions)
    if found.equal < EQUAL if half else found.difference > TOLERANCE:
        remedy = "export without --half" if half else "nothing is exported"
        raise UserError(
            f"{name}: frames of the graphs differ from the model's by up to {found.difference:.2g}, and "
            f"{100 * found.equal:.2f} % of their values are equal; {remedy}"
        )
    return found


def check_installed() -> None:
    """Require the packages of the extra `export`.

    Raises:
        UserError: one of them is missing.
    """
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f'ONNX graphs need {", ".join(missing)}; install with: pip install "framecast[export]"')


def describe(model: Predictor, state: RolloutState) -> dict[str, Any]:
    """Contents of GRAPHS: inputs, state and actions as plain data.

    Args:
        model: the predictor.
        state: a rollout state of one clip.
    """
    spec, actions = model.spec, model.spec.actions if model.actions != "none" else None
    return {
        "format": FORMAT,
        "context": [1, model.num_context, spec.channels, *_size(model, state)],
        "range": [0, 1],
        "fps": spec.fps,
        "actions": None if actions is None else {k: v for k, v in vars(actions).items() if v != ()},
        "state": {
            name: {"shape": list(value.shape), "type": str(value.dtype).removeprefix("torch.")}
            for name, value in sorted(state.items())
        },
        "controls": [vars(control) for control in model.controls()],
    }


def compare(model: Predictor, folder: Path, context: Tensor, actions: Tensor | None) -> Agreement:
    """Graphs of a folder beside their model, through onnxruntime, over the state of the context and the next frames.

    Args:
        model: the predictor.
        folder: with INIT and STEP.
        context: (1, num_context, c, h, w) float 0…1.
        actions: (1, num_context - 1, a), or None; the last one is repeated.
    """
    seed = torch.ones(1, dtype=torch.int64)
    state = model.rollout_init(context, actions=actions)
    state = {**state, "seed": seed} if "seed" in state else state
    init, step = session(folder / INIT), session(folder / STEP)
    given = {"context": context, "actions": actions, "seed": seed}
    own = run_graph(init, {k: v.numpy() for k, v in given.items() if v is not None})
    action = None if actions is None else actions[:, -1]
    difference, equal = 0.0, []
    for _ in range(_STEPS):
        with torch.no_grad():
            state, frame = model.rollout_step(state, action)
        more = {} if action is None else {"action": action.numpy()}
        found = run_graph(step, {**own, **more})
        own = {f"state_{k.removeprefix('next_')}": v for k, v in found.items() if k != "frame"}
        difference = max(difference, float(np.abs(found["frame"] - frame.numpy()).max()))
        equal.append((to_uint8(found["frame"]) == to_uint8(frame)).mean())
    return Agreement(difference, float(np.mean(equal)))


def session(path: Path) -> Any:
    """onnxruntime session of a graph, on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def run_graph(running: Any, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name of a session for inputs by name; inputs that the graph does not take are left out."""
    names = [output.name for output in running.get_outputs()]
    taken = {value.name for value in running.get_inputs()}
    return dict(zip(names, running.run(names, {k: v for k, v in given.items() if k in taken}), strict=True))


# ------------------------------------------------------------------------------------------------------------- details


def _inputs(model: Predictor, start: Start) -> tuple[Tensor, Tensor | None]:
    """Context (1, t, c, h, w) and actions (1, t - 1, a) of a start, as many frames as the model needs."""
    need = model.num_context
    context = torch.from_numpy(start.seen[-need:]).float().div(255)[None]
    if model.actions == "none" or model.spec.actions is None:
        return context, None
    if start.actions is None:
        return context, torch.zeros(1, need - 1, model.spec.action_size)
    return context, start.actions[None, len(start.actions) - (need - 1) :]


def _size(model: Predictor, state: RolloutState) -> tuple[int, int]:
    """Frame size: that of a window of frames in the state, else that of training."""
    window = state.get("context")
    size = (model.spec.height, model.spec.width) if window is None else window.shape[-2:]
    return int(size[0]), int(size[1])


def _check_shapes(model: Predictor, state: RolloutState, action: Tensor | None, name: str) -> None:
    """Refuse a state whose shapes change from step to step: a graph's shapes are fixed."""
    with torch.no_grad():
        new, _ = model.rollout_step(state, action)
    changed = [k for k in sorted(new) if k not in state or new[k].shape != state[k].shape]
    if changed:
        raise UserError(
            f"{name}: cannot be exported as a graph: rollout_step of {type(model).__name__} changes the shape of its "
            f"state ({', '.join(changed)}), which is fixed in a graph"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within: no progress or notes of the exporter."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _graph(module: nn.Module, inputs: tuple[Any, ...], names: list[str], outputs: list[str], run: str) -> Any:
    """ONNX model (a protocol buffer) of a module."""
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                module.eval(), inputs, dynamo=True, input_names=names, output_names=outputs, verbose=False
            )
    except Exception as error:  # any error of a model under tracing
        raise UserError(f"{run}: cannot be exported to ONNX: {obstacle(error)}") from error
    assert program is not None
    return program.model_proto


def obstacle(error: BaseException) -> str:
    """The operation that has no ONNX form, and its line in the model where it is known, from an exporter's error."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    found = next((m for e in chain if (m := re.search(r"op='(\w+)\.([\w.]+)'", str(e)))), None)
    if found:
        return f"operation {found[1]}.{found[2]} has no ONNX form"
    frames = [frame for e in reversed(chain) for frame in traceback.extract_tb(e.__traceback__)]
    own = [f for f in frames if "torch" not in Path(f.filename).parts and Path(f.filename) != Path(__file__)]
    if own:
        place = Path(own[-1].filename)
        return f"{place.parent.name}/{place.name}, line {own[-1].lineno}: {own[-1].line!r} cannot be traced"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _strip(part: Any) -> None:
    """Remove the exporter's notes from a protocol buffer and all its parts: they name files of this machine."""
    for name in ("doc_string", "metadata_props"):
        if name in part.DESCRIPTOR.fields_by_name:
            part.ClearField(name)
    for field, value in part.ListFields():
        if field.message_type is not None and field.name != "initializer":
            for inner in value if isinstance(value, Sequence) else [value]:
                _strip(inner)


def _save(graph: Any, path: Path, half: bool) -> None:
    """Write a graph, its large float32 weights as float16 with `half`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    _strip(graph)
    if half:
        casts = []
        for weight in graph.graph.initializer:
            values = numpy_helper.to_array(weight)
            if values.dtype == np.float32 and values.size >= _LARGE and np.abs(values).max() < np.finfo(np.float16).max:
                narrow = numpy_helper.from_array(values.astype(np.float16), f"{weight.name}_float16")
                casts.append(helper.make_node("Cast", [narrow.name], [weight.name], to=TensorProto.FLOAT))
                weight.CopyFrom(narrow)
        nodes = [*casts, *graph.graph.node]
        del graph.graph.node[:]
        graph.graph.node.extend(nodes)
    onnx.save(graph, str(path))
