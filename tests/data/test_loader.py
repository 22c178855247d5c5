"""Batches: pure in (seed, step, stream), the same over processes, and their actions lead where they should."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, ClipRequest, MotionFilter, TargetBlocks
from framecast.data.base import Segment
from framecast.data.loader import Loader, action_statistics, standardise
from framecast.data.store import DatasetWriter, Store


def numbered(folder, lengths=(12, 30), h=6, w=7, **arrays):
    """Videos whose every pixel is the frame's number, 100 more in the second video."""
    with DatasetWriter(folder) as writer:
        for v, n in enumerate(lengths):
            frames = np.broadcast_to((np.arange(n) + 100 * v).astype(np.uint8)[:, None, None, None], (n, 3, h, w))
            writer.add(frames, axes="tchw", **{k: make(v, n) for k, make in arrays.items()})
    return Store(folder)


def whole(store):
    return [Segment(i, 0, n) for i, n in enumerate(store.lengths)]


def numbers(frames):
    return frames[:, :, 0, 0, 0].tolist()


def same(a, b):
    pairs = [(a.context, b.context), (a.future, b.future)]
    pairs += [(a.actions, b.actions)] if a.actions is not None else []
    pairs += [(a.extras[k], b.extras[k]) for k in a.extras]
    return all(torch.equal(x, y) for x, y in pairs)


def test_windows_are_consecutive_frames_of_one_video(tmp_path):
    store = numbered(tmp_path / "s")
    loader = Loader(store, whole(store), ClipRequest(context=3, future=2, stride=2), 16, seed=0)
    batch = loader.batch(0)
    assert batch.context.dtype == torch.uint8
    assert batch.context.shape == (16, 3, 3, 6, 7)
    assert batch.future.shape == (16, 2, 3, 6, 7)
    for context, future in zip(numbers(batch.context), numbers(batch.future), strict=True):
        window = context + future
        assert window == [window[0] + 2 * k for k in range(5)]


@pytest.mark.parametrize("offset", [1, 3, 0, -1])
def test_targets_start_at_future_start(tmp_path, offset):
    store = numbered(tmp_path / "s")
    batch = Loader(store, whole(store), ClipRequest(context=4, future=2, target_offset=offset), 8).batch(0)
    for context, future in zip(numbers(batch.context), numbers(batch.future), strict=True):
        assert future[0] == context[-1] + offset


def test_a_batch_is_a_function_of_seed_step_and_stream(tmp_path):
    store = numbered(tmp_path / "s", states=lambda v, n: np.arange(n, dtype=np.float32))
    request = ClipRequest(context=3, crop=(4, 4), extras=("states",))
    loader = Loader(store, whole(store), request, 8, seed=3)
    later = [loader.batch(k) for k in (5, 2, 9)]
    fresh = Loader(store, whole(store), request, 8, seed=3)
    for step, batch in zip((5, 2, 9), later, strict=True):
        assert same(fresh.batch(step), batch)
    assert not same(loader.batch(5), loader.batch(6))
    assert not same(loader.batch(5), loader.batch(5, "discriminator"))
    assert not same(loader.batch(5), Loader(store, whole(store), request, 8, seed=4).batch(5))


@pytest.mark.parametrize("order", ["random", "epoch"])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_the_batch_of_a_single_process(tmp_path, order, world):
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "s") as writer:
        for _ in range(3):
            writer.add(rng.integers(0, 256, (20, 3, 12, 14), dtype=np.uint8), actions=rng.integers(0, 4, 20))
    store = Store(tmp_path / "s")
    request = ClipRequest(context=3, crop=(5, 5), motion_filter=MotionFilter(threshold=380, tries=5))
    one = Loader(store, whole(store), request, 8, seed=1, order=order)
    many = [Loader(store, whole(store), request, 8, seed=1, rank=r, world=world, order=order) for r in range(world)]
    for step in range(4):
        parts = [loader.batch(step) for loader in many]
        assert torch.equal(torch.cat([p.context for p in parts]), one.batch(step).context)
        assert torch.equal(torch.cat([p.future for p in parts]), one.batch(step).future)
        assert torch.equal(torch.cat([p.actions for p in parts]), one.batch(step).actions)


def test_epoch_contains_every_window_once(tmp_path):
    store = numbered(tmp_path / "s")
    loader = Loader(store, whole(store), ClipRequest(context=4), 5, order="epoch")
    assert loader.num_clips == 8 + 26
    assert loader.steps_per_epoch == 7
    for epoch in range(2):
        batches = [loader.batch(epoch * 7 + k) for k in range(7)]
        seen = [c[0] for b in batches for c in numbers(b.context)]
        assert len(seen) == 35
        assert set(seen) == {*range(8), *range(100, 126)}
    orders = [[c[0] for c in numbers(loader.batch(e * 7).context)] for e in range(3)]
    assert orders[0] != orders[1] != orders[2]


