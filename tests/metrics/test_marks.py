"""Marks: dots and bricks are seen as present, gone or hidden."""

import numpy as np
import pytest
import torch
from marks import GONE, HIDDEN, PRESENT, Marks, find_marks, marks_of

from framecast.core.errors import UserError

RED, BLACK = (200, 0, 0), (0, 0, 0)
TWO = Marks(places=((1, 2), (3, 4)), colours=(RED, (0, 0, 200)), grounds=(BLACK,), size=(6, 8))


def test_a_mark_is_present_in_its_own_colour_only():
    frames = torch.zeros(3, 3, 6, 8)
    frames[0, 0, 1, 2] = frames[0, 2, 3, 4] = 200 / 255
    frames[1, 0, 3, 4] = 200 / 255  # the colour of the other
    frames[2, :, 1, 2] = 1.0
    assert find_marks(frames, TWO).tolist() == [[PRESENT, PRESENT], [GONE, HIDDEN], [HIDDEN, GONE]]


def test_places_scale_with_the_frame():
    frames = torch.zeros(3, 3, 4)
    frames[0, 0, 1] = 200 / 255
    assert find_marks(frames, TWO).tolist() == [PRESENT, GONE]


def test_bricks_of_the_emulator_are_all_found(tmp_path):
    pytest.importorskip("ale_py")
    from framecast.data.store import Store
    from framecast.data.synthetic.atari import Atari, AtariConfig

    config = AtariConfig(
        game="breakout", episodes=1, max_frames=150, frame_skip=2, policy="follow", field=True, reduce=2
    )
    Atari(config).prepare(tmp_path / "s")
    store = Store(tmp_path / "s")
    clip = store.clip(0, 0, 150)
    found = find_marks(torch.from_numpy(clip.frames.copy()).float() / 255, marks_of(store.meta())["bricks"]).numpy()
    assert (found[0] == PRESENT).all()
    assert found.shape == (150, 108)
    hits = int((clip.arrays["rewards"] > 0).sum())
    assert hits >= 1
    assert abs(int((found[-1] == GONE).sum()) - hits) <= 1
    empty = find_marks(torch.zeros(3, 81, 72), marks_of(store.meta())["bricks"])
    assert np.unique(empty).tolist() == [GONE]


def test_damaged_entries_are_refused():
    with pytest.raises(UserError, match=r"meta.json: marks are not valid"):
        marks_of({"marks": {"dots": {"places": [[1, 2]]}}})
    with pytest.raises(UserError, match="places must lie in the frame of 6x8 px"):
        Marks(places=((6, 0),), colours=(RED,), grounds=(), size=(6, 8))
    with pytest.raises(UserError, match="expected one colour per place, got 1 for 2"):
        Marks(places=((1, 0), (2, 0)), colours=(RED,), grounds=(), size=(6, 8))
    assert marks_of({}) == {}
