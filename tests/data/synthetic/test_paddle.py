"""The game of two paddles: serves after a fixed pause, bounces, points, and players of known strength."""

import numpy as np
import pytest

from framecast.data.synthetic.paddle import PAUSE, POINTS, PaddleGame


@pytest.fixture(scope="module")
def idle():
    """Transitions of a player that never moves: (state before, reward, ended, state after)."""
    game, found = PaddleGame(), []
    game.reset(seed=0)
    for _ in range(3000):
        before = game.info()
        reward, over = game.act(0)
        found.append((before, reward, over, game.info()))
    return found


def test_every_serve_follows_thirty_frames_without_a_ball(idle):
    shown = np.array([after["ball_x"] >= 0 for *_, after in idle])
    changes = np.flatnonzero(np.diff(shown.astype(int)))
    if not shown[changes[0]]:
        changes = changes[1:]
    gaps = [int(b - a) for a, b in zip(changes[::2], changes[1::2], strict=False)]
    assert len(gaps) > 10
    assert set(gaps) == {PAUSE}


def test_each_point_is_rewarded_and_five_end_the_game(idle):
    for before, reward, over, after in idle:
        if reward:
            side = "player_score" if reward > 0 else "opponent_score"
            assert after[side] == before[side] + 1
            assert over == (after[side] == POINTS)
            assert after["serve_direction"] == -reward
    assert any(over for _, _, over, _ in idle)


def test_ball_stays_between_the_walls(idle):
    rows = [after["ball_y"] for *_, after in idle if after["ball_x"] >= 0]
    assert min(rows) >= 8
    assert max(rows) <= 152


def play(error, frames=4000):
    """Balls returned and missed by the scripted player, and by the opponent."""
    game = PaddleGame()
    game.reset(seed=1)
    rng, errors = np.random.default_rng(0), error
    counts = dict.fromkeys(("returned", "missed", "opponent returned", "opponent missed"), 0)
    for i in range(frames):
        if i % 10 == 0:
            errors = error * rng.uniform(-1, 1)
        before = game.ball[2]
        reward, _ = game.act(game.scripted(errors))
        if reward:
            counts["missed" if reward < 0 else "opponent missed"] += 1
        elif before and game.ball[2] and before * game.ball[2] < 0:
            counts["returned" if before > 0 else "opponent returned"] += 1
    return counts


def test_player_that_follows_the_ball_returns_all_and_the_opponent_most():
    exact = play(0)
    assert (exact["missed"], exact["returned"] > 40) == (0, True)
    varied = play(1)
    assert varied["returned"] > 10 * varied["missed"]
    assert varied["opponent missed"] > 0
    assert varied["opponent returned"] > 4 * varied["opponent missed"]


def test_paddle_obeys_and_stops_at_the_walls():
    game = PaddleGame()
    start = game.info()["player_y"]
    game.step(1)
    assert game.info()["player_y"] == start - 6
    for _ in range(60):
        game.step(2)
    assert game.info()["player_y"] == 2 * 78 - 24
    assert (game.indices()[66:78, 74:76] == 4).all()
