"""Held-out clips of a split, and the checks that a run fits the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Batch, ClipRequest
from framecast.data.base import Segment, Source, rank_by_hash
from framecast.data.digest import data_digest, same_content
from framecast.data.loader import Loader
from framecast.data.splits import choose, split_rule
from framecast.training.config import check_actions
from framecast.training.run_folder import Run

#: Default number of predicted frames.
HORIZON = 64
#: Split of all videos, for data that no run was trained on.
ALL = "all"


@dataclasses.dataclass
class Clips:
    """Evaluation clips, in batches; can be iterated repeatedly.

    Attributes:
        loader: Loads the clips.
        pairs: (video, first frame) of every clip.
        size: Clips per batch.
    """

    loader: Loader
    pairs: list[tuple[int, int]]
    size: int = 8

    def __iter__(self) -> Iterator[Batch]:
        for i in range(0, len(self.pairs), self.size):
            yield self.loader.gather(self.pairs[i : i + self.size])

    def batches(self) -> list[range]:
        """Numbers of the clips of every batch."""
        return [range(i, min(i + self.size, len(self.pairs))) for i in range(0, len(self.pairs), self.size)]

    @property
    def names(self) -> list[str]:
        """Video and first frame of every clip."""
        return [f"{self.loader.source.names[v]} @ {s}" for v, s in self.pairs]

    @property
    def groups(self) -> list[str]:
        """The video of every clip; the episode, where several cameras recorded one."""
        source = self.loader.source
        episodes = getattr(source, "groups", None) or {}
        return [episodes.get(source.names[v], source.names[v]) for v, _ in self.pairs]


def check_fit(run: Run, source: Source, where: str) -> None:
    """Check that the run's model can take the frames and actions of some data.

    Raises:
        UserError: For other channels or actions than the training data's.
    """
    check_actions(run.model_class, source, where)
    spec = run.config.spec
    if source.spec.channels != spec.channels:
        raise UserError(
            f"{where}: its frames have {source.spec.channels} channels but {run.label} was trained on "
            f"{spec.channels}; use data of the same kind"
        )
    # a model that was trained without actions leaves those of the data out
    given = source.spec.action_size
    if run.model_class.actions != "none" and spec.action_size and given != spec.action_size:
        raise UserError(
            f"{where}: {f'has {given}' if given else 'is without'} actions but {run.label} was trained "
            f"on {spec.action_size}; use data of the same kind"
        )


def rule_of(source: Source, request: ClipRequest, split: str = "test") -> str:
    """Division of the videos, in words."""
    if split == ALL:
        return "every video: no run was trained on these data"
    rule = getattr(source, "split_rule", None)
    return str(rule(request.source_length)) if rule else split_rule(source.names, source.lengths, request.source_length)


def held_out_clips(
    source: Source,
    request: ClipRequest,
    split: str,
    context: int,
    horizon: int | None,
    clips: int,
    seed: int,
    actions: ActionSpec | None = None,
) -> Clips:
    """Clips of a split, spread over it: whole frames, `context` + `horizon` long.

    The split equals that of training: it depends on the model's window, not on the horizon.

    Args:
        source: Data.
        request: Window of the model.
        split: See `split_segments`.
        context: Frames before the forecast.
        horizon: Frames to predict; None is 64, or half of what the longest video leaves.
        clips: Maximum number of clips.
        seed: Random seed for clip selection.
        actions: Action specification of the run.

    Raises:
        UserError: When no video is long enough.
    """
    segments = split_segments(source, split, [request.source_length])
    longest = _longest(segments, request.stride)
    wanted = _ahead(horizon, longest - context)
    if wanted < 1 or context + wanted > longest:
        raise UserError(
            f"the {split} split's longest video has {longest} frames at stride {request.stride}, too few for {context} "
            f"of context and a horizon of {max(wanted, 1)}; use --horizon {max(longest - context, 1)} or less"
        )
    loader = Loader(
        source,
        segments,
        request.consecutive(context, wanted),
        1,
        seed,
        actions=actions if source.spec.actions else None,
    )
    return Clips(loader, loader.windows.fixed(clips, seed))


def split_segments(source: Source, split: str, windows: Sequence[int]) -> list[Segment]:
    """Segments that belong to a split for every one of several models, whose windows decide where a video is cut in
    time.

    Args:
        source: Data.
        split: train, val, test, a named part of one (see `splits.choose`), or all.
        windows: Source frames of a training clip, one per model.

    Raises:
        UserError: For another split.
    """
    if split == ALL:
        return [Segment(i, 0, int(n)) for i, n in enumerate(source.lengths)]
    common: dict[int, Segment] = {}
    for i, window in enumerate(dict.fromkeys(windows)):
        found = {s.video: s for s in choose(source, split, window)}
        if i == 0:
            common = found
            continue
        common = {
            v: Segment(v, max(s.start, found[v].start), min(s.stop, found[v].stop))
            for v, s in common.items()
            if v in found
        }
    return [s for s in common.values() if s.stop > s.start]


def take_part(source: Source, segments: Sequence[Segment], part: str | None) -> list[Segment]:
    """One part of the held-out videos: "1/2" and "2/2" are disjoint. Fewer videos than parts are cut in time.

    Raises:
        UserError: For another form.
    """
    if part is None:
        return list(segments)
    first, _, second = part.partition("/")
    number, parts = (int(first), int(second)) if first.isdigit() and second.isdigit() else (0, 0)
    if not 1 <= number <= parts:
        raise UserError(f"--part {part!r}: expected for example 1/2 for the first half")
    episodes = getattr(source, "groups", None) or {}
    names = list(dict.fromkeys(episodes.get(source.names[s.video], source.names[s.video]) for s in segments))
    if len(names) >= parts:
        kept = {names[i] for i in rank_by_hash(names)[number - 1 :: parts]}
        return [s for s in segments if episodes.get(source.names[s.video], source.names[s.video]) in kept]

    def cut(s: Segment, at: int) -> int:
        return s.start + (s.stop - s.start) * at // parts

    return [Segment(s.video, cut(s, number - 1), cut(s, number)) for s in segments]


def spread_clips(
    source: Source, segments: Sequence[Segment], split: str, context: int, horizon: int | None, clips: int, seed: int
) -> tuple[Clips, int]:
    """At most `clips` clips of context + horizon source frames, spread over `segments`, and the horizon.

    Args:
        source: Data.
        segments: Held-out parts of videos.
        split: Name of the split, for messages.
        context: Source frames before the forecast.
        horizon: Source frames to forecast; None is 64, or half of what the longest segment leaves.
        clips: Maximum number of clips.
        seed: Random seed for clip selection.

    Raises:
        UserError: When no segment is long enough.
    """
    longest = _longest(segments, 1)
    ahead = _ahead(horizon, longest - context)
    if ahead < 1 or ahead > longest - context:
        raise UserError(
            f"the {split} split's longest video has {longest} frames, too few for {context} of context and a "
            f"horizon of {max(ahead, 1)}; use --horizon {max(longest - context, 1)} or less"
        )
    loader = Loader(source, segments, ClipRequest(context=context, future=ahead), 1, seed)
    return Clips(loader, loader.windows.fixed(clips, seed)), ahead


def _ahead(horizon: int | None, available: int) -> int:
    """The requested horizon; else half of the available frames, so that clips can start at several frames: a single
    clip
    has no interval."""
    return min(HORIZON, max(available // 2, min(available, 1))) if horizon is None else horizon


def refuse_trained(run: Run, source: Source, split: str) -> None:
    """Refuse split `all` of the data that a run was trained on.

    Raises:
        UserError: For the run's own training data.
    """
    if split == ALL and same_content(run.config.data.digest, data_digest(source)):
        raise UserError(f"--split all: {run.label} was trained on these data; use other data, or --split test")


def _longest(segments: Sequence[Segment], stride: int) -> int:
    return max(((s.stop - s.start - 1) // stride + 1 for s in segments), default=0)
