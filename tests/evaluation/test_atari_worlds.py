"""Figures of worlds of the emulator's games: what stands still, presence, dots, and a tiny world of each game."""

import dataclasses
import json

import numpy as np
import pytest

from framecast.cli.world import make_world
from framecast.data.registry import make_source
from framecast.data.store import Store
from framecast.evaluation.atari_worlds import _board, presence, still_intact
from framecast.evaluation.maze_world import dots
from framecast.evaluation.world_games import GAMES
from framecast.evaluation.worlds import Recording, Starts, play
from framecast.metrics.objects import GAMES as OBJECTS
from framecast.metrics.objects import Thing, Things, cropped, things_of


def recording(frames):
    n, t = frames.shape[:2]
    return Recording(frames.astype(np.uint8), np.zeros((n, t - 1), np.int64), np.zeros((n, t - 1)))


def test_pixels_that_stand_still_are_counted_where_they_do_not():
    frames = np.zeros((2, 5, 4, 4))
    still = np.ones((4, 4), bool)
    still[0] = False
    frames[0, 4, 1, 0] = 1  # one of twelve still pixels, in the last of four frames of one of two worlds
    frames[1, 2, 0] = 1  # not among the still ones
    found = still_intact(recording(frames), still)
    assert found["still_share"] == 0.75
    assert found["still_intact"] == pytest.approx(1 - 1 / 12 / 8)
    assert found["still_intact_last"] == pytest.approx(1 - 1 / 12 / 2)


def test_presence_of_objects_is_given_to_64_frames_and_by_fifths():
    palette = np.array([(0, 0, 0), (250, 0, 0)])
    things = Things(things=(Thing(name="ball", colours=((250, 0, 0),), least=1),), size=(8, 8), grounds=((0, 0, 0),))
    frames = np.zeros((1, 101, 8, 8))
    frames[0, :51, 3, 3] = 1  # the start is not counted: 50 frames of 100
    found = presence(recording(frames), things, palette)
    assert found["objects"] == found["shown"]["ball"] == 0.5
    assert found["shown_to_64"]["ball"] == 50 / 64
    assert found["shown_by_fifth"]["ball"] == [1, 1, 0.5, 0, 0]


def test_frames_after_the_end_of_a_game_do_not_count():
    palette = np.array([(0, 0, 0), (250, 0, 0)])
    things = Things(things=(Thing(name="ball", colours=((250, 0, 0),), least=1),), size=(8, 8), grounds=((0, 0, 0),))
    frames = np.zeros((2, 101, 8, 8))
    frames[:, :31, 3, 3] = 1
    ended = dataclasses.replace(recording(frames), lengths=np.array([31, 41]))  # 30 of 30 frames, and 30 of 40
    found = presence(ended, things, palette)
    assert found["frames_of_games"] == 35
    assert found["shown"]["ball"] == found["objects"] == 60 / 70
    assert found["shown_by_fifth"]["ball"] == [1, 20 / 30, None, None, None]


class Ending:
    """Games that end: the first at the third step, the second at the second one, of which it starts again."""

    def __init__(self):
        self.frames, self.over, self.count = np.zeros((2, 1, 1), np.uint8), np.zeros(2, bool), 0

    def step(self, actions):
        self.count += 1
        self.over = np.array([self.count >= 3, self.count == 2])
        return np.zeros(2)


def test_a_recording_lasts_until_the_end_for_good():
    recorded = play(Ending(), lambda frames: np.zeros(2, np.int64), 5)
    assert recorded.lengths.tolist() == [4, 6]
    assert [len(frames) for frames in recorded.lasting()] == [4, 6]
    assert play(Ending(), lambda frames: np.zeros(2, np.int64), 2).lengths.tolist() == [3, 3]


def test_dots_are_pixels_of_the_walls_colour_that_turn_to_ground_one_for_each_dot():
    frames = np.zeros((1, 40, 12, 12))
    frames[:, :, 0] = 1  # a wall
    frames[:, :, 4:6, 2:4] = frames[:, :, 4:6, 8:10] = 1  # two dots of 2x2 px
    frames[:, 20:, 4:6, 2:4] = 0  # one of them is eaten
    frames[:, 18:20, 4:8, 2:6] = 2
    frames[:, ::4, 9:11, 9:11] = 1  # a power pill that blinks
    board = _board(recording(frames), wall=1, ground=0, runner=2)
    assert board.dots.tolist() == [[4, 2]]
    found = dots(recording(frames), board, later=15)
    assert found["eaten"] == 1
    assert found["stay_eaten"] == 1
    assert found["vanished_without_runner"] == 0


def test_freeway_has_a_chicken_and_ten_cars_each_in_its_lane():
    things = cropped(OBJECTS["freeway"], (16, 8, 192, 160)).things
    assert [t.name for t in things] == ["chicken", *(f"car {i}" for i in range(1, 11))]
    tops = [t.box[0] for t in things[1:]]
    assert np.diff(tops).tolist() == [16] * 9
    assert len({t.colours for t in things[1:]}) == 10


@pytest.mark.parametrize("game", ["pong", "ms_pacman", "freeway", "breakout"])
def test_objects_are_there_in_true_frames_of_the_world_s_recordings(game, tmp_path):
    pytest.importorskip("ale_py")
    chosen = GAMES[game]
    make_source(chosen.source, tmp_path / "s", {**chosen.settings, "episodes": 1, "max_frames": 240})
    source = Store(tmp_path / "s")
    frames = source.clip(0, 0, 240).frames
    packed = frames.transpose(0, 2, 3, 1).reshape(-1, 3).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    present = np.flatnonzero(np.bincount(packed))
    colours = np.stack([present >> 16, present >> 8 & 255, present & 255], 1)
    indices = np.searchsorted(present, packed)
    assert len(colours) <= 16  # the default palette holds them
    shown = presence(recording(indices.reshape(1, 240, *frames.shape[2:])), things_of(source.meta()), colours)
    assert all(share > 0.6 for share in shown["shown"].values())


def test_a_game_of_the_emulator_becomes_a_world_that_is_measured_and_packed(tmp_path):
    pytest.importorskip("ale_py")
    paths = make_world("ms_pacman", tmp_path / "w", tiny=True)
    figures = json.loads(paths["figures"].read_text())
    for name in ("world", "true"):
        found = figures["random_held_actions"][name]
        assert found["shown"].keys() == {"Ms. Pac-Man", "Blinky", "Pinky", "Inky", "Sue"}
        assert found["still_share"] > 0.5
        assert "stay_eaten" in found
    assert figures["random_held_actions"]["true"]["still_intact"] == 1
    assert "obeyed" in figures["obedience"]
    assert list(paths["world"].glob("examples/ms_pacman-*.npz"))


def test_a_store_without_a_palette_is_compared_in_the_colours_given(tmp_path):
    pytest.importorskip("ale_py")
    make_source("atari", tmp_path / "s", {"game": "pong", "episodes": 4, "max_frames": 40, "reduce": 2, "field": True})
    palette = np.array([(144, 72, 17), (236, 236, 236)])
    assert Starts(Store(tmp_path / "s"), 4, 2, palette=palette).recorded_actions().shape == (2, 0)
