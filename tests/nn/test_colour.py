"""Hue and grey, against the standard library's colour system."""

import colorsys

import torch

from framecast.nn.colour import shift_hue, to_grey


def test_turned_hues_are_those_of_colorsys():
    frames = torch.rand(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    turns = torch.tensor([0.2, -0.45]).double()
    found = shift_hue(frames, turns)
    for b, t, y, x in ((0, 0, 0, 0), (0, 2, 3, 1), (1, 1, 2, 2), (1, 0, 3, 3)):
        hue, saturation, value = colorsys.rgb_to_hsv(*frames[b, t, :, y, x].tolist())
        expected = torch.tensor(colorsys.hsv_to_rgb((hue + float(turns[b])) % 1, saturation, value)).double()
        torch.testing.assert_close(found[b, t, :, y, x], expected, atol=1e-6, rtol=1e-6)


def test_grey_and_a_full_hue_rotation_are_unchanged():
    grey = torch.full((1, 2, 3, 2, 2), 0.4)
    torch.testing.assert_close(shift_hue(grey, torch.tensor([0.3])), grey)
    frames = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(shift_hue(frames, torch.tensor([1.0])), frames, atol=1e-6, rtol=1e-5)


def test_red_becomes_green_at_a_third():
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    torch.testing.assert_close(
        shift_hue(red, torch.tensor([1 / 3])).flatten(), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0
    )


def test_luminance_in_three_channels():
    frames = torch.rand(2, 3, 4, 4)
    grey = to_grey(frames)
    assert grey.shape == frames.shape
    expected = 0.299 * frames[:, 0] + 0.587 * frames[:, 1] + 0.114 * frames[:, 2]
    for channel in range(3):
        torch.testing.assert_close(grey[:, channel], expected)
