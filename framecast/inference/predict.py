"""Prediction for a file: read its last frames, roll the model out, write the video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.io import file_text, parse_json
from framecast.core.memory import require_memory
from framecast.core.npy import map_npy
from framecast.core.remote import is_address
from framecast.core.tables import read_table
from framecast.core.types import ActionSpec, ClipRequest
from framecast.data.base import Source
from framecast.data.open import kind_of, open_path
from framecast.data.options import ReadOptions
from framecast.data.writer import is_store
from framecast.media.animation import ANIMATION_SUFFIXES, is_animation
from framecast.media.cuts import find_cuts
from framecast.media.grid import as_rgb, border, heat_map
from framecast.media.images import is_image, read_image, to_uint8
from framecast.media.resize import Fit, parse_size, resize_frames
from framecast.media.video import VIDEO_SUFFIXES, iter_frames, probe
from framecast.media.write import write_video
from framecast.metrics.ensemble import sample_interval
from framecast.models.base import Predictor
from framecast.models.rollout import rollout
from framecast.training.run_folder import Run

#: Border colours of context and predicted frames.
SEEN, FORECAST = (46, 160, 67), (218, 54, 51)

#: Samples of a stochastic model from which the width of an interval is computed, at least.
SPREAD_SAMPLES = 16
#: Width of an interval, in values of 0…1, at which the map of the uncertainty is fully coloured.
FULL_WIDTH = 0.5
_ACTION_BYTES = 1 << 26  # largest size of an action file


@dataclass(frozen=True)
class Written:
    """Result of `predict_file`.

    Attributes:
        path: written video.
        context: number of context frames.
        frames: number of predicted frames.
        size: frame size (h, w), px.
        fps: frame rate, 1/s.
        note: remark on size and samples.
        views: further videos by name.
    """

    path: Path
    context: int
    frames: int
    size: tuple[int, int]
    fps: float
    note: str
    views: dict[str, Path] = field(default_factory=dict)


def predict_file(
    run: Run,
    source: str | Path | None,
    out: str | Path,
    horizon: int,
    *,
    at: str = "end",
    samples: int = 1,
    actions: str | Path | None = None,
    size: str | None = None,
    axes: str | None = None,
    seed: int = 0,
    views: bool = False,
    uncertainty: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
    shares: Sequence[float] | None = None,
) -> Written:
    """Video of the context in a green border followed by the prediction in a red border.

    Args:
        run: trained run.
        source: video, folder of frames, array (.npy, .npz), STORE/NAME for a video of a packed store or, with one
            context frame, an image; frames are assumed to have the training frame rate. None starts from uniform noise.
        out: .gif, .webp, .mp4, … or a folder of PNGs, at the frame rate of the input.
        horizon: number of predicted frames.
        at: start of the prediction: "end", a frame number, or seconds such as "2.5s".
        samples: number of samples of a stochastic model, shown side by side.
        actions: file with context + horizon - 1 actions, see `read_actions`.
        size: "128" (shorter side) or "96x128"; None uses the training size.
        axes: order of an array's axes, such as thwc; None those of the training data, else found by their sizes.
        seed: random seed for sampling.
        views: also write the model's further views of the prediction beside `out`.
        uncertainty: also write the forecast under a map of the width of the interval that holds 90 % of the true
            values, the model's own or that of `SPREAD_SAMPLES` samples; nothing for a model without either.
        device: torch device.
        precision: autocast precision.
        shares: shares in 0…1 by which a model with `shares` scales its change from the last frame further, by lead
            time; their mean at later lead times. None changes nothing.

    Raises:
        UserError: the file cannot be read or is too short, or the model cannot take its frames.
    """
    model = run.model(device)
    if shares:
        _scale(model, shares)
    axes = axes or run.config.data.axes
    request = run.model_class.request(run.config.model)
    context_length = model.num_context if source is None else _context_length(model, request, Path(source), at, axes)
    table = _action_table(run, model, actions, context_length + horizon - 1)
    need = (context_length - 1) * request.stride + 1
    wanted, fit, how = _wanted(run, size)
    rate = run.config.spec.fps
    if source is None:
        frames, fps, note = _noise(run, context_length, seed), rate, "starts from noise"
    else:
        more = horizon if views else 0
        frames, fps, whole = _read_context(Path(source), need, at, request.stride, wanted, fit, rate, more, axes)
        frames = _channels(frames, run.config.spec.channels, source)
        note = f"frames brought from {whole[0]}x{whole[1]} to {frames.shape[2]}x{frames.shape[3]}, {how}"
        if frames.shape[2:] == whole:
            note = f"frames kept at {whole[0]}x{whole[1]}"
    shown = (frames.shape[2], frames.shape[3])
    if samples > 1 and not model.stochastic:
        samples, note = 1, f"{note}; {run.config.name} is deterministic, so there is one sample"
    frames, known = frames[:context_length], frames[context_length:]
    cut, remark = (0, "") if source is None else _after_cut(frames, model)
    frames, table, note = frames[cut:], None if table is None else table[:, cut:], note + remark
    context = torch.from_numpy(frames)[None]
    floats = frames[0].size * (samples * horizon + 3 * len(frames))  # the forecast; the context, its copy and sources
    floats *= 2 if views or uncertainty else 1
    require_memory(4 * floats, f"{horizon} frames of {shown[0]}x{shown[1]} px", "use --size or a smaller --horizon")
    given = (context, horizon, table)

    def futures(count: int) -> torch.Tensor:
        """The same random numbers on every call."""
        return rollout(model, *given, count, torch.Generator(torch.device(device)).manual_seed(seed), precision)

    try:
        future = futures(samples)
    except ValueError as error:
        raise UserError(f"{run.folder if source is None else source}: {error}") from error
    rate = fps / request.stride
    path = write_video(_bordered(frames, future[:, 0]), Path(out), rate)
    made: dict[str, Path] = {}
    if views or uncertainty:
        found = model.views(*given, torch.from_numpy(known)[None])
        width = found.pop("uncertainty", None)
        if views:
            made = _write_views(found, path, rate)
            note = note if made or width is not None else f"{note}; {run.config.name} has no further views"
        if uncertainty and width is None and model.stochastic:
            width = _width_of_samples(futures(max(samples, SPREAD_SAMPLES)))
        if width is not None:
            made["uncertainty"] = _write_uncertainty(future[0, 0], width[0, :, 0], path, rate)
    return Written(path, len(frames), horizon, shown, rate, note, made)


def _bordered(seen: np.ndarray, future: torch.Tensor) -> Iterator[np.ndarray]:
    """Frames of the film, uint8 (3, h, w): context (t, c, h, w), then samples (n, t, c, h, w) side by side."""
    for frame in seen:
        yield np.concatenate([border(frame[None], SEEN)[0]] * len(future), axis=2)
    for frames in future.unbind(1):
        yield np.concatenate([border(to_uint8(frame)[None], FORECAST)[0] for frame in frames], axis=2)


def _context_length(model: Predictor, request: ClipRequest, source: Path, at: str, axes: str | None) -> int:
    """Number of context frames: the model's, or as many as a shorter video has where the model takes fewer."""
    if model.min_context == model.num_context:
        return model.num_context
    there = -(-_frames_before(source, at, request.stride * model.num_context, axes) // request.stride)
    return max(model.min_context, min(model.num_context, there))


def _width_of_samples(futures: torch.Tensor) -> torch.Tensor:
    """Width (b, t, 1, h, w) of the interval that holds 90 % of samples (n, b, t, c, h, w), mean over channels."""
    lower, upper = sample_interval(futures)
    return (upper - lower).mean(2, keepdim=True)


def _write_uncertainty(forecast: torch.Tensor, width: torch.Tensor, path: Path, rate: float) -> Path:
    """Video beside `path` of a forecast (t, c, h, w) under a map of the width of its intervals (t, h, w)."""
    under = heat_map(as_rgb(forecast.cpu()), width.cpu().numpy() / FULL_WIDTH)
    return write_video(under, path.with_name(f"{path.stem}-uncertainty{path.suffix}"), rate)


def _after_cut(frames: np.ndarray, model: Predictor) -> tuple[int, str]:
    """First context frame after the last shot cut, 0 where the model needs the frames before it too; and a remark."""
    cut = max(find_cuts(frames), default=0)
    if not cut:
        return 0, ""
    after = len(frames) - cut
    if after >= model.min_context:
        return cut, f"; a cut lies {after} frames before the forecast, so only these are its context"
    return 0, f"; a cut lies within the {len(frames)} frames of context, which this model needs"


def _write_views(views: Mapping[str, torch.Tensor], path: Path, rate: float) -> dict[str, Path]:
    """View -> video file beside `path`."""
    made: dict[str, Path] = {}
    for name, video in views.items():
        plain = to_uint8(video[0].cpu())
        plain = plain.repeat(3, 1) if plain.shape[1] == 1 else plain
        made[name] = write_video(plain, path.with_name(f"{path.stem}-{name}{path.suffix}"), rate)
    return made


def _scale(model: Predictor, shares: Sequence[float]) -> None:
    """Multiply the model's shares by these, at later lead times by their mean."""
    own = getattr(model, "shares", None)
    if isinstance(own, torch.Tensor):
        further = torch.full_like(own, sum(shares) / len(shares))
        further[: len(shares)] = torch.tensor(shares[: len(own)])
        own.mul_(further)


def _action_table(run: Run, model: Predictor, actions: str | Path | None, count: int) -> np.ndarray | None:
    name, spec = run.config.name, model.spec.actions
    if actions is None:
        if model.actions == "required":
            raise UserError(f"{name} predicts from actions; give --actions FILE with {count} of them")
        return None
    if model.actions == "none" or spec is None:
        raise UserError(f"{actions}: {name} in {run.label} takes no actions; remove --actions")
    return read_actions(Path(actions), spec, count)


def _read_context(
    path: Path,
    need: int,
    at: str,
    stride: int,
    size: str | None,
    fit: Fit,
    rate: float,
    more: int = 0,
    axes: str | None = None,
) -> tuple[np.ndarray, float, tuple[int, int]]:
    """The frames before `at`, every stride-th: uint8 (t, c, h, w), the file's rate and its own frame size. With up to
    `more` of those after it, as far as there are some."""
    length = (need - 1) // stride + 1
    store = next((parent for parent in path.parents if is_store(parent)), None) if not path.exists() else None
    if store is not None or _is_source(path):
        source = open_path(store or path, ReadOptions(fps=None if store or is_store(path) else rate, axes=axes))
        video = find_video(source, path, store)
        start = _start(at, source.spec.fps, int(source.lengths[video]), need, path)
        length += min(more, (int(source.lengths[video]) - start - need) // stride)
        clip = source.clip(video, start, length, stride)
        whole = (clip.frames.shape[2], clip.frames.shape[3])
        frames = np.array(resize_frames(clip.frames, parse_size(size), fit) if size else clip.frames)  # a copy
        return frames, clip.fps * stride, whole
    if is_address(path):
        raise UserError(f"{path} is an address; download it and give the file")
    if not path.exists():
        near = suggest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise UserError(f"{path}: no such file; {near}")
    if _is_still(path):
        if length > 1:
            raise UserError(
                f"{path}: got one image, the model uses {length} frames; give a video or a folder of frames"
            )
        picture = read_image(path)[None]
        shown = resize_frames(picture, parse_size(size), fit) if size else picture
        return shown, rate, (picture.shape[2], picture.shape[3])
    info = probe(path)
    start = _start(at, info.fps, info.frames, need, path)
    length += min(more, (info.frames - start - need) // stride)
    decoded = iter_frames(path, parse_size(size) if size else None, fit, start=start, length=length, stride=stride)
    return np.stack(list(decoded)), info.fps, (info.height, info.width)


def read_past(
    path: Path, at: str, side: int, limit: int, channels: int, axes: str | None = None
) -> tuple[np.ndarray, float]:
    """The frames of a video before `at`.

    Args:
        path: as the source of `predict_file`.
        at: as in `predict_file`.
        side: shorter side to which larger frames are reduced, px.
        limit: most frames, the last ones.
        channels: of the model.
        axes: as in `predict_file`.

    Returns:
        uint8 (t, c, h, w), and frames per second.
    """
    frames, rate, (height, width) = _read_context(path, 1, at, 1, None, "crop", 30.0, axes=axes)
    size = str(side) if min(height, width) > side else None
    many = _frames_before(path, at, limit, axes)
    if many > 1:
        frames, rate, _ = _read_context(path, many, at, 1, size, "crop", rate, axes=axes)
    elif size is not None:
        frames = resize_frames(frames, parse_size(size), "crop")
    return np.ascontiguousarray(_channels(frames, channels, path)), rate


def _is_source(path: Path) -> bool:
    """Whether a path is a folder, or a file that is opened like training data: arrays, HDF5, records."""
    return path.is_dir() or (path.is_file() and not _is_still(path) and kind_of(path) != "videos")


def _is_still(path: Path) -> bool:
    """Whether a file is an image of one frame."""
    suffix = path.suffix.lower()
    return suffix not in VIDEO_SUFFIXES and is_image(path) and not (suffix in ANIMATION_SUFFIXES and is_animation(path))


def _frames_before(path: Path, at: str, limit: int, axes: str | None = None) -> int:
    """Number of frames before `at`, at most `limit`."""
    store = next((parent for parent in path.parents if is_store(parent)), None) if not path.exists() else None
    if store is not None or _is_source(path):
        source = open_path(store or path, ReadOptions(axes=axes))
        frames, fps = int(source.lengths[find_video(source, path, store)]), source.spec.fps
    elif _is_still(path):
        return 1
    else:
        info = probe(path)
        frames, fps = info.frames, info.fps
    return min(limit, _start(at, fps, frames, 1, path) + 1)


def find_video(source: Source, path: Path, store: Path | None) -> int:
    """Which of a source's videos is meant: the only one, or in a packed store that of the name behind its path."""
    if store is not None:
        name = path.relative_to(store).as_posix()
        if name not in source.names:
            raise UserError(f"{path}: {store} holds no video {name!r}; {suggest(name, source.names)}")
        return list(source.names).index(name)
    if len(source) != 1:
        names = ", ".join(list(source.names)[:5])
        how = f"name one behind it, e.g. --input {path / source.names[0]}" if is_store(path) else "give one of them"
        raise UserError(f"{path}: holds {len(source)} videos ({names}{', …' * (len(source) > 5)}); {how}")
    return 0


def _start(at: str, fps: float, length: int, need: int, path: Path) -> int:
    """First frame of a context of `need` frames that ends before `at`."""
    try:
        end = length if at == "end" else round(float(at[:-1]) * fps) if at.endswith("s") else int(at)
    except (ValueError, OverflowError):
        raise UserError(f"--at {at!r} is not understood; use end, a frame number or seconds such as 2.5s") from None
    if not 0 <= end <= length:
        raise UserError(f"{path}: --at {at} lies outside its {length} frames ({length / fps:.1f} s)")
    if end < need:
        raise UserError(f"{path}: the model uses {need} frames but only {end} come before the forecast")
    return end - need


def _noise(run: Run, count: int, seed: int) -> np.ndarray:
    """Context of uniform noise, uint8 (t, c, h, w)."""
    spec = run.config.spec
    return np.random.default_rng(seed).integers(0, 256, (count, spec.channels, spec.height, spec.width), np.uint8)


def _wanted(run: Run, size: str | None) -> tuple[str | None, Fit, str]:
    """Target size, fit, and their description."""
    resize = run.model_class.request(run.config.model).resize
    if resize is not None:
        return f"{resize[0]}x{resize[1]}", "squash", "the size the model takes"
    if (own := run.frame_size) is not None and (size is not None or run.config.data.trained_size is None):
        return f"{own[0]}x{own[1]}", run.config.data.fit, "the size the model takes"
    if size is not None:
        return size, run.config.data.fit, "as asked"
    return run.config.data.trained_size, run.config.data.fit, "as in training"


def _channels(frames: np.ndarray, wanted: int, path: str | Path) -> np.ndarray:
    if frames.shape[1] == wanted:
        return frames
    if wanted == 3 and frames.shape[1] == 1:
        return np.repeat(frames, 3, axis=1)
    if wanted == 1 and frames.shape[1] == 3:
        grey: np.ndarray = np.round(frames.mean(axis=1, keepdims=True)).astype(np.uint8)
        return grey
    raise UserError(f"{path}: its frames have {frames.shape[1]} channels but the model was trained on {wanted}")


def read_actions(path: Path, spec: ActionSpec, count: int) -> np.ndarray:
    """Actions of a JSON list, CSV or .npy file as model input, float32 (1, count, a).

    Discrete actions are indices or names; continuous actions are rows of numbers, standardised as in training.
    """
    rows = _action_rows(path)
    if len(rows) < count:
        raise UserError(f"{path}: holds {len(rows)} actions, {count} are needed (context + horizon - 1)")
    if spec.kind == "discrete":
        out = np.zeros((1, count, spec.size), np.float32)
        for i, row in enumerate(rows[:count]):
            out[0, i, _action_index(row, spec, path)] = 1
        return out
    from framecast.data.loader import standardise

    try:
        values = np.asarray(rows[:count], np.float32)
    except (ValueError, TypeError):
        raise UserError(f"{path}: actions must be rows of {spec.size} numbers; some are of another kind") from None
    values = values[:, None] if values.ndim == 1 else values
    if values.shape != (count, spec.size) or not np.isfinite(values).all():
        raise UserError(f"{path}: actions must be rows of {spec.size} finite numbers, got shape {values.shape}")
    return standardise(values, spec)[None]


def _action_rows(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > _ACTION_BYTES:
            raise UserError(f"{path}: is too large for a list of actions; give at most {_ACTION_BYTES >> 20} MB")
        if path.suffix == ".npy":
            return list(np.atleast_1d(map_npy(path)).tolist())
        text = file_text(path)
        if path.suffix == ".json":
            rows = parse_json(text, path)
            if not isinstance(rows, list):
                raise UserError(f"{path}: must hold a list of actions")
            return rows
        _, lines = read_table(text, str(path))
        return [_plain(row[0]) if len(row) == 1 else [float(v) for v in row] for row in lines]
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give --actions a JSON, CSV or .npy file") from None
    except (OSError, ValueError, EOFError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as actions ({error}); give JSON, CSV or .npy") from error


def _plain(text: str) -> int | float | str:
    text = text.strip()
    if text.removeprefix("-").isdecimal():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _action_index(value: Any, spec: ActionSpec, path: Path) -> int:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        if value not in spec.names:
            raise UserError(f"{path}: unknown action {value!r}; {suggest(value, spec.names)}")
        return spec.names.index(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < spec.size:
        raise UserError(f"{path}: {value!r} is not an action; give an index in 0…{spec.size - 1} or a name")
    return value