def test_an_epoch_smaller_than_a_batch_fills_it(tmp_path):
    store = numbered(tmp_path / "s", lengths=(6,))
    loader = Loader(store, whole(store), ClipRequest(context=4), 5, order="epoch")
    assert loader.steps_per_epoch == 1
    assert sorted(c[0] for c in numbers(loader.batch(0).context)) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_only_the_segments_are_drawn_from(tmp_path):
    store = numbered(tmp_path / "s")
    loader = Loader(store, [Segment(1, 10, 20)], ClipRequest(context=4), 64)
    seen = set(itertools.chain.from_iterable(numbers(loader.batch(0).context) + numbers(loader.batch(0).future)))
    assert seen == set(range(110, 120))


def test_gather_returns_uncropped_windows(tmp_path):
    store = numbered(tmp_path / "s")
    loader = Loader(store, whole(store), ClipRequest(context=3, future=2, crop=(4, 4)), 8)
    batch = loader.gather([(1, 7), (0, 2)])
    assert numbers(batch.context) == [[107, 108, 109], [2, 3, 4]]
    assert batch.future.shape == (2, 2, 3, 6, 7)


# ------------------------------------------------------------------------------------------------------- target blocks


class Recording(Store):
    """Counts the frames of every clip that is read."""

    def __init__(self, folder):
        super().__init__(folder)
        self.read = []

    def clip(self, index, start, length, stride=1):
        self.read += range(start, start + length * stride, stride)
        return super().clip(index, start, length, stride)


BLOCKS = ClipRequest(context=3, future=12, stride=2, targets=TargetBlocks(length=3, count=2, first=0.5))


def test_only_the_context_and_the_chosen_frames_are_read(tmp_path):
    numbered(tmp_path / "s", lengths=(60, 40), actions=lambda v, n: np.arange(n) % 3)
    store = Recording(tmp_path / "s")
    batch = Loader(store, whole(store), BLOCKS, 16).batch(0)
    assert batch.context.shape == (16, 3, 3, 6, 7)
    assert batch.future.shape == (16, 6, 3, 6, 7)
    assert batch.actions.shape == (16, 14, 3)
    assert len(store.read) == 16 * (3 + 6)
    used = numbers(batch.context) + numbers(batch.future)
    assert sorted(store.read) == sorted(n % 100 for n in itertools.chain.from_iterable(used))


def test_lead_times_are_distances_from_the_last_context_frame(tmp_path):
    store = numbered(tmp_path / "s", lengths=(60, 40), actions=lambda v, n: np.arange(n) % 7)
    for offset in (1, 3):
        batch = Loader(store, whole(store), dataclasses.replace(BLOCKS, target_offset=offset), 64).batch(0)
        assert batch.lead_times.dtype == torch.int64
        frames = torch.tensor(numbers(batch.future)) - torch.tensor(numbers(batch.context))[:, -1:]
        assert torch.equal(frames, batch.lead_times * 2)
        assert set(batch.lead_times[:, ::3].flatten().tolist()) == {offset + 3 * k for k in range(4)}
        assert torch.equal(batch.lead_times[:, 1] - batch.lead_times[:, 0], torch.ones(64, dtype=torch.int64))
        start = torch.tensor(numbers(batch.context))[:, 0] % 100
        assert torch.equal(batch.actions[:, -1].argmax(-1), (start + 2 * (batch.actions.shape[1] - 1)) % 7)


