"""Shared types: validation and derived values."""

import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.schedules import Cosine
from framecast.core.types import (
    ActionSpec,
    Batch,
    ClipRequest,
    ClipSpec,
    MotionFilter,
    Optimiser,
    TargetBlocks,
)


@pytest.mark.parametrize(
    ("settings", "length", "first", "source"),
    [
        (dict(context=4), 5, 4, 5),
        (dict(context=4, future=8, stride=3), 12, 4, 34),
        (dict(context=8, future=0), 8, 8, 8),
        (dict(context=4, future=4, target_offset=-3), 4, 0, 4),
        (dict(context=4, future=2, target_offset=3), 8, 6, 8),
        (dict(context=1, future=1, target_offset=0), 1, 0, 1),
    ],
)
def test_request_gives_the_window_length_and_first_target(settings, length, first, source):
    request = ClipRequest(**settings)
    assert (request.length, request.future_start, request.source_length) == (length, first, source)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ClipRequest(context=0), "ClipRequest.context must be at least 1, got 0"),
        (lambda: ClipRequest(context=1, future=-1), "ClipRequest.future must be at least 0"),
        (lambda: ClipRequest(context=1, stride=0), "ClipRequest.stride must be at least 1"),
        (lambda: ClipRequest(context=2, target_offset=-2), "starts before the context's first frame"),
        (lambda: ClipSpec(channels=0, height=1, width=1), "ClipSpec.channels must be at least 1"),
        (lambda: ClipSpec(channels=1, height=1, width=1, fps=0), "ClipSpec.fps must be above 0"),
        (lambda: ActionSpec(kind="discrete", size=0), "ActionSpec.size must be at least 1"),
        (
            lambda: ActionSpec(kind="discrete", size=2, names=("up",)),
            "ActionSpec.names must have 2 entries, got 1",
        ),
        (lambda: MotionFilter(bypass=1.5), "probability in 0…1"),
        (lambda: MotionFilter(tries=0), "tries must be at least 1"),
    ],
)
def test_invalid_values_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_user_error_is_a_value_error():
    assert issubclass(UserError, ValueError)


def test_action_size_is_zero_without_actions():
    assert ClipSpec(channels=1, height=2, width=2).action_size == 0
    assert ClipSpec(channels=1, height=2, width=2, actions=ActionSpec(kind="continuous", size=3)).action_size == 3


def test_learning_rate_is_a_number_or_a_function_of_the_step():
    assert Optimiser(lr=0.1).rate(5) == 0.1
    assert Optimiser(lr=lambda step: step / 10).rate(5) == 0.5


def test_rate_warms_up_and_follows_the_elapsed_share():
    settings = Optimiser(kind="adamw", lr=0.2, warmup=4, schedule=Cosine(end=0.1))
    assert [settings.rate(step) for step in range(6)] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    assert settings.rate(1, 0.5) == pytest.approx(0.1 * 0.55)
    assert settings.rate(9, 1.0) == pytest.approx(0.02)
    assert Optimiser(lr=lambda step: step / 10, schedule=lambda share: 1 - share).rate(5, 0.25) == pytest.approx(0.375)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: TargetBlocks(length=0, count=1), "length and count must be at least 1, got 0 and 1"),
        (lambda: TargetBlocks(length=1, count=1, first=1.5), "must be a probability in 0…1, got 1.5"),
        (
            lambda: ClipRequest(context=2, future=10, targets=TargetBlocks(length=4, count=2)),
            "future must be a multiple of the 4 frames of a block, got 10",
        ),
        (
            lambda: ClipRequest(context=2, future=4, target_offset=0, targets=TargetBlocks(length=4, count=2)),
            "target_offset must be 1 or more with targets, got 0",
        ),
    ],
)
def test_impossible_target_blocks_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def whole():
    return Batch(
        context=torch.randint(256, (5, 2, 1, 4, 4), dtype=torch.uint8),
        future=torch.randint(256, (5, 1, 1, 4, 4), dtype=torch.uint8),
        actions=torch.rand(5, 2, 3),
        extras={"pose": torch.rand(5, 3, 2)},
        latents={"z": torch.rand(5, 3, 6)},
        lead_times=torch.arange(5)[:, None] + 1,
        elapsed=0.25,
    )


def test_rows_select_clips_in_every_part_of_a_batch():
    batch = whole()
    some = batch.rows([3, 1])
    assert some.size == 2
    for part in ("context", "future", "actions"):
        assert torch.equal(getattr(some, part), getattr(batch, part)[[3, 1]])
    assert torch.equal(some.extras["pose"], batch.extras["pose"][[3, 1]])
    assert torch.equal(some.latents["z"], batch.latents["z"][[3, 1]])
    assert some.lead_times.tolist() == [[4], [2]]
    assert some.elapsed == batch.part(0, 2).elapsed == batch.to("cpu").elapsed == 0.25
    assert batch.to("cpu").part(1, 2).lead_times.tolist() == [[3], [4], [5]]
    assert Batch(context=batch.context, future=batch.future).rows(slice(0, 2)).actions is None


def test_batch_on_device_has_float_frames():
    batch = whole()
    there = batch.to("cpu")
    assert there.context.dtype == torch.float32
    torch.testing.assert_close(there.context, batch.context.float() / 255)
    assert batch.context.dtype == torch.uint8
    again = there.to("cpu")
    assert torch.equal(again.context, there.context)  # floats stay as they are
    assert torch.equal(there.latents["z"], batch.latents["z"])
