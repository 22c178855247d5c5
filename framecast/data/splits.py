"""Disjoint train / val / test splits from names and lengths of videos, and a sentence that describes them.

Whole videos are assigned to splits if there are enough; otherwise each is cut in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from framecast.core.errors import UserError
from framecast.data.base import SPLITS, Segment, Source, rank_by_hash

#: Splits after train, from the end of a video that is cut in time, and their per cent of its frames.
_CUT = (("test", 20), ("val", 10))

Splits = dict[str, list[Segment]]


def split_videos(
    names: Sequence[str],
    lengths: Sequence[int],
    window: int,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Splits:
    """train / val / test as segments, each in the order of the videos.

    Episodes are ranked by a seeded hash of their name; the first tenth is test, the next tenth val, at least one each.
    With fewer than three (or with only one in a fixed train), each is cut in time instead: train first, then val (10
    %), then test (20 %), with one window of gap between them; videos too short to be cut belong to train.

    Args:
        names: Unique name of each video.
        lengths: Frames of each video.
        window: Source frames of one clip, and the gap where a video is cut in time; a run keeps its window.
        seed: Random seed of the ranking.
        fixed: Name -> split, from `Train/` and `Test/` folders, file names or the store. A missing val or test is cut
            from train; without a train the others are kept.
        groups: Name -> episode, for cameras that recorded the same moment and must stay in one split.

    Returns:
        {"train": […], "val": […], "test": […]}.

    Raises:
        UserError: There is no video, or too few frames for a clip in every split.
    """
    return _divide(names, lengths, window, seed, fixed, groups)[0]


def split_rule(
    names: Sequence[str],
    lengths: Sequence[int],
    window: int,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
) -> str:
    """A sentence that describes the splits of `split_videos` with the same arguments."""
    return _divide(names, lengths, window, seed, fixed, groups)[1]


def _divide(
    names: Sequence[str],
    lengths: Sequence[int],
    window: int,
    seed: int,
    fixed: Mapping[str, str] | None,
    groups: Mapping[str, str] | None,
) -> tuple[Splits, str]:
    if len(names) != len(lengths):
        raise ValueError(f"names and lengths must be one per video, got {len(names)} and {len(lengths)}")
    if window < 1:
        raise ValueError(f"window must be at least 1 frame, got {window}")
    if not names:
        raise UserError("no video to split; give a folder or file with at least one video")
    longest = max(range(len(names)), key=lambda i: lengths[i])
    if lengths[longest] < window:
        raise UserError(
            f"the longest video, {names[longest]!r}, has {lengths[longest]} frames but one clip spans {window}; "
            "give a longer video or train on fewer context and target frames (a lower horizon or recursion)"
        )
    episodes = _episodes(names, groups)
    assigned = _fixed_splits(names, episodes, fixed) if fixed else {}
    if set(assigned.values()) - {"train"}:
        return _with_fixed(names, lengths, window, seed, episodes, assigned)
    return _without_fixed(names, lengths, window, seed, episodes)


def _episodes(names: Sequence[str], groups: Mapping[str, str] | None) -> dict[str, list[int]]:
    """Episode -> indices of its videos; a video without a group is an episode."""
    episodes: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        episodes.setdefault((groups or {}).get(name, name), []).append(i)
    return episodes


def _fixed_splits(
    names: Sequence[str], episodes: Mapping[str, Sequence[int]], fixed: Mapping[str, str]
) -> dict[str, str]:
    """Episode -> prescribed split, checked."""
    assigned = {}
    for episode, members in episodes.items():
        wanted = {fixed.get(names[i], "").lower() for i in members}
        if not wanted <= set(SPLITS):
            raise UserError(
                f"video {names[members[0]]!r} is in no split of {', '.join(SPLITS)} while others are; "
                "put every video under Train or Test"
            )
        if len(wanted) > 1:
            raise UserError(
                f"the cameras of episode {episode!r} are in {' and '.join(sorted(wanted))}; "
                "keep all cameras of one episode in one split"
            )
        assigned[episode] = wanted.pop()
    return assigned


def _without_fixed(
    names: Sequence[str], lengths: Sequence[int], window: int, seed: int, episodes: Mapping[str, Sequence[int]]
) -> tuple[Splits, str]:
    # Ranking all episodes keeps the test set equal for models with different windows; only if a split then has no
    # usable video, short episodes are excluded from the ranking.
    usable = [e for e, members in episodes.items() if any(lengths[i] >= window for i in members)]
    for candidates in (list(episodes), usable):
        if len(candidates) < 3:
            continue
        parts = _deal(candidates, seed)
        if all(any(e in usable for e in parts[split]) for split in SPLITS):
            splits = _whole(lengths, {split: [i for e in parts[split] for i in episodes[e]] for split in SPLITS})
            what = "videos" if all(len(m) == 1 for m in episodes.values()) else "episodes"
            counts = " / ".join(str(len(parts[split])) for split in SPLITS)
            return splits, f"{counts} {what} for train / val / test, whole, by seeded hash of the name (seed {seed})"
    splits = _cut_all(names, lengths, window, list(episodes.values()), _CUT)
    count = "the only video is" if len(names) == 1 else f"{len(names)} videos are too few, so each is"
    return splits, f"{count} cut in time: train, then val (10 %), then test (last 20 %), {window} frames of gap between"


def _with_fixed(
    names: Sequence[str],
    lengths: Sequence[int],
    window: int,
    seed: int,
    episodes: Mapping[str, Sequence[int]],
    assigned: Mapping[str, str],
) -> tuple[Splits, str]:
    parts = {split: [e for e in episodes if assigned[e] == split] for split in SPLITS}
    there = [split for split in SPLITS if parts[split]]
    rule = f"{_listed(there)} as prescribed"
    tail = [(split, percent) for split, percent in _CUT if split not in there]
    if "train" not in there or not tail:
        return _whole(lengths, {split: [i for e in parts[split] for i in episodes[e]] for split in SPLITS}), rule
    usable = [e for e in parts["train"] if any(lengths[i] >= window for i in episodes[e])]
    if len(usable) > len(tail):
        ranked, size = [usable[i] for i in rank_by_hash(usable, seed)], max(1, (len(usable) + 5) // 10)
        for at, (split, _) in enumerate(tail):
            parts[split] = ranked[at * size : (at + 1) * size]
            rule += f", {split} ({size}) cut from train by seeded hash of the name (seed {seed})"
        parts["train"] = [e for e in parts["train"] if not any(e in parts[split] for split, _ in tail)]
        return _whole(lengths, {split: [i for e in parts[split] for i in episodes[e]] for split in SPLITS}), rule
    kept = {split: [] if split == "train" else [i for e in parts[split] for i in episodes[e]] for split in SPLITS}
    splits = _whole(lengths, kept)
    cut = _cut_all(names, lengths, window, [episodes[e] for e in parts["train"]], tail)
    splits |= {split: cut[split] for split in ("train", *(split for split, _ in tail))}
    rule += "".join(
        f", {split} the last {percent} % of each training video after {window} frames of gap" for split, percent in tail
    )
    return splits, rule


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


class SplitByName:
    """Base of sources whose videos are split by name: `__len__`, `splits` and `split_rule`."""

    names: list[str]
    lengths: list[int]
    #: Video name -> prescribed split; empty where nothing is prescribed.
    fixed: Mapping[str, str] = {}
    #: Video name -> episode, for cameras that recorded the same moment.
    groups: Mapping[str, str] = {}

    def __len__(self) -> int:
        return len(self.names)

    def splits(self, window: int) -> Splits:
        """train / val / test as segments; prescribed splits are kept. See `split_videos`."""
        return split_videos(self.names, self.lengths, window, fixed=self.fixed, groups=self.groups)

    def split_rule(self, window: int) -> str:
        """A sentence that describes how `splits` divides the videos."""
        return split_rule(self.names, self.lengths, window, fixed=self.fixed, groups=self.groups)


def choose(source: Source, split: str, window: int) -> list[Segment]:
    """The segments of "train", "val" or "test", or of a named part of one, such as "test/novel".

    Parts are those of the source's `subsets` (name -> part).

    Raises:
        UserError: No such split or part.
    """
    name, _, part = split.partition("/")
    if name not in SPLITS:
        raise UserError(f"--split {split!r} is not known; use train, val, test or all")
    segments = source.splits(window)[name]
    if not part:
        return segments
    subsets: Mapping[str, str] = getattr(source, "subsets", None) or {}
    chosen = [s for s in segments if subsets.get(source.names[s.video]) == part]
    if not chosen:
        there = sorted({subsets[source.names[s.video]] for s in segments if source.names[s.video] in subsets})
        raise UserError(
            f"--split {split}: the {name} split has no part {part!r}; "
            + (f"use {name}/{f' or {name}/'.join(there)}" if there else f"it has no parts, so use {name}")
        )
    return chosen


def _deal(episodes: Sequence[str], seed: int) -> dict[str, list[str]]:
    """80 / 10 / 10, at least one each; the first ranks are test, so that an added video moves few others."""
    ranked = [episodes[i] for i in rank_by_hash(episodes, seed)]
    tenth = max(1, (len(ranked) + 5) // 10)
    return {"test": ranked[:tenth], "val": ranked[tenth : 2 * tenth], "train": ranked[2 * tenth :]}


def _whole(lengths: Sequence[int], parts: Mapping[str, Sequence[int]]) -> Splits:
    return {split: [Segment(i, 0, lengths[i]) for i in sorted(parts[split])] for split in SPLITS}


def _cut_all(
    names: Sequence[str],
    lengths: Sequence[int],
    window: int,
    episodes: Sequence[Sequence[int]],
    tail: Sequence[tuple[str, int]],
) -> Splits:
    splits: Splits = {split: [] for split in SPLITS}
    for members in episodes:
        # Cameras of one episode are cut at the same frames, those of the shortest.
        parts = _cut(min(lengths[i] for i in members), window, tail)
        for i in members:
            if parts is None:
                splits["train"].append(Segment(i, 0, lengths[i]))
                continue
            for split, (start, stop) in parts.items():
                splits[split].append(Segment(i, start, lengths[i] if split == tail[0][0] else stop))
    if not splits[tail[0][0]]:
        longest = max((i for members in episodes for i in members), key=lambda i: lengths[i])
        need = (2 * len(tail) + 1) * window
        raise UserError(
            f"video {names[longest]!r} has {lengths[longest]} frames, too few to cut into train, "
            f"{' and '.join(split for split, _ in reversed(tail))} with clips of {window} frames and gaps between; "
            f"give at least {need} frames, or three videos"
        )
    return {split: sorted(segments, key=lambda s: s.video) for split, segments in splits.items()}


def _cut(length: int, window: int, tail: Sequence[tuple[str, int]]) -> dict[str, tuple[int, int]] | None:
    """Parts of one video; None if train would be shorter than one clip.

    Parts are measured from the end, so that the test part does not depend on the window.
    """
    parts, stop = {}, length
    for split, percent in tail:
        start = stop - max(window, length * percent // 100)
        parts[split] = (start, stop)
        stop = start - window
    if stop < window:
        return None
    parts["train"] = (0, stop)
    return parts
