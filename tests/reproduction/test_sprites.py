"""Sprites anywhere in a frame: all on true frames, none on an empty maze, in a wide area or in scattered pixels."""

import numpy as np
import pytest
import torch

from framecast.data.store import Store
from framecast.data.synthetic.atari import Atari, AtariConfig
from framecast.metrics.objects import find
from reproduction.sprites import AREAS, MOST, THINGS, presence, sprites

HER, BLINKY = (210, 164, 74), (200, 72, 72)


def drawn(*squares, size=(8, 8), ground=(0, 28, 136)):
    """A frame of one colour with squares of (colour, top, left)."""
    frame = torch.tensor(ground).view(3, 1, 1).expand(3, 210, 160).clone().float()
    for colour, top, left in squares:
        frame[:, top : top + size[0], left : left + size[1]] = torch.tensor(colour).view(3, 1, 1).float()
    return frame / 255


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    pytest.importorskip("ale_py")
    folder = tmp_path_factory.mktemp("recorded") / "data"
    settings = {"game": "ms_pacman", "episodes": 3, "max_frames": 80, "frame_skip": 4, "deflicker": True, "seed": 5}
    Atari(AtariConfig(**settings)).prepare(folder)
    store = Store(folder)
    clips = [store.clip(video, 0, length).frames for video, length in enumerate(store.lengths)]
    return torch.from_numpy(np.concatenate(clips)).float() / 255


def test_she_is_found_on_true_frames_and_ghosts_where_they_are_drawn(recorded):
    found, places = sprites(recorded)
    assert found[:, 0].float().mean() >= 0.99
    whole = find(recorded, THINGS)
    for k in range(1, len(THINGS.things)):
        area = whole.there[:, k]  # at least 20 px of its colour
        assert (found[:, k] & area).sum() >= 0.9 * area.sum()  # the rest is eaten, covered or leaves the frame
    gap = (places - whole.place).norm(dim=-1)[found & whole.there]
    assert gap.nanquantile(0.95) < 2


def test_an_empty_maze_has_no_sprite(recorded):
    maze = recorded.median(0).values
    assert not sprites(maze)[0].any()
    drifted = (maze + torch.linspace(-0.05, 0.05, 11).view(-1, 1, 1, 1)).clamp(0, 1)
    assert not sprites(drifted)[0].any()


def test_wide_areas_scattered_pixels_and_lives_are_no_sprites():
    wide = drawn((BLINKY, 20, 20), size=(60, 60))
    scattered = drawn(*((BLINKY, top, left) for top in range(10, 160, 12) for left in range(10, 150, 12)), size=(2, 2))
    lives = drawn((HER, 180, 20))
    assert not sprites(torch.stack([wide, scattered, lives]))[0].any()
    pills = drawn((BLINKY, 14, 8), (BLINKY, 140, 148), size=(7, 4))  # power pills in another colour
    assert not sprites(pills)[0].any()
    faint = 0.4 * drawn((BLINKY, 40, 40)) + 0.6 * drawn()
    assert not sprites(faint)[0].any()
    assert AREAS["Blinky"] <= 64
    assert MOST * AREAS["Blinky"] > 64


def test_presence_counts_any_sprite_the_share_of_them_and_moves():
    truth = torch.stack([drawn((HER, 20, 20 + 4 * k), (BLINKY, 60, 40)) for k in range(6)])
    still = torch.stack([drawn((BLINKY, 60, 40))] * 6)
    lost = torch.stack([drawn()] * 6)
    found = presence(torch.stack([truth, still, lost]), truth.expand(3, -1, -1, -1, -1))
    assert found["any"] == [[1.0] * 6, [1.0] * 6, [0.0] * 6]
    assert found["share"] == [[1.0] * 6, [0.5] * 6, [0.0] * 6]
    assert [row[4:] for row in found["moving"]] == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert np.isnan([row[:4] for row in found["moving"]]).all()
