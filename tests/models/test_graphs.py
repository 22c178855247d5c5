"""Recorded roll-out steps: the frames of plain steps, one record per kind of state, and a fallback."""

import pytest
import torch
from small_models import Acting, Noisy, Plain, Steered, build

from framecast.models.graphs import GraphedStep
from framecast.models.rollout import RolloutSession


def rerun(step):
    """Repeats a step into the memory of its first results, as a graph does."""
    after, frame = step()

    def replay():
        again, shown = step()
        for name, value in again.items():
            after[name].copy_(value)
        frame.copy_(shown)

    return replay, (after, frame)


@pytest.fixture
def context():
    return torch.rand(3, 2, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def frames_of(model, context, step, count=5):
    """Frames of some steps, each also kept to see whether a later step changes it."""
    generator = torch.Generator().manual_seed(0)
    state, frames = model.rollout_init(context, generator=generator), []
    for k in range(count):
        action = torch.eye(3)[(torch.arange(3) + k) % 3] if model.actions == "required" else None
        with torch.no_grad():
            state, frame = step(state, action)
        frames.append(frame)
    return torch.stack(frames)


@pytest.mark.parametrize("model_class", [Plain, Acting])
def test_recorded_steps_equal_plain_steps(context, model_class):
    model = build(model_class).eval()
    graphed = GraphedStep(model, rerun)
    expected = frames_of(model, context, model.rollout_step)
    torch.testing.assert_close(frames_of(model, context, graphed), expected)
    torch.testing.assert_close(frames_of(model, context, graphed), expected)  # the memory of the first roll-out
    recorded = list(graphed.recorded.values())
    assert len(recorded) == 1 + (model_class is Acting)  # the first action has a past of other length
    assert None not in recorded


class Blocks(Plain):
    """The queue of predicted frames gets shorter from step to step."""

    block = 3


def test_each_length_of_the_queue_is_recorded(context):
    model = build(Blocks).eval()
    graphed = GraphedStep(model, rerun)
    torch.testing.assert_close(frames_of(model, context, graphed, 9), frames_of(model, context, model.rollout_step, 9))
    assert len(graphed.recorded) == 3


@pytest.mark.parametrize("model_class", [Noisy, Steered])
def test_step_that_cannot_be_recorded_runs_as_before(context, model_class):
    def refuse(step):
        raise RuntimeError("operation not permitted when stream is capturing")

    model = build(model_class).eval()
    graphed = GraphedStep(model, refuse)
    torch.testing.assert_close(frames_of(model, context, graphed), frames_of(model, context, model.rollout_step))
    assert set(graphed.recorded.values()) == {None}


@pytest.mark.gpu
@pytest.mark.parametrize("model_class", [Plain, Acting, Blocks])
def test_session_on_a_gpu_shows_the_frames_of_plain_steps(context, model_class):
    model = build(model_class).cuda().eval()
    expected = frames_of(model, context.cuda(), model.rollout_step)
    for _ in range(2):
        session = RolloutSession(model, context.cuda(), generator=torch.Generator().manual_seed(0))
        led = [torch.eye(3).cuda()[(torch.arange(3) + k) % 3] for k in range(5)]
        frames = [session.step(led[k] if model.actions == "required" else None) for k in range(5)]
        torch.testing.assert_close(torch.stack(frames), expected)