def test_first_block_is_forced_with_its_probability_and_the_others_are_uniform(tmp_path):
    store = numbered(tmp_path / "s", lengths=(60,))
    leads = torch.cat([Loader(store, whole(store), BLOCKS, 512).batch(k).lead_times for k in range(8)])
    first, second = ((leads[:, i] // 3).bincount(minlength=4) / len(leads) for i in (0, 3))
    assert first.tolist() == pytest.approx([0.625, 0.125, 0.125, 0.125], abs=0.03)
    assert second.tolist() == pytest.approx([0.25] * 4, abs=0.03)


def test_chosen_blocks_do_not_depend_on_the_number_of_processes(tmp_path):
    store = numbered(tmp_path / "s", lengths=(60, 40))
    request = dataclasses.replace(BLOCKS, crop=(4, 4))
    one = Loader(store, whole(store), request, 8, seed=1)
    two = [Loader(store, whole(store), request, 8, seed=1, rank=r, world=2) for r in range(2)]
    for step in range(3):
        joined, parts = one.batch(step), [loader.batch(step) for loader in two]
        for name in ("context", "future", "lead_times"):
            assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(joined, name))
    assert not torch.equal(one.batch(0).lead_times, one.batch(0, "other").lead_times)


def test_gathered_blocks_depend_on_the_window_only(tmp_path):
    store = numbered(tmp_path / "s", lengths=(60, 40))
    pairs = [(0, 3), (1, 5), (0, 20)]
    found = Loader(store, whole(store), BLOCKS, 8, seed=1).gather(pairs)
    again = Loader(store, whole(store), BLOCKS, 4, seed=9).gather(pairs[::-1])
    assert torch.equal(found.lead_times, again.lead_times.flip(0))
    assert torch.equal(found.future, again.future.flip(0))
    assert len({tuple(row) for row in found.lead_times.tolist()}) > 1


def test_requests_without_targets_keep_their_draws(tmp_path):
    store = numbered(tmp_path / "s")
    batch = Loader(store, whole(store), ClipRequest(context=2, crop=(4, 4)), 4, seed=7).batch(3, "main")
    assert batch.lead_times is None
    assert numbers(batch.context) == [[109, 110], [6, 7], [9, 10], [3, 4]]


def test_latents_have_no_target_blocks(tmp_path):
    store = numbered(tmp_path / "s", lengths=(60,))
    latents = {"z": [np.zeros((60, 2), np.float32)]}
    with pytest.raises(ValueError, match="a stage that precomputes latents must not set targets"):
        Loader(store, whole(store), BLOCKS, 4, latents=latents)


# -------------------------------------------------------------------------------------------------- actions and extras


def test_discrete_actions_are_one_hot(tmp_path):
    store = numbered(tmp_path / "s", actions=lambda v, n: (np.arange(n) + v) % 5)
    batch = Loader(store, whole(store), ClipRequest(context=3, future=2, stride=2), 16).batch(0)
    assert batch.actions.shape == (16, 4, 5)
    assert batch.actions.dtype == torch.float32
    assert torch.equal(batch.actions.sum(-1), torch.ones(16, 4))
    frames = torch.cat([batch.context, batch.future], 1)[:, :-1, 0, 0, 0].long()
    video = (frames >= 100).long()
    assert torch.equal(batch.actions.argmax(-1), (frames - 100 * video + video) % 5)


def test_continuous_actions_are_standardised_by_the_training_set(tmp_path):
    store = numbered(tmp_path / "s", actions=lambda v, n: np.stack([np.arange(n), np.full(n, 7)], 1).astype(np.float32))
    spec = action_statistics(store, [Segment(0, 0, 10), Segment(1, 5, 25)])
    values = np.concatenate([np.arange(10), np.arange(5, 25)]).astype(np.float64)
    assert spec.mean == pytest.approx((values.mean(), 7))
    assert spec.std == pytest.approx((values.std(), 0))
    raw = Loader(store, whole(store), ClipRequest(context=4), 8).batch(0).actions
    scaled = Loader(store, whole(store), ClipRequest(context=4), 8, actions=spec).batch(0).actions
    torch.testing.assert_close(scaled[..., 0], (raw[..., 0] - values.mean()) / values.std(), rtol=1e-5, atol=1e-6)
    assert torch.equal(scaled[..., 1], torch.zeros(8, 4))
    assert standardise(np.array([[1.0, 2.0]]), store.spec.actions).dtype == np.float32


def test_discrete_actions_have_no_statistics(tmp_path):
    store = numbered(tmp_path / "s", actions=lambda v, n: np.arange(n) % 3)
    assert action_statistics(store, whole(store)) == ActionSpec(kind="discrete", size=3)
    assert action_statistics(numbered(tmp_path / "t"), []) is None


def test_actions_are_aligned_with_the_next_frame(tmp_path):
    # A dot that moves as the action determines: with the right alignment the next frame is predicted exactly.
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "s") as writer:
        for _ in range(4):
            actions, x = rng.integers(0, 2, 40), 20
            frames = np.zeros((40, 1, 5, 41), np.uint8)
            for i in range(40):
                frames[i, 0, 2, x] = 255
                x = (x + (1 if actions[i] else -1)) % 41
            writer.add(frames, actions=actions, axes="tchw")
    store = Store(tmp_path / "s")
    batch = Loader(store, whole(store), ClipRequest(context=3, future=2), 64).batch(0)

    def error(shift):
        now, after = batch.context[:, -1, 0, 2], batch.future[:, 0, 0, 2]
        right = batch.actions[:, 2 + shift, 1].bool()
        forecast = torch.where(right[:, None], now.roll(1, 1), now.roll(-1, 1))
        return (forecast.float() - after.float()).square().mean().item()

    assert error(0) == 0
    assert error(-1) > 100
    assert error(1) > 100


