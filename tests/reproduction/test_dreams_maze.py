"""Detection of the maze's sprites: where the states have them, nowhere in an empty maze, and not in smears."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from framecast.data.registry import make_source
from framecast.data.store import Store
from framecast.data.synthetic.maze import MazeGame
from framecast.evaluation.maze_world import maze_board

ROOT = Path(__file__).parents[2]


@pytest.fixture
def maze(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("reproduction.dreams_maze")


def test_detector_finds_sprites_where_the_states_have_them(maze, tmp_path):
    make_source("maze", tmp_path / "maze", {"episodes": 3, "frames": 200})
    found = maze.detector(Store(tmp_path / "maze"), maze_board())
    assert found["truth"] >= 0.99
    assert found["false"] == found["blank"] == 0


def test_sprites_are_of_one_place_and_stray_pixels_are_not_part_of_them(maze):
    board = maze_board()
    frames = np.stack([MazeGame().indices()] * 5)
    frames[1, 20:25, 30:35] = board.runner
    frames[2, 20:32, 30:42] = board.runner  # a smear
    frames[3, 20:22, 30:33] = board.runner  # a rest of one
    frames[4] = frames[1]
    frames[4, 60, ::9] = board.runner  # far from it
    places = maze.sprites(frames, board)
    assert places.shape == (5, 5, 2)
    assert places[1, 0].tolist() == places[4, 0].tolist() == [22, 32]
    assert np.isnan(places[[0, 2, 3]]).all()
    assert np.isnan(places[1, 1:]).all()
    corner = np.stack([MazeGame().indices()] * 2)
    corner[0, :5, :5] = corner[1, board.rows - 5 : board.rows, -5:] = board.runner
    assert maze.sprites(corner, board)[:, 0].tolist() == [[2, 2], [board.rows - 3, 77]]
    truth = places[1] + np.array([1.0, -2.0])
    assert maze.near(places[1], truth).tolist() == [True, False, False, False, False]
    assert not maze.near(places[1], truth + np.array([2.0, 0.0])).any()
