"""Shrinkage of roll-outs by lead time: which share a frame has, and the fit on held-out clips."""

import torch
from torch import nn

from framecast.core.types import Batch, ClipRequest, ClipSpec
from framecast.models.base import Predictor
from framecast.models.shrink import fit_shares, shrunk
from framecast.nn.shrinkage import change_sums, shrinkage

SHARES = torch.tensor([1.0, 0.5, 0.0, 0.25])


def test_each_frame_has_the_share_of_its_lead_time_and_later_ones_the_last():
    g = torch.Generator().manual_seed(0)
    frames, last = torch.rand(2, 3, 1, 4, 5, generator=g), torch.rand(2, 1, 4, 5, generator=g)
    found = shrunk(frames, last, SHARES, torch.tensor([3, 5]))
    for b, leads in enumerate(((1, 2, 3), (3, 4, 5))):
        for t, lead in enumerate(leads):
            share = SHARES[min(lead, 4) - 1]
            torch.testing.assert_close(found[b, t], last[b] + share * (frames[b, t] - last[b]))


class Brightening(Predictor):
    """Adds 0.1 at every step, then shrinks."""

    stochastic = True

    def __init__(self):
        super().__init__(None, ClipSpec(channels=1, height=4, width=5))
        self.register_buffer("shares", torch.full((3,), 0.5))
        self.net = nn.Linear(1, 1)

    @classmethod
    def request(cls, config):
        return ClipRequest(context=1, future=1)

    def rollout_step(self, state, action=None):
        steps = state.get("steps", torch.zeros(len(state["context"]), dtype=torch.int64)) + 1
        frame = state["context"][:, -1:] + 0.1 * steps.view(-1, 1, 1, 1, 1)
        return {**state, "steps": steps}, shrunk(frame, state["context"][:, -1], self.shares, steps)[:, 0]


def test_fit_is_the_least_squares_share_of_the_forecast_before_shrinkage():
    model, g = Brightening(), torch.Generator().manual_seed(0)
    context = 0.5 * torch.rand(6, 1, 1, 4, 5, generator=g)
    future = context + 0.1 * torch.tensor([1.0, 1.0, -1.0]).view(1, 3, 1, 1, 1)
    batches = [Batch(context=context[i : i + 2], future=future[i : i + 2]) for i in (0, 2, 4)]
    fit_shares(model, model.shares, batches)
    forecast = context + 0.1 * torch.arange(1, 4).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(model.shares, shrinkage(change_sums(forecast, future, context)).float())
    assert model.shares[0] == 1
    assert model.shares[2] < 1e-6


def test_without_clips_nothing_is_shrunk():
    model = Brightening()
    fit_shares(model, model.shares, [])
    assert torch.equal(model.shares, torch.ones(3))


def test_clips_of_fewer_frames_set_the_first_shares_and_later_ones_follow_the_last():
    model, g = Brightening(), torch.Generator().manual_seed(0)
    context = 0.5 * torch.rand(6, 1, 1, 4, 5, generator=g)
    future = context + 0.1 * torch.tensor([1.0, 0.5]).view(1, 2, 1, 1, 1)
    fit_shares(model, model.shares, [Batch(context=context, future=future)])
    forecast = context + 0.1 * torch.arange(1, 3).view(1, 2, 1, 1, 1)
    wanted = shrinkage(change_sums(forecast, future, context)).float()
    torch.testing.assert_close(model.shares, wanted[[0, 1, 1]])
    assert model.shares[1] < 0.5
