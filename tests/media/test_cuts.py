"""Made cuts are found at their frame; pans, flashes, fades and fast objects are no cuts."""

import numpy as np
import pytest

from framecast.data.inspect import inspect
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.store import pack
from framecast.media.cuts import find_cuts
from framecast.media.resize import resize_frames
from framecast.media.video import write_video


def world(seed, height=64, width=400, tinted=True):
    """A wide picture with structure at several scales and, if tinted, colours of its own."""
    rng = np.random.default_rng(seed)
    layers = [
        resize_frames(rng.integers(0, 256, (1, 3, height // s, width // s), np.uint8), (height, width)) for s in (8, 32)
    ]
    tint = rng.uniform(0.2, 1, (3, 1, 1)) if tinted else 1
    return np.clip(np.mean([layer[0] for layer in layers], axis=0) * tint, 0, 255).astype(np.uint8)


def pan(seed, count, speed, start=0, tinted=True):
    """A camera that moves over a world by `speed` px a frame."""
    picture = world(seed, tinted=tinted)
    return np.stack([picture[:, :, start + round(speed * i) :][:, :, :96] for i in range(count)])


@pytest.mark.parametrize("speed", [0, 1, 4, 9])
def test_made_cuts_are_found_and_pans_are_not(speed):
    shots = [pan(seed, 15, speed) for seed in range(6)]
    assert find_cuts(np.concatenate(shots)) == [15, 30, 45, 60, 75]
    for shot in shots:
        assert find_cuts(shot) == []


@pytest.mark.parametrize("speed", [0, 1, 2])
def test_cuts_between_shots_of_the_same_colours_are_found(speed):
    shots = [pan(seed, 15, speed, tinted=False) for seed in range(6)]
    assert find_cuts(np.concatenate(shots)) == [15, 30, 45, 60, 75]
    for shot in shots:
        assert find_cuts(shot) == []


def test_a_jump_within_a_scene_and_an_inverted_frame_are_no_cuts():
    scene = pan(1, 30, 1, tinted=False)
    jump = np.concatenate([scene[:15], pan(1, 15, 1, start=24, tinted=False)])  # a sixth of the picture
    inverted = scene.copy()
    inverted[14] = 255 - inverted[14]
    noise = np.random.default_rng(0).integers(0, 256, (30, 3, 64, 96), np.uint8)
    for frames in (jump, inverted, noise):
        assert find_cuts(frames) == []


def test_one_frame_between_two_shots_does_not_hide_the_cut():
    for speed in (0, 1, 4):
        film = np.concatenate([pan(1, 15, speed), pan(2, 15, speed)]).astype(np.int64)
        for between in (0, 255, (film[13] + film[15]) / 2):
            changed = film.copy()
            changed[14] = between
            found = find_cuts(changed.astype(np.uint8))
            assert found in ([14], [15]), (speed, found)
        flash = film[:15].copy()
        flash[7] = film[20]  # one frame of another shot
        assert find_cuts(flash.astype(np.uint8)) == []


def test_flash_fade_and_fast_object_are_no_cuts():
    film = pan(1, 30, 1).astype(np.int64)
    flash = film.copy()
    flash[12] = np.minimum(flash[12] + 120, 255)
    fade = film * np.linspace(1, 0, 30)[:, None, None, None]
    ball = film.copy()
    for i in range(30):
        ball[i, :, 20:40, (13 * i) % 76 : (13 * i) % 76 + 20] = 255
    for frames in (flash, fade, ball):
        assert find_cuts(np.clip(frames, 0, 255).astype(np.uint8)) == []


def test_cuts_reach_inspection_and_the_store(tmp_path):
    path = write_video(np.concatenate([pan(1, 20, 2), pan(2, 25, 2)]), tmp_path / "a.mp4", 25)
    source = open_path(path)
    assert inspect(source, cuts=True)["cuts"] == {"a": [20]}
    store = pack(source, tmp_path / "store")
    assert store.breaks == {"a": [20]}
    assert any("shot cuts" in note for note in store.meta()["notes"])
    assert inspect(store)["breaks"] == 1
    assert pack(source, tmp_path / "old", ReadOptions(cuts=False)).breaks == {}
