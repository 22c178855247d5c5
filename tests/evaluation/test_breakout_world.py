"""Figures of Breakout on drawn games: ball and paddle, returns, bricks that are hit, stay away, or vanish unhit."""

import dataclasses

import numpy as np
import pytest

from framecast.evaluation.breakout_world import Wall, ball_follower, brick_states, bricks, presence, returns, turns
from framecast.evaluation.worlds import Recording

GROUND, BALL, BRICK = 0, 1, 2
WALL = Wall(ground=GROUND, ball=BALL, fire=1, left=3, right=2)


def field(ball=None, paddle=30, gone=()):
    """A frame: all bricks but those in `gone` (row, column), a paddle, and a ball at (row, column)."""
    found = np.zeros((81, 72), np.uint8)
    found[12:31] = BRICK
    found[12:15] = BALL  # the uppermost bricks have the ball's colour
    for r, c in gone:
        found[13 + 3 * r : 15 + 3 * r, 4 * c : 4 * c + 4] = GROUND
        found[15 + 3 * r, 4 * c : 4 * c + 4] = BRICK  # a neighbour shows in the last row
    if ball is not None:
        found[ball[0] : ball[0] + 2, ball[1]] = BALL
    found[78:81, paddle : paddle + 8] = BALL
    return found


def recorded(frames):
    return Recording(np.stack(frames)[None], np.zeros((1, len(frames) - 1), np.int64), np.zeros((1, len(frames) - 1)))


def hit(gone_after=((5, 9),), hidden=2):
    """A ball that rises at column 38, is out of sight for some frames, and falls, after which bricks are gone."""
    rising = [field((r, 38)) for r in range(44, 32, -2)]
    away = [field(None)] * hidden
    falling = [field((r, 38), gone=gone_after) for r in range(34, 46, 2)]
    return rising + away + falling


def test_bricks_are_there_gone_or_between():
    frames = np.stack([field(gone=[(5, 9), (0, 0)])])
    state = brick_states(frames, WALL)
    assert state.shape == (1, 6, 18)
    assert np.argwhere(state[0] == 0).tolist() == [[0, 0], [5, 9]]
    assert (state == 1).sum() == 6 * 18 - 2
    frames[0, 13:14, 8:12] = GROUND
    assert brick_states(frames, WALL)[0, 0, 2] == -1


def test_a_hit_brick_vanishes_and_stays_away():
    found = bricks(recorded(hit()), WALL)
    assert (found["bricks_vanished"], found["hits"], found["hit_vanish"]) == (1, 1, 1.0)
    assert (found["stay_away"], found["frames_without_unhit"]) == (1.0, 1.0)


def test_a_ball_that_turns_and_leaves_the_brick_is_counted():
    found = bricks(recorded(hit(gone_after=())), WALL)
    assert (found["bricks_vanished"], found["hits"], found["hit_vanish"]) == (0, 1, 0.0)


def test_a_brick_that_vanishes_away_from_the_ball_is_unhit_and_no_answer():
    frames = hit(gone_after=((5, 0),))
    found = bricks(recorded(frames), WALL)
    assert (found["bricks_vanished"], found["unhit"], found["hit_vanish"]) == (1, 1.0, 0.0)
    assert found["frames_without_unhit"] == pytest.approx(1 - 1 / len(frames))


def test_further_bricks_that_vanish_with_a_hit_are_counted():
    found = bricks(recorded(hit(gone_after=((5, 9), (5, 8)))), WALL)
    assert (found["hits"], found["hit_vanish"], found["bricks_per_hit"]) == (1, 1.0, 2.0)
    whole = bricks(recorded(hit(gone_after=[(r, c) for r in range(6) for c in range(18)])), WALL)
    assert whole["bricks_per_hit"] == 108
    assert whole["unhit"] > 0.75


