"""Shares of a forecast's change: least squares, trust in few clips, leave one out."""

import torch

from framecast.nn.shrinkage import PRIOR_CLIPS, change_sums, shrinkage, shrunk_errors

FACTORS = torch.tensor([0.5, 2.0, -1.0])


def clips(b=40):
    g = torch.Generator().manual_seed(0)
    last, change = torch.rand(b, 1, 3, 4, 4, generator=g), torch.rand(b, 3, 3, 4, 4, generator=g)
    return last + change, last + change * FACTORS.view(1, 3, 1, 1, 1), last


def test_share_is_that_of_least_squares_with_some_clips_that_come_as_predicted():
    found = shrinkage(change_sums(*clips()))
    trusted = PRIOR_CLIPS / 40
    expected = torch.tensor([(0.5 + trusted) / (1 + trusted), 1, 0], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_one_clip_alone_decides_little():
    assert shrinkage(change_sums(*clips(1)))[0] > 0.8


def test_nothing_known_and_nothing_predicted_keep_everything():
    forecast, truth, last = clips(4)
    assert torch.equal(shrinkage(change_sums(forecast, truth, last)[:, :0]), torch.ones(3, dtype=torch.float64))
    still = shrinkage(change_sums(last.expand_as(truth), truth, last))
    assert torch.equal(still, torch.ones(3, dtype=torch.float64))


def test_errors_are_those_of_forecasts_scaled_by_the_shares_of_the_other_clips():
    forecast, truth, last = clips(5)
    found = shrunk_errors(change_sums(forecast, truth, last))
    for i in range(5):
        others = [j for j in range(5) if j != i]
        shares = shrinkage(change_sums(forecast[others], truth[others], last[others])).float().view(3, 1, 1, 1)
        scaled = last[i] + shares * (forecast[i] - last[i])
        torch.testing.assert_close(found[i].float(), (scaled - truth[i]).square().sum((1, 2, 3)), atol=1e-4, rtol=1e-4)