def test_extras_keep_their_kind(tmp_path):
    store = numbered(
        tmp_path / "s",
        states=lambda v, n: np.arange(2 * n, dtype=np.float64).reshape(n, 2),
        masks=lambda v, n: np.zeros((n, 6, 7), bool),
        count=lambda v, n: np.arange(n, dtype=np.uint16),
        ram=lambda v, n: np.zeros((n, 4), np.uint8),
    )
    request = ClipRequest(context=3, future=1, extras=("states", "masks", "count", "ram"))
    batch = Loader(store, whole(store), request, 4).batch(0)
    found = {name: (x.dtype, tuple(x.shape)) for name, x in batch.extras.items()}
    assert found == {
        "states": (torch.float32, (4, 4, 2)),
        "masks": (torch.bool, (4, 4, 6, 7)),
        "count": (torch.int32, (4, 4)),
        "ram": (torch.uint8, (4, 4, 4)),
    }
    frames = torch.cat([batch.context, batch.future], 1)[:, :, 0, 0, 0] % 100
    assert torch.equal(batch.extras["count"], frames.int())
    assert Loader(store, whole(store), ClipRequest(context=3), 4).batch(0).extras == {}


def test_latents_replace_frames(tmp_path):
    store = numbered(tmp_path / "s", actions=lambda v, n: np.arange(n) % 3)
    latents = {
        "z": [np.arange(n, dtype=np.float32)[:, None].repeat(2, 1) + 100 * v for v, n in enumerate(store.lengths)]
    }
    request = ClipRequest(context=3, future=2, stride=2)
    batch = Loader(store, whole(store), request, 8, seed=2, latents=latents).batch(4)
    frames = Loader(store, whole(store), request, 8, seed=2).batch(4)
    assert batch.context.shape == (8, 0, 3, 6, 7)
    assert batch.future.shape == (8, 0, 3, 6, 7)
    assert batch.latents["z"].shape == (8, 5, 2)
    whole_windows = torch.cat([frames.context, frames.future], 1)[:, :, 0, 0, 0]
    assert torch.equal(batch.latents["z"][..., 0], whole_windows.float())
    assert torch.equal(batch.actions, frames.actions)
    plain = numbered(tmp_path / "plain")
    assert Loader(plain, whole(plain), request, 8, latents=latents).batch(0).actions is None


# ------------------------------------------------------------------------------------------------------------ bad input


def test_invalid_requests_are_refused(tmp_path):
    store = numbered(tmp_path / "s", states=lambda v, n: np.zeros((n, 2)))
    with pytest.raises(UserError, match="batch size 5 cannot be shared by 2 processes; give a multiple of 2"):
        Loader(store, whole(store), ClipRequest(context=3), 5, world=2)
    with pytest.raises(UserError, match="the model needs pose per frame but the data have states"):
        Loader(store, whole(store), ClipRequest(context=3, extras=("pose",)), 4)
    with pytest.raises(ValueError, match="rank must be in"):
        Loader(store, whole(store), ClipRequest(context=3), 4, rank=2, world=2)
    with pytest.raises(ValueError, match="order must be"):
        Loader(store, whole(store), ClipRequest(context=3), 4, order="sorted")


def test_uncropped_frames_of_two_sizes_are_refused(tmp_path):
    with DatasetWriter(tmp_path / "s") as writer:
        writer.add(np.zeros((9, 3, 8, 8), np.uint8))
        writer.add(np.zeros((9, 3, 8, 9), np.uint8))
    store = Store(tmp_path / "s")
    loader = Loader(store, whole(store), ClipRequest(context=3, crop=(4, 4)), 4)
    assert loader.batch(0).context.shape == (4, 3, 3, 4, 4)
    with pytest.raises(UserError, match=r"'video-00000' and 'video-00001' are 8x8 and 8x9, .*--size"):
        loader.gather([(0, 0), (1, 0)])


def test_an_action_beyond_the_spec_is_refused(tmp_path):
    store = numbered(tmp_path / "s", actions=lambda v, n: np.arange(n) % 5)
    loader = Loader(store, whole(store), ClipRequest(context=8), 8, actions=ActionSpec(kind="discrete", size=3))
    with pytest.raises(UserError, match=r"is not in 0…2"):
        loader.batch(0)