def test_a_brick_that_vanishes_long_before_or_after_the_hit_is_no_answer():
    early = [field((44, 38), gone=[(5, 9)])] * 8
    found = bricks(
        recorded([field((44, 38)), *early, *[field((r, 38), gone=[(5, 9)]) for r in (42, 38, 34, 38, 42)]]), WALL
    )
    assert (found["bricks_vanished"], found["hits"], found["hit_vanish"]) == (1, 1, 0.0)
    late = [*hit(gone_after=()), *[field((46, 38))] * 8, field((46, 38), gone=[(5, 9)])]
    assert bricks(recorded(late), WALL)["hit_vanish"] == 0.0


def test_a_turn_far_below_the_bricks_is_no_hit():
    frames = [field((r, 38)) for r in (56, 52, 48, 44, 48, 52, 56)]
    assert bricks(recorded(frames), WALL)["hits"] == 0


def test_a_brick_that_comes_back_does_not_stay_away_unless_the_whole_wall_comes():
    back = [*hit(), *[field((46, 38))] * 3]
    gone = [field((48, 38), gone=[(0, 0)])]
    assert bricks(recorded([*hit(gone_after=((5, 9), (0, 0))), *gone]), WALL)["stay_away"] == 0.5
    many = tuple((5, c) for c in range(7, 14))
    part = [*hit(gone_after=(*many, (0, 0))), *gone]
    assert bricks(recorded(part), WALL)["stay_away"] == 1 / 8
    assert bricks(recorded(back), WALL)["stay_away"] == 1.0


def test_turns_of_a_ball_that_rests_is_hidden_or_trembles():
    nan = np.nan
    row = np.array([60, 64, 68, 72, 76, 76.5, nan, 76.5, 76, 72, 68, 68.5, 66, 62, 66, 70, 74, *[nan] * 9])
    assert turns(row) == ([13], [7], [16])
    assert turns(row[:18]) == ([13], [7], [])  # it may come back
    assert turns(np.full(5, nan)) == ([], [], [])
    assert turns(np.array([10.0, 11, 12, 11, 10, 11])) == ([], [], [])


def test_returned_and_lost_balls_are_counted():
    down = [field((r, 30)) for r in range(60, 77, 2)]
    up = [field((r, 30)) for r in (76, 72, 68)]
    found = returns(recorded([*down, field(None), *up]), WALL)
    assert (found["returned"], found["missed"], found["return_rate"]) == (1, 0, 1.0)
    found = returns(recorded([*down, *[field(None)] * 7]), WALL)
    assert (found["returned"], found["missed"], found["return_rate"]) == (0, 1, 0.0)
    assert returns(recorded([field((40, 3)), field((44, 3)), field((40, 3))]), WALL)["return_rate"] is None


def test_a_rest_of_the_paddle_and_a_ball_in_two_places_are_not_whole():
    frames = [field((40, 10)) for _ in range(3)]
    frames[1][79:81, 31:] = frames[1][78] = GROUND
    frames[2][60, 60] = BALL
    found = presence(recorded(frames), WALL)
    assert (found["paddle"], found["ball_share"], found["clean_ball"]) == (0.5, 1.0, 0.5)


def test_presence_is_of_the_frames_before_the_game_ends():
    frames = [field((40 + t, 10)) for t in range(5)] + [field(None)] * 300
    assert presence(recorded(frames), WALL)["dead"] == 1
    ended = dataclasses.replace(recorded(frames), lengths=np.array([6]))
    found = presence(ended, WALL)
    assert found["ball_share"] == pytest.approx(4 / 5)
    assert (found["frames_of_games"], found["dead"], found["paddle"], found["clean_ball"]) == (5, 0, 1.0, 1.0)


def test_follower_serves_and_goes_to_the_ball():
    player = ball_follower(WALL)
    frames = np.stack([field(None), field((50, 10)), field((50, 60)), field((50, 33))])
    assert player(frames).tolist() == [WALL.fire, WALL.left, WALL.right, 0]
