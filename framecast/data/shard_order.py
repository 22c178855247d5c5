"""Order of training windows in which few shards are read at a time, a pure function of seed, step and stream.

In every epoch the shards are permuted and dealt to lanes of about equal numbers of windows. A lane reads its shards one
after another, the windows of each in a permuted order; the rows of a batch are divided among the lanes in order. So a
batch mixes as many shards as there are lanes, only these and the next ones need to be near, and a process whose rows
are whole lanes reads shards that no other process reads. A batch does not depend on the number of processes.
"""

from __future__ import annotations

import heapq
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.data.windows import Windows

Parts = Sequence[Sequence[Sequence[int]]]


def shard_order(source: Any, windows: Windows, batch_size: int, lanes: int, seed: int, mine: slice) -> ShardOrder:
    """The order of shards of a source, whose cache holds the shards that rows `mine` of a batch read now and next.

    Raises:
        UserError: The source has no shards, its cache is too small, or `lanes` is below 1.
    """
    if lanes < 1:
        raise UserError(f"--train.shuffle-shards must be at least 1, got {lanes}")
    if getattr(source, "parts", None) is None:
        raise UserError(
            "--train.order shards is for packed stores of format 2, read at the size they have; write one with data "
            "import --shards 512MiB (and --size), or use --train.order epoch"
        )
    order = ShardOrder(windows, source.parts, batch_size, lanes, seed, source.readahead)
    source.require(len(order.near(0, "main", mine)))
    return order


@dataclass(frozen=True)
class Lane:
    """Shards that one part of the batch reads in one epoch."""

    shards: list[int]
    """Shards, in the order of reading."""
    ends: np.ndarray
    """Running total of their windows."""


