"""The packaged worlds still play as they did when they were made."""

import numpy as np
import pytest
import torch

import framecast
from framecast.data.store import Store
from framecast.data.synthetic.game import GameConfig
from framecast.data.synthetic.maze import Maze
from framecast.data.synthetic.paddle import Paddle
from framecast.evaluation import maze_world, paddle_world
from framecast.evaluation.worlds import Starts, held_actions, obedience, play
from framecast.training.run_folder import packaged


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("games") / "paddle"
    Paddle(GameConfig(episodes=4, frames=120, seed=77)).prepare(folder)  # new games
    return Starts(Store(folder), framecast.load("world-paddle").num_context, 4)


@pytest.fixture(scope="module")
def maze_starts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("games") / "maze"
    Maze(GameConfig(episodes=3, frames=140, seed=77)).prepare(folder)  # new games
    return Starts(Store(folder), framecast.load("world-maze").num_context, 3)


def test_packaged_worlds_are_small():
    sizes = [
        sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        for name, folder in packaged().items()
        if name.startswith("world-")
    ]
    assert sizes
    assert sum(sizes) < 4_000_000


def test_paddle_keeps_a_clean_ball_and_obeys_on_new_games(starts):
    torch.set_num_threads(1)
    model = framecast.load("world-paddle")
    recording = play(starts.model_world(model), held_actions(len(starts), starts.size, 0), 60)
    found = paddle_world.presence(recording, paddle_world.PADDLE)
    assert found["clean_ball"] >= 0.95
    assert found["player_present"] == 1.0

    def place(frames: np.ndarray) -> np.ndarray:
        return paddle_world.paddle_places(frames, paddle_world.PADDLE, "player")

    worlds = {"world": lambda: starts.model_world(model), "true": starts.true_game}
    obeyed = obedience(worlds, (1, 2), place, hold=6)
    assert obeyed["moving_starts"] > 0
    assert obeyed["obeyed"] >= 0.9


def test_maze_keeps_walls_and_runner_on_new_games(maze_starts):
    torch.set_num_threads(1)
    model, board = framecast.load("world-maze"), maze_world.maze_board()
    actions = held_actions(len(maze_starts), maze_starts.size, 0)
    world = maze_world.presence(play(maze_starts.model_world(model), actions, 48), board)
    true = maze_world.presence(play(maze_starts.true_game(), actions, 48), board)
    assert world["walls_intact"] >= 0.999
    assert world["runner"] >= 0.5 * true["runner"] > 0
    assert world["chasers"] >= 0.5 * true["chasers"] > 0
