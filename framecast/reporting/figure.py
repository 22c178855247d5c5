"""Drawing of a model: every layer with its name, kind, kernel, channels and output size.

All of it is read from the built model by forward hooks on the leaf layers, for one random batch through the losses and
`predict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

import torch
from torch import Tensor, nn

from framecast.core.types import Batch, ClipSpec
from framecast.models.base import Predictor

#: Fill and line of a layer's box, by the first word found in its kind.
COLOURS = {
    "Conv": ("#dbe9fb", "#3b76c4"),
    "Linear": ("#fde6cf", "#c9772b"),
    "Pool": ("#dcf1df", "#3d9150"),
    "Norm": ("#ece3f8", "#7d55b8"),
    "LSTM": ("#d8f0ef", "#2b8f8b"),
    "GRU": ("#d8f0ef", "#2b8f8b"),
    "": ("#eef0f2", "#7a828c"),
}
#: Layers without weights that are written behind the previous layer instead of into a box.
TAGS = ("ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Tanh", "Sigmoid", "Softplus", "Dropout", "Dropout2d")

COLUMN, GAP, MARGIN, ROW, GLYPH = 276, 18, 28, 58, 84
#: Characters of a layer's first line that fit beside its glyph.
WORDS = 21
PER_ROW = 4


@dataclass
class Layer:
    """One leaf layer that ran.

    Attributes:
        name: In the model.
        kind: Class name.
        detail: Kernel, stride and channels.
        out: Shape of its first output, without the batch axis.
        parameters: Number of parameters.
        tags: Following layers without weights.
    """

    name: str
    kind: str
    detail: str
    out: tuple[int, ...]
    parameters: int
    tags: list[str] = field(default_factory=list)


@dataclass
class Column:
    """Layers of one part, in the order in which they ran."""

    name: str
    parameters: int
    layers: list[Layer] = field(default_factory=list)


def draw_model(model: Predictor, clip: ClipSpec, title: str = "") -> str:
    """The model as SVG: one section per sub-network, one column per part of it, one box per layer.

    The width of a box grows with the number of channels, its height with the resolution, both on a log scale.

    Args:
        model: Built model.
        clip: Frames to draw it for; a model that trains on crops is drawn for its crops.
        title: Name of the model; empty is its class name.

    Returns:
        Self-contained SVG text.
    """
    seen = watch(model, clip)
    sections = [(name, part, _columns(name, part, seen, model.count)) for name, part in model.subnetworks().items()]
    total = model.count(model)
    body: list[str] = []
    width = 2 * MARGIN + PER_ROW * COLUMN + (PER_ROW - 1) * GAP
    request = model.request(model.config)
    h, w = request.crop or request.resize or (clip.height, clip.width)
    y: float = MARGIN + 24
    body.append(_text(MARGIN, y, title or type(model).__name__, "title"))
    body.append(_text(width - MARGIN, y, f"{total:,} parameters", "total", anchor="end"))
    y += 22
    frames = f"{request.context} context {_plural(request.context, 'frame')}, {request.future} predicted"
    body.append(_text(MARGIN, y, f"{frames}, {clip.channels} × {h} × {w}", "note"))
    if model.paper:
        y += 18
        body.append(_text(MARGIN, y, model.paper, "note"))
    if not total:
        y += 30
        body.append(_text(MARGIN, y, "No layers: there is nothing to train.", "name"))
    for name, part, columns in sections:
        y += 26
        drawn, height = _section(name, model.count(part), columns, y, width)
        body += drawn
        y += height
    return _page(width, y + MARGIN, body)


def watch(model: Predictor, clip: ClipSpec) -> dict[str, Layer]:
    """Every leaf layer that runs in the losses and in `predict`, by name, in the order of the first run.

    Mode, weights and the global random state are unchanged.
    """
    seen: dict[str, Layer] = {}
    leaves = {name: layer for name, layer in model.named_modules() if name and not any(layer.children())}
    handles = [layer.register_forward_hook(_recorder(name, seen, model.count)) for name, layer in leaves.items()]
    training = model.training
    try:
        with torch.random.fork_rng(devices=[]):
            model.eval()
            batch = _random_batch(model, clip)
            for phase in model.phases():
                phase.loss(batch, 0)
            model.predict(batch.context, 1, actions=_until(batch.actions, model.num_context))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return seen


def _recorder(name: str, seen: dict[str, Layer], size: Callable[[nn.Module], int]) -> Any:
    def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        first = output if isinstance(output, Tensor) else next((x for x in output if isinstance(x, Tensor)), None)
        if name not in seen and first is not None:
            seen[name] = Layer(name, type(layer).__name__, _detail(layer), tuple(first.shape[1:]), size(layer))

    return hook


def _detail(layer: nn.Module) -> str:
    """Kernel, stride, and input and output channels of a layer, as text."""
    words: list[str] = []
    kernel = getattr(layer, "kernel_size", None)
    if kernel is not None:
        words.append("×".join(map(str, kernel if isinstance(kernel, tuple) else (kernel, kernel))))
    stride = getattr(layer, "stride", None)
    if isinstance(stride, tuple):
        stride = stride[0] if len(set(stride)) == 1 else "×".join(map(str, stride))
    if stride not in (None, 1, kernel):
        words.append(f"/{stride}")
    for a, b in (("in_channels", "out_channels"), ("in_features", "out_features"), ("input_size", "hidden_size")):
        if hasattr(layer, a) and hasattr(layer, b):
            words.append(f"{getattr(layer, a):,} → {getattr(layer, b):,}")
            break
    return " ".join(words)


def _random_batch(model: Predictor, clip: ClipSpec) -> Batch:
    request = model.request(model.config)
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    h, w = request.crop or request.resize or (clip.height, clip.width)
    window = torch.rand(2, request.length, clip.channels, h, w, device=device)
    actions = None
    if clip.actions is not None and model.actions != "none":
        actions = torch.zeros(2, request.length - 1, clip.action_size, device=device)
    count, leads = request.future, None
    if request.targets is not None:
        count = request.targets.count * request.targets.length
        leads = (torch.arange(count, device=device) % request.future + request.target_offset).repeat(2, 1)
    return Batch(
        context=window[:, : request.context],
        future=window[:, (torch.arange(count) % max(request.future, 1)) + request.future_start],
        actions=actions,
        lead_times=leads,
        extras={
            name: torch.zeros(2, request.length, *clip.extras.get(name, ()), device=device) for name in request.extras
        },
    )


def _until(actions: Tensor | None, frames: int) -> Tensor | None:
    return None if actions is None else actions[:, :frames]


def _columns(prefix: str, part: nn.Module, seen: dict[str, Layer], size: Callable[[nn.Module], int]) -> list[Column]:
    """The part's layers in columns: one per child, or per numbered grandchild where children are lists."""
    columns: dict[str, Column] = {}
    path = {id(module): name for name, module in part.named_modules()}
    for name, module in _ran(part, seen, prefix):
        pieces = path[id(module)].split(".")
        depth = (
            2 if len(pieces) > 2 and pieces[1].isdigit() else 1 if len(pieces) > 1 and not pieces[0].isdigit() else 0
        )
        key = ".".join(pieces[:depth])
        if key not in columns:
            owner = part.get_submodule(key) if key else part
            columns[key] = Column(key, size(owner))
        layer, before = seen[name], columns[key].layers
        if layer.kind in TAGS and before:
            before[-1].tags.append(layer.kind)
        else:
            before.append(Layer(".".join(pieces[depth:]), layer.kind, layer.detail, layer.out, layer.parameters))
    return list(columns.values())


