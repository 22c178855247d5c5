"""Games drawn by this package: Gymnasium's interface, exact colours and states, recordings of what was done."""

import numpy as np
import pytest
import torch
from marks import GONE, HIDDEN, PRESENT, find_marks, marks_of

from framecast.core.errors import UserError
from framecast.data.registry import find_source, replay
from framecast.data.store import DatasetWriter, Store
from framecast.data.synthetic.game import GameConfig
from framecast.data.synthetic.maze import DOTS, MazeGame
from framecast.data.synthetic.paddle import PaddleGame
from framecast.metrics.objects import find, things_of

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


def test_detectors_find_all_sprites_that_are_not_covered_and_nothing_else(store):
    names = find_source(store.meta()["generator"]).game.STATES
    clips = [store.clip(i, 0, 300) for i in range(len(store))]
    states = np.concatenate([clip.arrays["states"] for clip in clips]).astype(int)
    frames = torch.from_numpy(np.concatenate([clip.frames for clip in clips])).float() / 255
    things = things_of(store.meta())
    found = find(frames, things).there.numpy()
    sprites = {thing.name: found[:, i] for i, thing in enumerate(things.things)}
    places = {n: states[:, [names.index(f"{n}_x"), names.index(f"{n}_y")]] for n in sprites if f"{n}_x" in names}
    for name, seen in sprites.items():
        there = places[name][:, 0] >= 0 if name in places else np.ones(len(states), bool)
        assert not seen[~there].any(), name
        # A sprite may be covered by one that is drawn later: the runner, or a chaser of higher number.
        later = [p for other, p in places.items() if name.startswith("chaser") and (other > name or other == "runner")]
        covered = np.any([np.abs(p - places[name]).sum(1) < 3 for p in later], 0) if later else ~there
        assert seen[there & ~covered].mean() >= 0.99, name
        assert (there & ~covered).mean() > 0.4, name
    assert not find(torch.zeros(2, 3, 80, 80), things).there.any()


def test_dots_are_seen_as_present_gone_or_hidden(store):
    marks = marks_of(store.meta())
    if store.meta()["generator"] == "paddle":
        assert marks == {}
        return
    clip = store.clip(2, 0, 300)
    found = find_marks(torch.from_numpy(clip.frames.copy()).float() / 255, marks["dots"]).numpy()
    dots = clip.arrays["states"][:, -len(DOTS) :][:, DOTS]
    shown = found != HIDDEN
    np.testing.assert_array_equal(found[shown], np.where(dots, PRESENT, GONE)[shown])
    assert shown.mean() > 0.95


def test_a_restored_scene_continues_the_recording(store):
    world, clip = replay(store, 2, 120), store.clip(2, 0, 300)
    for i in range(120, 299):
        np.testing.assert_array_equal(world.frame(), clip.frames[i])
        world.act(clip.arrays["actions"][i])


def test_a_cut_recording_is_restored_from_its_states(store, tmp_path):
    clip = store.clip(0, 100, 60)
    arrays = dict(clip.arrays)
    with DatasetWriter(tmp_path / "cut", store.spec.fps, store.spec.actions, store.meta()) as writer:
        writer.add(clip.frames, actions=arrays.pop("actions"), name="part", axes="tchw", **arrays)
    cut = Store(tmp_path / "cut")
    world = replay(cut, 0, 20)
    np.testing.assert_array_equal(world.frame(), clip.frames[20])
    world.act(clip.arrays["actions"][20])
    assert world.frame().shape == (3, 80, 80)


def test_settings_of_recordings_are_checked():
    with pytest.raises(UserError, match="hold_max 2 is below hold_min 3"):
        GameConfig(hold_max=2)
    with pytest.raises(UserError, match="skill is a share"):
        GameConfig(skill=1.5)
    with pytest.raises(UserError, match="frames must be at least 2"):
        GameConfig(frames=1)
