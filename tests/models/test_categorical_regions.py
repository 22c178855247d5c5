"""Regions: boxes in which a colour is a class of its own."""

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import ClipSpec
from framecast.models.categorical.config import PROFILES, CategoricalConfig
from framecast.models.categorical.palette import find_palette
from framecast.models.categorical.predictor import Categorical
from framecast.models.categorical.regions import class_of, divide, impossible, marks, owners

BLACK, RED, BLUE = (0, 0, 0), (200, 72, 72), (0, 0, 200)
#: Red in the two upper rows, and in the lowest one.
REGIONS = ((*RED, 0, 0, 2, 8), (*RED, 7, 0, 8, 8))


def frame(*places):
    found = np.zeros((3, 8, 8), np.uint8)
    for colour, rows, columns in places:
        found[:, rows, columns] = np.array(colour)[:, None, None]
    return found


def scene(ball):
    """Bricks of eight pixels, a paddle of three and a ball of one, all red, and a blue pixel."""
    return frame(
        (RED, slice(0, 1), slice(0, 8)),
        (RED, slice(7, 8), slice(2, 5)),
        (RED, slice(ball, ball + 1), slice(4, 5)),
        (BLUE, slice(3, 4), slice(0, 1)),
    )


def model(**changes):
    config = {"palette": (BLACK, RED, BLUE), "regions": REGIONS, "widths": (8, 8, 8), "condition": 8, **changes}
    return Categorical(CategoricalConfig(**config), ClipSpec(channels=3, height=8, width=8, fps=30.0))


def test_a_pixel_has_the_class_of_the_region_that_holds_it():
    indices = torch.tensor([[[0, 1, 2], [1, 1, 0]]])
    given = indices.clone()
    found = divide(indices, ((*RED, 0, 0, 1, 3), (*RED, 0, 0, 2, 1)), (1, 1), 3)
    assert found.tolist() == [[[0, 3, 2], [4, 1, 0]]]  # the first box counts where two overlap
    assert indices.equal(given)


def test_every_class_is_possible_exactly_where_a_pixel_can_have_it():
    every = torch.arange(3)[:, None, None].expand(-1, 8, 8)
    never = impossible(REGIONS, (1, 1), 3, 8, 8)
    for k in range(5):
        assert (~never[k]).equal((divide(every, REGIONS, (1, 1), 3) == k).any(0))
    assert never[1, :2].all()
    assert not never[1, 2:7].any()
    assert never[3, 2:].all()
    assert not never[[0, 2]].any()


def test_areas_are_measured_apart():
    found = find_palette([scene(b) for b in (3, 4, 5)], 16, regions=REGIONS)
    k = found.colours.index(RED)
    assert found.distinct == len(found.colours) == 3
    assert len(found.areas) == len(found.usual) == len(found.extents) == 5
    assert (found.areas[k], found.areas[3], found.areas[4]) == (1, 8, 3)  # ball, bricks, paddle
    assert (found.extents[k], found.extents[4]) == ((1, 1), (1, 3))
    whole = find_palette([scene(b) for b in (3, 4, 5)], 16)
    assert whole.areas[whole.colours.index(RED)] == 12
    assert whole.error == found.error == 0


def test_classes_of_numpy_and_of_torch_agree():
    rng = np.random.default_rng(0)
    regions = ((*RED, 1, 1, 5, 6), (*BLUE, 0, 0, 3, 3), (*RED, 2, 2, 8, 8))
    owned = owners((BLACK, RED, BLUE), regions)
    assert owned == (1, 2, 1)
    indices, mark = rng.integers(0, 3, (8, 8)), marks(regions, 8, 8)
    expected = [
        [class_of(c, m, owned, 3) for c, m in zip(*rows, strict=True)] for rows in zip(indices, mark, strict=True)
    ]
    assert divide(torch.from_numpy(indices), regions, owned, 3).tolist() == expected


def test_frames_come_back_in_their_colours():
    built = model()
    frames = torch.from_numpy(scene(4)).float() / 255
    indices = built.indices(frames[None])
    assert sorted(indices.unique().tolist()) == [0, 1, 2, 3, 4]
    assert (built.colours(indices)[0] - frames).abs().max() < 1e-6


def test_no_step_puts_a_class_where_it_cannot_be():
    built = model(areas=(60, 1, 1, 8, 3), least_areas=(50, 1, 1, 8, 3))
    bias = built.network.head.bias.detach().view(5, 4)
    bias[3] = 50.0  # bricks everywhere, as far as the network is concerned
    state = built.rollout_init(torch.from_numpy(np.stack([scene(b) for b in (3, 4, 5)])[None]).float() / 255)
    logits, _ = built._logits(built._history(state), torch.zeros(1, 0))
    assert (logits[0][built.impossible] == -1e4).all()
    assert (logits[0][~built.impossible] > -1e3).all()
    state, _ = built.rollout_step(state)
    newest = state["frames"][0, -1]
    assert not built.impossible.gather(0, newest[None]).any()
    assert (newest[:2] == 3).any()


def test_regions_of_other_colours_or_sizes_are_one_sentence():
    with pytest.raises(UserError, match=r"no colour \(9, 200, 9\)"):
        find_palette([scene(3)], 16, regions=((9, 200, 9, 0, 0, 2, 8),))
    with pytest.raises(UserError, match="is no box"):
        CategoricalConfig(regions=((*RED, 4, 0, 2, 8),))
    with pytest.raises(UserError, match="colours and regions"):
        CategoricalConfig(palette=(BLACK, RED), regions=REGIONS, areas=(60, 1))
    with pytest.raises(UserError, match="0 colours and regions"):
        CategoricalConfig(regions=REGIONS, areas=(8, 3))
    with pytest.raises(UserError, match="at most 32, got 33"):
        CategoricalConfig(regions=REGIONS[:1] * 33)
    with pytest.raises(UserError, match=r"\(999, 0, 0\) is no colour"):
        CategoricalConfig(regions=((999, 0, 0, 0, 0, 2, 2),))

    class Data:
        spec = ClipSpec(channels=3, height=8, width=8, fps=30.0)

        def frames(self, most):
            return iter([scene(3)])

    with pytest.raises(UserError, match="outside the frames of 8x8 px"):
        Categorical.config_from_data(CategoricalConfig(regions=((*RED, 0, 0, 2, 9),)), Data())
    completed = Categorical.config_from_data(CategoricalConfig(regions=REGIONS, outcomes="none"), Data())
    assert len(completed.areas) == 5


def test_without_regions_nothing_is_kept_of_them():
    assert all(make().regions == () for make in PROFILES.values())
    assert "impossible" not in dict(model(regions=()).named_buffers())
