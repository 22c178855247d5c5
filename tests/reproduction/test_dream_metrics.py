"""Metrics of videos without truth, on videos with known values."""

import numpy as np
import pytest
import torch

from framecast.data.synthetic.ball import COLOUR, RADIUS, painted
from reproduction.dream_metrics import change, colour_histogram, histogram_distance, spot, turns


def ball(xs):
    return torch.from_numpy(np.stack([painted((int(x), 32), RADIUS, COLOUR) for x in xs])).float() / 255


def test_change_is_the_mean_step_of_a_value():
    frames = torch.rand(2, 5, 3, 4, 4)
    expected = [np.abs(np.diff(video.double().numpy(), axis=0)).mean() for video in frames]
    np.testing.assert_allclose(change(frames), expected)
    assert change(frames[:, :1].expand(-1, 5, -1, -1, -1)).tolist() == [0, 0]


def test_spot_equals_the_drawn_disc():
    found = spot(ball([20, 31, 66]))
    assert found.area[:2].tolist() == [317, 317]
    assert found.area[2] == 110
    torch.testing.assert_close(found.centre[:2], torch.tensor([[20.0, 32], [31, 32]], dtype=torch.float64))
    assert found.brightness.tolist() == [1, 1, 1]
    nothing = spot(torch.zeros(1, 3, 8, 8))
    assert nothing.area.item() == 0
    assert nothing.centre.isnan().all()


def test_turns_ignore_jitter_of_the_path():
    path = torch.tensor([*range(32, 67, 2), *range(64, -3, -2), *range(0, 67, 2)], dtype=torch.float64)
    assert turns(path) == 2
    trembling = path + torch.tensor([3.0, -3.0]).repeat(len(path))[: len(path)]
    assert turns(trembling) == 2
    assert turns(torch.full((9,), 5.0)) == 0
    assert turns(torch.full((9,), float("nan"))) == 0
    path[20:23] = torch.nan  # out of sight for a moment
    assert turns(path) == 2


def test_colour_histograms_and_their_distance():
    half = torch.zeros(1, 3, 4, 4)
    half[:, 0, :2] = 1
    found = colour_histogram(half, bins=2)
    assert found.tolist() == [0.5, 0, 0, 0, 0.5, 0, 0, 0]
    assert histogram_distance(half, half) == 0
    assert histogram_distance(half, torch.zeros(1, 3, 4, 4)) == pytest.approx(0.5)
    assert histogram_distance(torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)) == 1
