"""Figures of playable worlds, on the true games themselves: what is found there must be what the rules say."""

import dataclasses

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.data.synthetic.game import GameConfig
from framecast.data.synthetic.maze import Maze
from framecast.data.synthetic.paddle import Paddle
from framecast.evaluation import maze_world, paddle_world
from framecast.evaluation.world_figures import WorldProtocol, maze_figures, paddle_figures
from framecast.evaluation.worlds import (
    Recording,
    Starts,
    constant,
    event_scores,
    held_actions,
    obedience,
    play,
    single_ends,
    to_indices,
    wrong_pixels,
)
from framecast.models.categorical.config import tiny
from framecast.models.categorical.predictor import Categorical


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    found = {}
    for source in (Paddle, Maze):
        folder = tmp_path_factory.mktemp("games") / source.name
        source(GameConfig(episodes=4, frames=160)).prepare(folder)
        found[source.name] = Store(folder)
    return found


def world_of(store):
    """A categorical model without training for the game of a store."""
    meta = store.meta()
    palette = tuple(tuple(c) for c in meta["palette"])
    config = dataclasses.replace(
        tiny(), colours=16, palette=palette, areas=(30,) * len(palette), reward_values=(-1.0, 0.0, 1.0)
    )
    torch.manual_seed(0)
    return Categorical(config, store.spec)


def test_true_paddle_game_has_its_pauses_paddles_and_returns(stores):
    starts = Starts(stores["paddle"], 4, 4)
    recording = play(starts.true_game(), paddle_world.follower(paddle_world.PADDLE), 250)
    rallies = paddle_world.rallies(recording, paddle_world.PADDLE)
    assert rallies["lost"] == 0
    assert rallies["player_return_rate"] >= 0.95
    assert rallies["player_returned"] > 3
    idle = play(starts.true_game(), constant(4, 0), 200)
    found = paddle_world.presence(idle, paddle_world.PADDLE)
    assert found["both_paddles"] == 1.0
    assert found["clean_ball"] == 1.0
    assert found["dead"] == 0
    pauses = paddle_world.rallies(idle, paddle_world.PADDLE)["pauses"]
    assert pauses
    assert set(pauses) == {30}
    assert paddle_world.serves_in_time(pauses, pauses) == 1.0


