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


def test_sprites_are_whole_and_at_one_place(maze):
    board = maze_board()
    frames = np.stack([MazeGame().indices()] * 4)
    frames[1, 20:25, 30:35] = board.runner
    frames[2, 20:25, 30:32] = board.runner  # smeared over two places
    frames[2, 40:45, 30:32] = board.runner
    frames[3, 20:22, 30:33] = board.runner  # a rest of one
    places = maze.sprites(frames, board)
    assert places.shape == (4, 5, 2)
    assert places[1, 0].tolist() == [22, 32]
    assert np.isnan(places[[0, 2, 3]]).all()
    assert np.isnan(places[1, 1:]).all()
    truth = places[1] + np.array([1.0, -2.0])
    assert maze.near(places[1], truth).tolist() == [True, False, False, False, False]
    assert not maze.near(places[1], truth + np.array([2.0, 0.0])).any()
