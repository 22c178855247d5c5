"""The baseline of constant-velocity optical flow."""

import sys

import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import ClipSpec
from framecast.models.linear_flow import LinearFlow, LinearFlowConfig
from framecast.nn.flow import backward_flow, warp


def panning(side=48, frames=10, speed=2, channels=3):
    """A smooth random texture that moves `speed` px to the left a frame: (1, frames, channels, side, side)."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.rand(1, channels, 12, 24, generator=generator)
    wide = torch.nn.functional.interpolate(wide, (side, 2 * side + frames * speed), mode="bicubic").clamp(0, 1)
    return torch.stack([wide[..., k * speed : k * speed + side] for k in range(frames)], 1)


def model(side=48, channels=3):
    return LinearFlow(LinearFlowConfig(), ClipSpec(channels=channels, height=side, width=side))


@pytest.mark.parametrize("channels", [1, 3])
def test_panning_texture_is_predicted_better_than_by_copy_last(channels):
    clip = panning(channels=channels)
    context, truth = clip[:, :4], clip[:, 4:8]
    forecast = model(channels=channels).predict(context, 4)[0]
    inner = (..., slice(4, -4), slice(4, 28))  # what enters from the right edge was never seen
    error = (forecast - truth)[inner].square().mean()
    copied = (context[:, -1:] - truth)[inner].square().mean()
    assert error < 0.05 * copied
    flow = backward_flow(context[:, 2], context[:, 3])[0, :, 8:-8, 8:-8]
    assert float(flow[0].median()) == pytest.approx(2, abs=0.2)
    assert float(flow[1].median()) == pytest.approx(0, abs=0.2)


def test_frame_by_frame_equals_the_whole_forecast():
    clip = panning()[:, :4]
    whole = model().predict(clip, 5, samples=2)
    state = model().rollout_init(clip, samples=2)
    for k in range(5):
        state, frame = model().rollout_step(state)
        torch.testing.assert_close(frame, whole[:, 0, k])


def test_a_still_scene_is_repeated_exactly():
    still = panning(frames=1).repeat(1, 3, 1, 1, 1)
    torch.testing.assert_close(model().predict(still, 3)[0], still, atol=2e-3, rtol=0)


def test_frames_too_small_for_the_method_are_repeated():
    clip = torch.rand(2, 3, 1, 11, 20)
    forecast = LinearFlow(LinearFlowConfig(), ClipSpec(channels=1, height=11, width=20)).predict(clip, 2)[0]
    torch.testing.assert_close(forecast, clip[:, -1:].repeat(1, 2, 1, 1, 1))


def test_warping_equals_a_plain_loop():
    generator = torch.Generator().manual_seed(1)
    frames, flow = torch.rand(1, 1, 5, 6, generator=generator), torch.randint(-2, 3, (1, 2, 5, 6), generator=generator)
    expected = torch.zeros(5, 6)
    for y in range(5):
        for x in range(6):
            at_y = min(max(y + int(flow[0, 1, y, x]), 0), 4)
            at_x = min(max(x + int(flow[0, 0, y, x]), 0), 5)
            expected[y, x] = frames[0, 0, at_y, at_x]
    torch.testing.assert_close(warp(frames, flow.float())[0, 0], expected)


def test_without_opencv_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"framecast\[flow\]"):
        model()


def test_context_is_checked():
    with pytest.raises(UserError, match="at least 2 frames, got 1"):
        LinearFlowConfig(context=1)
