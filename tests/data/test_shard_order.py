"""Order of shards: each window about once, few shards at a time, the same for any number of processes, resumable."""

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data.base import Segment
from framecast.data.loader import Loader
from framecast.data.shard_order import ShardOrder
from framecast.data.store import DatasetWriter, Store
from framecast.data.windows import Windows

REQUEST = ClipRequest(context=3, future=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """24 videos of 40 frames in shards of two; the first pixels of a frame hold video and frame."""
    folder = tmp_path_factory.mktemp("order") / "s"
    with DatasetWriter(folder, shards=1 << 16) as w:
        for v in range(24):
            frames = np.zeros((40, 3, 16, 16), np.uint8)
            frames[:, 0, 0, 0], frames[:, 0, 0, 1] = v, np.arange(40)
            w.add(frames, axes="tchw")
    found = Store(folder)
    assert max(part[0] for parts in found.parts for part in parts) == 11
    return found


def loader(store, batch=8, lanes=4, **settings):
    return Loader(store, whole(store), REQUEST, batch, order="shards", lanes=lanes, **settings)


def whole(store):
    return [Segment(i, 0, n) for i, n in enumerate(store.lengths)]


def pairs(batch):
    first = batch.context[:, 0, 0, 0]
    return [(int(v), int(s)) for v, s in zip(first[:, 0], first[:, 1], strict=True)]


def test_an_epoch_contains_every_window_once(store):
    one = loader(store)
    assert one.steps_per_epoch == 24 * 36 // 8
    for epoch in range(2):
        steps = range(epoch * one.steps_per_epoch, (epoch + 1) * one.steps_per_epoch)
        seen = [pair for step in steps for pair in pairs(one.batch(step))]
        assert len(set(seen)) == len(seen) == 24 * 36
    assert pairs(one.batch(0)) != pairs(one.batch(one.steps_per_epoch))


def test_batches_mix_as_many_shards_as_lanes_and_stay_in_them(store):
    one = loader(store)
    for step in range(9):  # of the 72 windows of a shard, a lane takes two per step
        shards = [v // 2 for v, _ in pairs(one.batch(step))]
        assert len(set(shards)) == 4
        assert shards == sorted(shards, key=shards.index)  # rows of a lane are consecutive
    near = one._shards.near(0, "main", slice(0, 8))
    assert len(near) == 8
    assert set(near[:4]) == {v // 2 for v, _ in pairs(one.batch(0))}
    assert set(near[4:]) == {v // 2 for v, _ in pairs(one.batch(36))}


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batch_and_read_disjoint_shards(store, world):
    one, many = loader(store), [loader(store, rank=r, world=world) for r in range(world)]
    read = [set() for _ in many]
    for step in range(40):
        parts = [m.batch(step) for m in many]
        assert torch.equal(torch.cat([p.context for p in parts]), one.batch(step).context)
        for found, part in zip(read, parts, strict=True):
            found |= {v // 2 for v, _ in pairs(part)}
    assert all(not a & b for i, a in enumerate(read) for b in read[:i])


def test_resumed_batches_equal_unbroken_ones(store):
    one = loader(store, seed=3)
    steps = [5, 80, 107, 108, 109, 300]  # before and after shards and epochs end
    unbroken = {step: one.batch(step) for step in range(301) if step in steps or step % 50 == 0}
    for step in reversed(steps):
        fresh = loader(store, seed=3).batch(step)
        assert torch.equal(fresh.context, unbroken[step].context)
        assert torch.equal(fresh.future, unbroken[step].future)
    assert pairs(loader(store, seed=3).batch(5)) != pairs(loader(store, seed=4).batch(5))
    assert pairs(one.batch(5)) != pairs(one.batch(5, "discriminator"))


def test_lanes_are_at_most_the_clips_and_the_shards(store):
    assert loader(store, batch=3)._shards.lanes == 3
    assert loader(store, batch=64, lanes=50)._shards.lanes == 12
    odd = loader(store, batch=7, lanes=4)
    assert [len(odd._shards.rows(i)) for i in range(4)] == [2, 2, 2, 1]
    assert len(pairs(odd.batch(0))) == 7


def test_windows_of_divided_videos_stay_in_one_shard(tmp_path):
    with DatasetWriter(tmp_path / "s", shards=1 << 16) as w:
        w.add(np.zeros((300, 3, 16, 16), np.uint8), axes="tchw")
    store = Store(tmp_path / "s")
    counts = [count for _, _, count in store.parts[0]]
    windows = Windows(store, whole(store), REQUEST)
    order = ShardOrder(windows, store.parts, 4, 2, 0)
    assert order.total == sum(count - 4 for count in counts)
    ends = np.cumsum(counts)
    for step in range(order.steps_per_epoch):
        for start in order.numbers(step, "main", slice(0, 4)).tolist():
            assert np.searchsorted(ends, start, side="right") == np.searchsorted(ends, start + 4, side="right")
    with pytest.raises(UserError, match="no clip of 5 frames lies within one shard"):
        ShardOrder(windows, [[[i, 0, 3] for i in range(100)]], 4, 2, 0)


def test_stores_without_shards_are_refused(tmp_path):
    with DatasetWriter(tmp_path / "s") as w:
        w.add(np.zeros((30, 3, 16, 16), np.uint8), axes="tchw")
    with pytest.raises(UserError, match=r"--train.order shards is for packed stores of format 2, read at the size"):
        loader(Store(tmp_path / "s"))