def _ran(part: nn.Module, seen: dict[str, Layer], prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """(name in the model, layer) of the part's leaves that ran, in running order."""
    own = dict(part.named_modules())
    for name in seen:
        if name == prefix:
            yield name, part
        elif name.startswith(f"{prefix}."):
            yield name, own[name[len(prefix) + 1 :]]


# ------------------------------------------------------------------------------------------------------- drawing


def _section(name: str, count: int, columns: Sequence[Column], y: float, width: int) -> tuple[list[str], float]:
    body = [
        f'<line x1="{MARGIN}" y1="{y}" x2="{width - MARGIN}" y2="{y}" stroke="#c9ced6"/>',
        _text(MARGIN, y + 26, name.replace("_", " "), "section"),
        _text(width - MARGIN, y + 26, f"{count:,} parameters", "count", anchor="end"),
    ]
    top = y + 42
    for start in range(0, len(columns), PER_ROW):
        row = columns[start : start + PER_ROW]
        for i, column in enumerate(row):
            body += _column(column, MARGIN + i * (COLUMN + GAP), top)
        top += 44 + ROW * max(len(column.layers) for column in row) + GAP
    return body, top - y


def _column(column: Column, x: float, y: float) -> list[str]:
    height = 44 + ROW * len(column.layers)
    body = [
        f'<rect x="{x}" y="{y}" width="{COLUMN}" height="{height}" rx="8" fill="#fafbfc" stroke="#e1e5ea"/>',
        _text(x + 14, y + 24, column.name or "layers", "name"),
        _text(x + COLUMN - 14, y + 24, f"{column.parameters:,}", "count", anchor="end"),
    ]
    y += 38
    centre = x + 14 + GLYPH / 2
    for i, layer in enumerate(column.layers):
        fill, line = next(colour for word, colour in COLOURS.items() if word in layer.kind)
        w, h = _glyph(layer.out)
        middle = y + ROW / 2
        if i + 1 < len(column.layers):
            end = middle + ROW - _glyph(column.layers[i + 1].out)[1] / 2
            body.append(f'<line x1="{centre}" y1="{middle}" x2="{centre}" y2="{end:.1f}" stroke="#9aa3ae"/>')
        body.append(
            f'<rect x="{centre - w / 2:.1f}" y="{middle - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}" rx="3" '
            f'fill="{fill}" stroke="{line}"/>'
        )
        left = x + 14 + GLYPH + 12
        body.append(_text(left, middle - 13, f"{layer.kind} {layer.detail}".strip(), "kind", room=WORDS))
        body.append(_text(left, middle + 2, " × ".join(map(str, layer.out)), "shape"))
        count = f"{layer.parameters:,} par." if layer.parameters else ""
        small = " · ".join(word for word in (layer.name, *layer.tags, count) if word)
        body.append(_text(left, middle + 16, small, "small"))
        y += ROW
    return body


def _glyph(shape: Sequence[int]) -> tuple[float, float]:
    """Width by channels, height by resolution; both grow with the logarithm and are bounded."""
    channels = shape[-3] if len(shape) >= 3 else shape[-1] if shape else 1
    side = math.sqrt(shape[-1] * shape[-2]) if len(shape) >= 3 else 1.0
    wide = 10 + 7.4 * math.log2(channels + 1)
    high = 8 + 5.2 * math.log2(side)
    return min(wide, float(GLYPH)), min(high, ROW - 10.0)


def _text(x: float, y: float, text: str, style: str, anchor: str = "start", room: int | None = None) -> str:
    """room: characters that fit at the style's own size; a longer text is written smaller."""
    small = f' style="font-size:{12.5 * room / len(text):.1f}px"' if room is not None and len(text) > room else ""
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}"{small}>{escape(text)}</text>'


def _plural(number: int, word: str) -> str:
    return word if number == 1 else f"{word}s"


def _page(width: float, height: float, body: Sequence[str]) -> str:
    style = (
        "text{font-family:Inter,'Helvetica Neue',Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#1d2530}"
        ".title{font-size:24px;font-weight:700}.total{font-size:17px;font-weight:600}"
        ".note{font-size:13px;fill:#57616e}.section{font-size:18px;font-weight:600}"
        ".count{font-size:13px;fill:#57616e}.name{font-size:14px;font-weight:600}"
        ".kind{font-size:12.5px;font-weight:600}.shape{font-size:12.5px}.small{font-size:10.5px;fill:#57616e}"
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img">'
    )
    background = f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>'
    return "\n".join([head, f"<style>{style}</style>", background, *body, "</svg>"]) + "\n"