class ShardOrder:
    """Window numbers of batches, see the module's docstring.

    Windows that reach over the end of a shard, of videos longer than one, are left out.

    Args:
        windows: Windows of the training split.
        parts: Of every video of the source, (shard, row, frames) of its parts.
        batch_size: Clips of all processes together.
        lanes: Number of shards that a batch is drawn from, at most the clips of a batch and the shards there are.
        seed: Random seed.
        readahead: Called with shards that are read now and next.

    Attributes:
        total: Number of windows.

    Raises:
        UserError: No window lies within a shard.
    """

    def __init__(
        self,
        windows: Windows,
        parts: Parts,
        batch_size: int,
        lanes: int,
        seed: int,
        readahead: Callable[[list[int]], None] = lambda shards: None,
    ) -> None:
        self.batch_size, self.seed, self.readahead = batch_size, seed, readahead
        self._requested: dict[str, list[int]] = {}
        found: dict[int, list[tuple[int, int]]] = {}
        need, number = windows.request.source_length, 0
        for segment in windows.segments:
            first = 0
            for shard, _, count in parts[segment.video]:
                a, b = max(segment.start, first), min(segment.stop, first + count) - need + 1
                if a < b:
                    found.setdefault(shard, []).append((number + a - segment.start, b - a))
                first += count
            number += segment.stop - segment.start - need + 1
        if not found:
            raise UserError(f"no clip of {need} frames lies within one shard; make the store again with larger shards")
        self._firsts = {shard: np.array([a for a, _ in runs]) for shard, runs in found.items()}
        self._ends = {shard: np.cumsum([n for _, n in runs]) for shard, runs in found.items()}
        self._shards = sorted(found)
        self.total = sum(int(ends[-1]) for ends in self._ends.values())
        self.lanes = max(1, min(lanes, batch_size, len(self._shards)))
        self._dealt: OrderedDict[tuple[int, str], list[Lane]] = OrderedDict()
        self._orders: OrderedDict[tuple[int, str, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()  # of what is kept, as batches may be made by a thread

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch: ceil(windows / batch size)."""
        return -(-self.total // self.batch_size)

    def rows(self, lane: int) -> range:
        """Rows of a batch that a lane fills."""
        return range(-(-lane * self.batch_size // self.lanes), -(-(lane + 1) * self.batch_size // self.lanes))

    def numbers(self, step: int, stream: str, mine: slice, ahead: bool = False) -> np.ndarray:
        """Window numbers of rows `mine` of the batch of a step; with `ahead`, their shards and the next are requested.

        Lanes with fewer windows than others begin again before the epoch ends; of those with more, the last windows are
        left out, which differ in every epoch.
        """
        with self._lock:
            if ahead and (near := self._near(step, stream, mine)) != self._requested.get(stream):
                self._requested[stream] = near
                self.readahead(near)
            return self._numbers(step, stream, mine)

    def _numbers(self, step: int, stream: str, mine: slice) -> np.ndarray:
        epoch, at = divmod(step, self.steps_per_epoch)
        found = []
        for index, lane in enumerate(self._lanes(epoch, stream)):
            rows = self.rows(index)
            first, last = max(rows.start, mine.start), min(rows.stop, mine.stop)
            if first >= last:
                continue
            place = (at * len(rows) + first - rows.start) % int(lane.ends[-1])
            left = last - first
            while left:
                number = int(lane.ends.searchsorted(place, side="right"))
                order = self._order(epoch, stream, lane.shards[number])
                start = place - (int(lane.ends[number]) - len(order))
                found.append(order[start : start + left])
                left -= len(found[-1])
                place = (place + len(found[-1])) % int(lane.ends[-1])
        return np.concatenate(found)

    def near(self, step: int, stream: str, mine: slice) -> list[int]:
        """Shards that rows `mine` of a step read, then those that they read next."""
        with self._lock:
            return self._near(step, stream, mine)

    def _near(self, step: int, stream: str, mine: slice) -> list[int]:
        epoch, at = divmod(step, self.steps_per_epoch)
        now, following = [], []
        for index, lane in enumerate(self._lanes(epoch, stream)):
            rows = self.rows(index)
            if rows.stop <= mine.start or rows.start >= mine.stop:
                continue
            which = int(np.searchsorted(lane.ends, at * len(rows) % int(lane.ends[-1]), side="right"))
            now.append(lane.shards[which])
            if which + 1 < len(lane.shards):
                following.append(lane.shards[which + 1])
            else:
                following.append(self._lanes(epoch + 1, stream)[index].shards[0])
        return list(dict.fromkeys([*now, *following]))

    def _lanes(self, epoch: int, stream: str) -> list[Lane]:
        if (epoch, stream) not in self._dealt:
            shuffled = [self._shards[i] for i in self._rng(epoch, stream, 2).permutation(len(self._shards))]
            dealt: list[list[int]] = [[] for _ in range(self.lanes)]
            filled = [(0, lane) for lane in range(self.lanes)]
            for shard in shuffled:
                windows, lane = heapq.heappop(filled)
                dealt[lane].append(shard)
                heapq.heappush(filled, (windows + int(self._ends[shard][-1]), lane))
            self._dealt[epoch, stream] = [
                Lane(shards, np.cumsum([int(self._ends[s][-1]) for s in shards])) for shards in dealt
            ]
            while len(self._dealt) > 8:
                self._dealt.popitem(last=False)
        return self._dealt[epoch, stream]

    def _order(self, epoch: int, stream: str, shard: int) -> np.ndarray:
        """Window numbers of a shard in the order of reading."""
        key = (epoch, stream, shard)
        if key not in self._orders:
            ends, firsts = self._ends[shard], self._firsts[shard]
            places = self._rng(epoch, stream, 3, shard).permutation(int(ends[-1]))
            run = ends.searchsorted(places, side="right")
            self._orders[key] = firsts[run] + places - np.where(run > 0, ends[run - 1], 0)
            while len(self._orders) > 4 * self.lanes + 4:
                self._orders.popitem(last=False)
        else:
            self._orders.move_to_end(key)
        return self._orders[key]

    def _rng(self, *words: int | str) -> np.random.Generator:
        return np.random.default_rng(
            [self.seed & (2**64 - 1), *(zlib.crc32(w.encode()) if isinstance(w, str) else w for w in words)]
        )
