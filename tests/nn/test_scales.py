"""Pyramids: sizes by floor of the original dims, averages down, half-pixel bilinear up."""

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.nn.scales import enlarge, pyramid, pyramid_sizes, shrink


def test_sizes_are_floors_of_the_original():
    assert pyramid_sizes(32, 32, 4) == [(4, 4), (8, 8), (16, 16), (32, 32)]
    assert pyramid_sizes(210, 160, 4) == [(26, 20), (52, 40), (105, 80), (210, 160)]
    assert pyramid_sizes(211, 160, 4) == [(26, 20), (52, 40), (105, 80), (211, 160)]
    assert pyramid_sizes(5, 7, 1) == [(5, 7)]


def test_frames_too_small_for_the_pyramid_are_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"3x3 are too small for 4 scales, which need at least 8x8"):
        pyramid_sizes(3, 3, 4)


def test_shrinking_averages_areas():
    x = torch.arange(8.0).expand(1, 1, 2, 8)
    assert shrink(x, (1, 4)).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]


def test_enlarging_is_half_pixel_bilinear():
    x = torch.arange(4.0).expand(1, 1, 1, 4)
    assert enlarge(x, (1, 8)).flatten().tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


def test_integer_ratio_gives_what_the_general_path_gives():
    x = torch.rand(2, 3, 24, 16)
    fast = shrink(x, (12, 4))
    torch.testing.assert_close(fast, torch.nn.functional.adaptive_avg_pool2d(x, (12, 4)))


def test_uneven_shrinking_agrees_with_a_plain_loop():
    x = torch.rand(1, 1, 21, 13, dtype=torch.float64)
    out = shrink(x, (5, 4))
    for i, j in np.ndindex(5, 4):
        rows = slice(i * 21 // 5, -(-(i + 1) * 21 // 5))
        columns = slice(j * 13 // 4, -(-(j + 1) * 13 // 4))
        assert out[0, 0, i, j].item() == pytest.approx(x[0, 0, rows, columns].mean().item())


def test_resize_to_the_same_size_makes_no_copy():
    x = torch.rand(1, 3, 8, 8)
    assert shrink(x, (8, 8)) is x
    assert enlarge(x, (8, 8)) is x
    assert pyramid(x, 3)[-1] is x


def test_shrink_does_not_enlarge():
    with pytest.raises(ValueError, match="use enlarge"):
        shrink(torch.rand(1, 1, 4, 4), (8, 4))


def test_layout_is_kept():
    x = torch.rand(2, 12, 32, 32).to(memory_format=torch.channels_last)
    assert all(level.is_contiguous(memory_format=torch.channels_last) for level in pyramid(x, 4))
