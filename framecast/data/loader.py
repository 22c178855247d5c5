"""Batches as a pure function of (seed, step, stream), so that resuming needs no state and processes agree.

There are no worker processes: frames come from memory-mapped arrays, and copying them is faster than passing them
between processes.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Batch, Clip, ClipRequest
from framecast.data.base import Segment, Source
from framecast.data.events import EventWindows
from framecast.data.shard_order import shard_order
from framecast.data.windows import Windows


class Loader:
    """Batches of windows of one split.

    Row i of a batch's actions is the source's action at the source frame of model frame i (with a stride, the first of
    the frames that lead to model frame i + 1), one-hot or standardised.

    Args:
        source: Source of the videos.
        segments: Segments of one split.
        request: Window of the model.
        batch_size: Clips of all processes together.
        seed: Random seed of the draws.
        rank: Index of this process; each process gets its slice of the batch that a single process would draw.
        world: Number of processes.
        order: "random" draws with replacement (video uniform, then start uniform); "epoch" passes once through all
            windows in a seeded order, whose last batch is completed from its beginning; "shards", for stores of format
            2, reads few shards at a time (see `shard_order.py`), about once per epoch.
        latents: Name -> one array (frames, …) per video; batches then hold windows of these, and frames are empty
            along t.
        actions: Action space with mean and std of the training set; by default that of the source.
        lanes: Number of shards that a batch is drawn from, with order "shards".

    Raises:
        UserError: The data contain no such windows, or have no shards.
    """

    def __init__(
        self,
        source: Source,
        segments: Sequence[Segment],
        request: ClipRequest,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        order: Literal["random", "epoch", "shards"] = "random",
        latents: Mapping[str, Sequence[np.ndarray]] | None = None,
        actions: ActionSpec | None = None,
        lanes: int = 8,
    ) -> None:
        if batch_size < 1 or batch_size % world:
            raise UserError(
                f"batch size {batch_size} cannot be shared by {world} processes; give a multiple of {world}"
            )
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in 0…{world - 1}, got {rank}")
        if order not in ("random", "epoch", "shards"):
            raise ValueError(f"order must be 'random', 'epoch' or 'shards', got {order!r}")
        missing = set(request.extras) - set(source.spec.extras)
        if missing:
            raise UserError(
                f"the model needs {', '.join(sorted(missing))} per frame but the data have "
                f"{', '.join(sorted(source.spec.extras)) or 'none'}; give data with them"
            )
        if latents and request.targets is not None:
            raise ValueError("windows of latents are whole; a stage that precomputes latents must not set targets")
        self.windows = Windows(source, segments, request)
        self._events = EventWindows(source, segments, request) if request.events and order == "random" else None
        self.source, self.request, self.batch_size, self.seed, self.order = source, request, batch_size, seed, order
        self.action_spec = source.spec.actions if actions is None else actions
        # Plain views: slicing a memmap object costs ten times as much as slicing an array.
        self.latents = {name: [np.asarray(v) for v in values] for name, values in (latents or {}).items()}
        per_rank = batch_size // world
        self._mine = slice(rank * per_rank, (rank + 1) * per_rank)
        self._shuffled: dict[str, tuple[int, np.ndarray]] = {}
        self._shards = None
        if order == "shards":
            self._shards = shard_order(source, self.windows, batch_size, lanes, seed, self._mine)

    @property
    def num_clips(self) -> int:
        """Number of different windows."""
        return self.windows.count

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch: ceil(windows / batch size)."""
        if self._shards is not None:
            return self._shards.steps_per_epoch
        return -(-self.windows.count // self.batch_size)

    def batch(self, step: int, stream: str = "main") -> Batch:
        """This process's share of the batch of `step`, a function of seed, step and stream.

        Returns:
            CPU tensors, frames uint8.
        """
        words = [self.seed & (2**64 - 1), step, zlib.crc32(stream.encode())]
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
        # One row per clip of the joint batch: the draws of a clip do not depend on the process.
        crops = 2 + self.windows.num_crop_uniforms
        uniforms = rng.random((self.batch_size, crops + self.windows.num_target_uniforms))
        if self._shards is not None:
            videos, starts = self.windows.at(self._shards.numbers(step, stream, self._mine, ahead=True))
        elif self.order == "random":
            videos, starts = self.windows.from_uniform(uniforms[:, :2])
            if self._events is not None:
                videos, starts = self._events.replace(videos, starts, rng.random((self.batch_size, 4)))
        else:
            videos, starts = self.windows.at(self._numbers(step, stream))
        if self._shards is None:
            videos, starts = videos[self._mine], starts[self._mine]
        pairs = list(zip(videos.tolist(), starts.tolist(), strict=True))
        mine = uniforms[self._mine]
        blocks = [self.windows.blocks_from(row) for row in mine[:, crops:]]
        return self._gather(pairs, mine[:, 2:crops] if self.request.crop is not None else None, blocks)

    def gather(self, pairs: Sequence[tuple[int, int]]) -> Batch:
        """A batch of the given (video, start) windows with uncropped frames, for evaluation (see `Windows.fixed`).

        Target blocks of the request are drawn by a generator seeded by video and start, so they are always the same.
        """
        count = self.windows.num_target_uniforms
        blocks = [self.windows.blocks_from(np.random.default_rng(pair).random(count)) for pair in pairs]
        return self._gather(pairs, None, blocks)

    def _numbers(self, step: int, stream: str) -> np.ndarray:
        """Indices of the windows of one batch of an epoch."""
        epoch, at = divmod(step, self.steps_per_epoch)
        if self._shuffled.get(stream, (-1,))[0] != epoch:
            words = [self.seed & (2**64 - 1), epoch, zlib.crc32(stream.encode()), 1]
            self._shuffled[stream] = (epoch, np.random.default_rng(words).permutation(self.windows.count))
        order = self._shuffled[stream][1]
        return order[np.arange(at * self.batch_size, (at + 1) * self.batch_size) % len(order)]

    def _gather(
        self, pairs: Sequence[tuple[int, int]], uniforms: np.ndarray | None, blocks: Sequence[np.ndarray]
    ) -> Batch:
        request, windows = self.request, self.windows
        chosen = request.targets is not None
        latents = {name: torch.from_numpy(self._latent_windows(values, pairs)) for name, values in self.latents.items()}
        if latents and self.action_spec is None and not request.extras:
            return Batch(context=self._no_frames(len(pairs)), future=self._no_frames(len(pairs)), latents=latents)
        read = self.source.clip if latents else None
        clips: list[Clip] = []
        frames: np.ndarray | None = None
        for i, (video, start) in enumerate(pairs):
            if read:
                clips.append(read(video, start, request.length, request.stride))
                continue
            clip = windows.read(video, start, blocks[i] if chosen else None)
            clips.append(clip)
            cut = clip.frames if uniforms is None else windows.crop_from(clip.frames, uniforms[i])
            if frames is None:
                frames = np.empty((len(pairs), *cut.shape), np.uint8)
            elif cut.shape != frames.shape[1:]:
                raise UserError(
                    f"videos {clips[0].name!r} and {clip.name!r} are {frames.shape[3]}x{frames.shape[4]} and "
                    f"{cut.shape[2]}x{cut.shape[3]}, expected one size per batch; use --size"
                )
            frames[i] = cut
        whole = self._no_frames(len(pairs)) if frames is None else torch.from_numpy(frames)
        first = request.context if chosen else request.future_start
        return Batch(
            context=whole[:, : request.context],
            future=whole[:, first:] if chosen else whole[:, first : first + request.future],
            actions=self._actions(clips),
            extras={name: _as_tensor([clip.arrays[name] for clip in clips]) for name in request.extras},
            latents=latents,
            lead_times=torch.from_numpy(windows.lead_times(np.stack(blocks))) if chosen else None,
        )

    def _no_frames(self, size: int) -> Tensor:
        spec = self.source.spec
        height, width = self.request.resize or (spec.height, spec.width)
        return torch.zeros((size, 0, spec.channels, height, width), dtype=torch.uint8)

    def _latent_windows(self, values: Sequence[np.ndarray], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        length, stride = self.request.length, self.request.stride
        return np.stack([values[v][s : s + (length - 1) * stride + 1 : stride] for v, s in pairs])

    def _actions(self, clips: Sequence[Clip]) -> Tensor | None:
        spec = self.action_spec
        if spec is None:
            return None
        rows = np.stack([clip.arrays["actions"][: self.request.length - 1] for clip in clips])
        if spec.kind == "discrete":
            if rows.size and not 0 <= rows.min() <= rows.max() < spec.size:
                raise UserError(f"an action index in the batch of {clips[0].name!r} is not in 0…{spec.size - 1}")
            return torch.from_numpy(np.eye(spec.size, dtype=np.float32)[rows])
        return torch.from_numpy(standardise(rows, spec))


def standardise(actions: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Standardised continuous actions (…, a), float32; unchanged where the spec has no mean.

    A constant dimension (std 0) is only centred.
    """
    if not spec.mean:
        return actions.astype(np.float32)
    std = np.asarray(spec.std)
    scaled: np.ndarray = (actions - np.asarray(spec.mean)) / np.where(std > 0, std, 1)
    return scaled.astype(np.float32)


def action_statistics(source: Source, segments: Sequence[Segment]) -> ActionSpec | None:
    """The source's action space with mean and std over `segments` (those of train); discrete or no actions unchanged.

    Returns:
        std is the population standard deviation (divided by n), computed in float64.
    """
    spec = source.spec.actions
    if spec is None or spec.kind == "discrete":
        return spec
    blocks, rows = [], getattr(source, "rows", None)
    for s in segments:
        for start in range(s.start, s.stop, 256):
            length = min(256, s.stop - start)
            arrays = rows(s.video, start, length) if rows else source.clip(s.video, start, length).arrays
            blocks.append(arrays["actions"])
    values = np.concatenate(blocks).astype(np.float64)
    mean, std = values.mean(0), values.std(0)
    return replace(spec, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def _as_tensor(arrays: Sequence[np.ndarray]) -> Tensor:
    """Stacked arrays: floats as float32, integers unchanged or in the next wider type that torch supports."""
    stacked = np.stack(arrays)
    wider = {"f2": "f4", "f8": "f4", "u2": "i4", "u4": "i8", "u8": "i8"}
    kind = stacked.dtype.str[1:]
    return torch.from_numpy(stacked.astype(wider.get(kind, kind), copy=False))
