"""The game of the maze: corridors without dead ends, dots, lives, power phases and chasers of different temper."""

import numpy as np
import pytest

from framecast.data.synthetic import maze
from framecast.data.synthetic.maze import BLINK, CELL, DOTS, LIVES, PAUSE, POWER, POWER_DOTS, MazeGame


@pytest.fixture(scope="module")
def played():
    """Transitions of the scripted player: (state before, reward, ended, state after)."""
    game, found = MazeGame(), []
    game.reset(seed=0)
    rng, error = np.random.default_rng(0), 0.0
    for i in range(4000):
        if i % 10 == 0:
            error = float(rng.uniform(-1, 1))
        before = game.info()
        reward, over = game.act(game.scripted(error))
        found.append((before, reward, over, game.info()))
    return found


def started():
    """A game at the first frame with a runner."""
    game = MazeGame()
    for _ in range(PAUSE - 1):
        assert game.runner[0] < 0
        game.step(0)
    assert game.runner[0] >= 0
    return game


def test_every_cell_can_be_reached_and_none_is_a_dead_end():
    assert (maze._DISTANCE >= 0).all()
    np.testing.assert_array_equal(maze._DISTANCE, maze._DISTANCE.T)
    assert min(sum(n >= 0 for n in ways) for ways in maze._NEXT) >= 2
    assert POWER_DOTS.sum() == 4
    assert not (POWER_DOTS & ~DOTS).any()


def test_dots_vanish_only_when_eaten_and_stay_eaten(played):
    dots = [name for name in MazeGame.STATES if name.startswith("dot_")]
    eaten = 0
    for before, reward, _, after in played:
        gone = [name for name in dots if before[name] and not after[name]]
        back = [name for name in dots if after[name] and not before[name]]
        assert len(gone) <= 1
        assert not (gone and reward < 1)
        assert not back or after["pause_timer"] == PAUSE - 1  # a new game
        eaten += len(gone)
    assert eaten > 200


def test_a_catch_costs_a_life_and_the_third_ends_the_game(played):
    caught = [(b, over, a) for b, _, over, a in played if a["lives"] < b["lives"]]
    assert len(caught) >= LIVES
    for before, over, after in caught:
        assert after["lives"] == before["lives"] - 1
        assert over == (after["lives"] == 0)
        assert (after["runner_x"], after["pause_timer"]) == (-1, PAUSE)


def test_a_power_dot_turns_chasers_blue_for_sixty_frames():
    game = started()
    game.dots[:] = POWER_DOTS
    cell = int(np.flatnonzero(POWER_DOTS)[0])
    game.runner = [CELL * maze.CELLS[cell][0], CELL * maze.CELLS[cell][1] + 1, 0]
    assert game.step(1)[1] == 5
    assert all(chaser[4] for chaser in game.chasers)
    seen = []
    while any(chaser[4] for chaser in game.chasers):
        seen.append((game.power, (game.indices() == 9).any(), (game.indices() == 8).any()))
        game._move_runner = lambda wanted: None
        game.step(0)
    assert len(seen) == POWER
    assert all(blue and not white for power, white, blue in seen if power > BLINK)
    assert any(white for power, white, _ in seen if power <= BLINK)


def test_a_blue_chaser_is_eaten_and_returns_after_the_pause():
    game = started()
    game.chasers[1:] = [[-1, -1, 0, 0, 0, 2 * PAUSE] for _ in range(3)]
    game.power, game.chasers[0][4] = POWER, 1
    game.chasers[0][:4] = game.runner[0], game.runner[1], 0, 1
    assert game.step(0)[1] >= 20
    away = 0
    while game.chasers[0][0] < 0:
        game._move_runner = lambda wanted: None
        game.step(0)
        away += 1
    assert away == PAUSE
    assert game.chasers[0][4] == 0


def test_chasers_have_different_tempers():
    game = started()
    game.runner = [CELL * 7, CELL * 3, 3]
    game.chasers[0][:2] = CELL * 4, CELL * 3
    targets = [game._target(i) for i in range(3)]
    assert targets == [(7, 3), (11, 3), (10, 3)]
    ways = {game._turn(3, CELL * 4, CELL * 3, 3) for _ in range(40)}
    assert len(ways) > 1  # the fourth wanders


def test_runner_turns_in_cells_and_back_anywhere():
    game = started()
    game.chasers = [[-1, -1, 0, 0, 0, PAUSE] for _ in range(4)]
    x = game.runner[0]
    game.step(3)
    game.step(1)  # no way up between two cells
    assert game.runner == [x - 2, game.runner[1], 2]
    game.step(4)
    assert game.runner[::2] == [x - 1, 3]


def test_a_cleared_maze_fills_again_without_loss_of_a_life():
    game = started()
    game.chasers = [[-1, -1, 0, 0, 0, PAUSE] for _ in range(4)]
    game.dots[:] = False
    left = maze._NEXT[maze._cell(*game.runner[:2])][2]
    game.dots[left] = True
    for _ in range(CELL):
        reward = game.step(3)[1]
    assert reward == 1
    np.testing.assert_array_equal(game.dots, DOTS)
    assert (game.lives, game.pause) == (LIVES, PAUSE)


def test_cautious_player_is_caught_less_often_than_a_careless_one():
    def catches(error):
        game = MazeGame()
        game.reset(seed=0)
        found = 0
        for _ in range(2000):
            lives = game.lives
            game.act(game.scripted(error))
            found += game.lives < lives
        return found

    assert catches(0.0) < catches(1.0)
