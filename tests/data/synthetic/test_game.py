"""Games drawn by this package: Gymnasium's interface, exact colours and states, recordings of what was done."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.registry import find_source, replay
from framecast.data.store import Store
from framecast.data.synthetic.game import GameConfig
from framecast.data.synthetic.maze import MazeGame
from framecast.data.synthetic.paddle import PaddleGame

GAMES = {"paddle": PaddleGame, "maze": MazeGame}


@pytest.fixture(params=GAMES)
def game(request):
    return GAMES[request.param]()


@pytest.fixture(scope="module", params=GAMES)
def store(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("games") / request.param
    find_source(request.param)(GameConfig(episodes=3, frames=300, skill=0.4)).prepare(folder)
    return Store(folder)


def test_reset_and_step_have_the_interface_of_gymnasium(game):
    first, info = game.reset(seed=3)
    assert (first.shape, first.dtype) == ((80, 80, 3), np.uint8)
    assert tuple(info) == game.STATES
    frame, reward, terminated, truncated, info = game.step(1)
    assert frame.shape == first.shape
    assert (type(reward), terminated, truncated) == (float, False, False)
    again, _ = game.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    with pytest.raises(ValueError, match="action must be in 0…"):
        game.step(len(game.ACTIONS))


def test_an_ended_game_must_be_reset(game):
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        if game.step(int(rng.integers(len(game.ACTIONS))))[2]:
            break
    with pytest.raises(ValueError, match="the game has ended"):
        game.step(0)
    game.reset()
    game.step(0)


def test_a_saved_state_restores_all_later_frames(game):
    rng = np.random.default_rng(1)
    actions = rng.integers(len(game.ACTIONS), size=400).tolist()
    for action in actions[:200]:
        game.act(action)
    saved = game.save()
    frames = [(game.act(action), game.frame().copy())[1] for action in actions[200:]]
    other = type(game)()
    other.restore(saved)
    for action, frame in zip(actions[200:], frames, strict=True):
        other.act(action)
        np.testing.assert_array_equal(other.frame(), frame)


def test_states_of_a_recording_restore_its_frames(store):
    game = GAMES[store.meta()["generator"]]()
    clip = store.clip(1, 0, 300)
    for i in range(0, 300, 7):
        game.set_state(clip.arrays["states"][i])
        assert game.state() == clip.arrays["states"][i].tolist()
        np.testing.assert_array_equal(game.frame(), clip.frames[i])


def test_frames_have_the_exact_colours_of_the_palette(store):
    palette = np.array(store.meta()["palette"])
    assert len(palette) <= 16
    frames = store.clip(0, 0, 300).frames.astype(np.int64)
    colours = np.unique(frames[:, 0] << 16 | frames[:, 1] << 8 | frames[:, 2])
    assert set(colours) <= set(palette[:, 0] << 16 | palette[:, 1] << 8 | palette[:, 2])


def test_actions_rewards_and_ends_belong_to_the_transition_to_the_next_frame(store):
    game, name = GAMES[store.meta()["generator"]](), store.meta()["generator"]
    for video in range(len(store)):
        arrays = store.clip(video, 0, 300).arrays
        world = replay(store, video, 0)
        for i in range(299):
            reward, over = world.act(int(arrays["actions"][i]))
            assert (reward, over) == (arrays["rewards"][i], arrays["terminated"][i])
            assert world.state() == arrays["states"][i + 1].tolist()
        assert not arrays["terminated"][-1]
        assert arrays["truncated"].tolist() == [False] * 298 + [not arrays["terminated"][298], False]
    assert type(world) is type(game), name


def test_a_restored_scene_continues_the_recording(store):
    world, clip = replay(store, 2, 120), store.clip(2, 0, 300)
    for i in range(120, 299):
        np.testing.assert_array_equal(world.frame(), clip.frames[i])
        world.act(clip.arrays["actions"][i])


def test_settings_of_recordings_are_checked():
    with pytest.raises(UserError, match="hold_max 2 is below hold_min 3"):
        GameConfig(hold_max=2)
    with pytest.raises(UserError, match="skill is a share"):
        GameConfig(skill=1.5)
    with pytest.raises(UserError, match="frames must be at least 2"):
        GameConfig(frames=1)