def test_detectors_find_the_exact_positions_and_nothing_in_empty_frames(stores):
    store = stores["paddle"]
    clip = store.clip(0, 0, 160)
    frames = to_indices(clip.frames, np.array(store.meta()["palette"]))
    states = clip.arrays["states"]
    ball = paddle_world.ball_places(frames, paddle_world.PADDLE)
    assert np.array_equal(np.isfinite(ball[:, 0]), states[:, 0] >= 0)
    there = states[:, 0] >= 0
    assert np.abs(ball[there, 1] - (states[there, 0] // 2 + 0.5)).max() <= 0.5
    empty = np.zeros((2, 80, 80), np.uint8)
    assert np.isnan(paddle_world.ball_places(empty, paddle_world.PADDLE)).all()
    board = maze_world.maze_board()
    assert np.isnan(maze_world.runner_places(empty, board)).all()
    assert not maze_world.chasers_present(empty, board).any()


def test_a_dead_world_is_counted(stores):
    frames = np.zeros((2, 260, 80, 80), np.uint8)
    frames[0, ::2, 40:42, 40:42] = paddle_world.PADDLE.ball
    found = paddle_world.presence(Recording(frames, np.zeros((2, 259)), np.zeros((2, 259))), paddle_world.PADDLE)
    assert found["dead"] == 1
    assert found["both_paddles"] == 0.0
    ended = Recording(frames, np.zeros((2, 259)), np.zeros((2, 259)), lengths=np.array([260, 100]))
    found = paddle_world.presence(ended, paddle_world.PADDLE)
    assert found["dead"] == 0
    assert found["frames_of_games"] == (259 + 99) / 2
    assert found["ball_share"] == pytest.approx(129 / (259 + 99))
    assert found["ball_share_by_fifth"][4] == pytest.approx(0.5, abs=0.02)


def test_true_maze_keeps_walls_runner_and_eaten_dots(stores):
    starts = Starts(stores["maze"], 4, 4)
    board = maze_world.maze_board()
    recording = play(starts.true_game(), maze_world.dot_eater(board), 150)
    found = maze_world.presence(recording, board)
    assert found["walls_intact"] == 1.0
    assert found["chasers"] <= 4
    assert found["no_runner_longest"] <= 60
    eaten = maze_world.dots(recording, board)
    assert eaten["eaten"] >= 8
    assert eaten["stay_eaten"] == 1.0
    assert eaten["vanished_without_runner"] <= 0.02
    states = stores["maze"].clip(0, 0, 160).arrays["states"]
    frames = to_indices(stores["maze"].clip(0, 0, 160).frames, starts.palette)
    assert np.array_equal(np.isfinite(maze_world.runner_places(frames, board)[:, 0]), states[:, 0] >= 0)
    assert np.array_equal(maze_world.lives(frames, board), states[:, 29])


def test_the_true_game_obeys_itself_and_a_still_world_does_not(stores):
    starts = Starts(stores["paddle"], 4, 6)

    class Still:
        def __init__(self):
            self.frames = starts.true_game().frames
            self.over = np.zeros(len(self.frames), bool)

        def step(self, actions):
            return np.zeros(len(actions))

    def place(frames):
        return paddle_world.paddle_places(frames, paddle_world.PADDLE, "player")

    both = obedience({"world": starts.true_game, "true": starts.true_game}, (1, 2), place)
    assert both["moving_starts"] > 0
    assert both["obeyed"] == 1.0
    assert obedience({"world": Still, "true": starts.true_game}, (1, 2), place)["obeyed"] == 0.0


def test_events_are_matched_one_to_one_within_two_frames():
    truth = np.array([[0, 1, 0, 0, 0, 0, -1, 0]])
    found = np.array([[0, 0, 1, 1, 0, 0, 0, 1]])
    scores = event_scores(found, truth)
    assert scores["events"] == 2
    assert scores["precision"] == pytest.approx(1 / 3)
    assert scores["recall"] == pytest.approx(1 / 2)
    assert event_scores(truth, truth)["f1"] == 1.0
    assert event_scores(truth * 0, truth * 0)["f1"] is None


def test_an_end_that_is_expected_in_several_frames_is_one_end():
    found = np.zeros((2, 12), bool)
    found[0, [1, 2, 4, 7]], found[1, [0, 11]] = True, True
    assert [np.flatnonzero(row).tolist() for row in single_ends(found)] == [[1, 7], [0, 11]]
    truth = np.zeros((2, 12))
    truth[0, 2], truth[1, [0, 11]] = 1, 1
    scores = event_scores(single_ends(found), truth)
    assert (scores["precision"], scores["recall"]) == (3 / 4, 1)


def test_horizon_is_the_frame_up_to_which_copy_last_is_beaten():
    start = np.zeros((1, 4, 4), np.uint8)
    truth = np.zeros((1, 3, 4, 4), np.uint8)
    truth[0, :, 0, 0] = 1
    made = np.concatenate([start[:, None], truth], 1)
    made[0, 3] = 2
    assert wrong_pixels(Recording(made, np.zeros((1, 3)), np.zeros((1, 3))), truth, start)["horizon"] == 2


def test_held_actions_are_held_and_the_same_for_one_seed():
    player, again = held_actions(3, 4, seed=1), held_actions(3, 4, seed=1)
    frames = np.zeros((3, 2, 2), np.uint8)
    actions = np.stack([player(frames) for _ in range(100)])
    assert np.array_equal(actions, np.stack([again(frames) for _ in range(100)]))
    assert (actions[1:] == actions[:-1]).mean() > 0.8


@pytest.mark.parametrize("game", ["paddle", "maze"])
def test_all_figures_of_a_world_beside_the_true_game(stores, game):
    model = world_of(stores[game])
    size = {"worlds": 2, "frames": 8, "played_worlds": 2, "played_frames": 8, "recorded": 2}
    protocol = WorldProtocol(horizon=17, followed_frames=4, timed_frames=2, **size)
    figures = {"paddle": paddle_figures, "maze": maze_figures}[game](model, stores[game], protocol)
    assert figures["random_held_actions"].keys() == {"world", "true"}
    assert figures["frames_per_second"] > 0
    assert "reward" in figures["outcomes"]


def test_a_world_needs_a_game_with_a_palette(stores):
    class Plain:
        spec = stores["paddle"].spec

        def meta(self):
            return {}

    with pytest.raises(UserError, match="a game with a palette and discrete actions"):
        Starts(Plain(), 4, 1)
