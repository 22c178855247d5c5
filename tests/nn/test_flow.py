"""Block matching and sampling at displaced positions; DIS is tested with the model linear-flow."""

import torch

from framecast.nn.flow import block_matching, warp


def test_block_matching_finds_a_shift():
    g = torch.Generator().manual_seed(0)
    wide = torch.nn.functional.avg_pool2d(torch.rand(1, 1, 80, 80, generator=g), 5, 1, 2)
    previous, last = wide[..., 8:72, 8:72], wide[..., 11:75, 3:67]  # last(x) = previous(x + flow), flow (-5, 3)
    flow = block_matching(previous, last)[..., 12:-12, 12:-12]
    near = ((flow[:, 0] + 5).abs() < 0.5) & ((flow[:, 1] - 3).abs() < 0.5)
    assert near.float().mean() > 0.85
    still = block_matching(previous, previous)
    assert torch.equal(still, torch.zeros_like(still))


def test_warp_at_whole_displacements_shifts():
    frames = torch.arange(12.0).view(1, 1, 3, 4)
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0] = 1
    assert torch.equal(warp(frames, flow)[0, 0, :, :3], frames[0, 0, :, 1:])
