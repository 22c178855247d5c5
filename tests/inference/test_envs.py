"""Learned worlds and games as Gymnasium environments: the checker, seeds, batches, outcomes, ends, and bad input."""

import importlib
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from small_models import Acting, Plain, small_config, write_store
from small_world import SIDE, write_world

import framecast
from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, ClipSpec
from framecast.data.options import DataConfig
from framecast.data.store import Store
from framecast.inference.envs import GameEnv, VectorWorldEnv, WorldEnv, make_env, register
from framecast.training.checkpoint import write_weights
from framecast.training.config import RunConfig, write_config
from framecast.training.run_folder import open_run


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


def outside_run(folder, model_class, spec):
    """An opened run of a model of small_models, on squares or, with continuous actions, on grey frames."""
    if spec.actions is not None and spec.actions.kind == "continuous":
        with framecast.DatasetWriter(folder / "data", fps=10, actions=spec.actions) as writer:
            writer.add(np.full((30, 1, 12, 12), 30, np.uint8), actions=np.zeros((30, spec.actions.size), np.float32))
        store = Store(folder / "data")
    else:
        store = write_store(folder / "data", frames=30, actions=spec.actions is not None)
    config = small_config(model_class)
    config = RunConfig(name=config.name, model=config.model, data=DataConfig(path=str(store.folder)), spec=spec)
    weights = folder / "run" / "weights" / "step-1"
    weights.mkdir(parents=True)
    write_config(folder / "run", config)
    write_weights(weights, model_class(config.model, spec), config.to_json())
    return open_run(folder / "run", model_class)


def forced(env, **biases):
    """The environment with a model whose heads are decided: `reward` is the index of a class, `terminated` a logit."""
    last = env.worlds.model.outcomes.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([9.0 * (i == biases["reward"]) for i in range(3)] + [biases["terminated"]]))
    return env


@pytest.mark.filterwarnings("error")
def test_worlds_and_games_pass_the_checker(world):
    for env in (make_env(world, render_mode="rgb_array"), GameEnv("paddle", render_mode="rgb_array")):
        env.spec = gymnasium.spec("framecast/Paddle-v0")  # the checker warns of an environment without one
        check_env(env, skip_render_check=True)
        env.reset(seed=0)
        assert env.render().shape == (*env.observation_space.shape[:2], 3)


def test_registered_names_make_single_and_vector_environments(world):
    gymnasium.register_envs(framecast.envs)
    register()  # a second time changes nothing
    single = gymnasium.make("framecast/World-v0", run=str(world), max_steps=3)
    assert isinstance(single.unwrapped, WorldEnv)
    batch = gymnasium.make_vec("framecast/World-v0", num_envs=2, run=str(world))
    assert isinstance(batch.unwrapped, VectorWorldEnv)
    assert batch.reset(seed=0)[0].shape == (2, SIDE, SIDE, 3)
    assert gymnasium.make("framecast/Maze-v0").reset(seed=0)[1]["lives"] == 3


def episode(env, seed, actions):
    frames, info = env.reset(seed=seed)
    return info["start"], [frames, *(env.step(action)[0] for action in actions)]


def test_an_episode_starts_at_a_real_frame_and_is_a_function_of_seed_and_actions(world):
    env = make_env(world)
    start, first = episode(env, 3, [0, 1, 2, 1])
    assert (first[0] == env.worlds.starts[env.worlds.starts.names.index(start)].seen[-1].transpose(1, 2, 0)).all()
    assert np.array_equal(first, episode(env, 3, [0, 1, 2, 1])[1])
    assert not np.array_equal(first, episode(env, 3, [2, 2, 0, 0])[1])
    assert len({episode(env, seed, [])[0] for seed in range(20)}) > 3
    assert env.reset(options={"start": 2})[1]["start"] == env.worlds.starts.names[2]
    with pytest.raises(UserError, match=r"start must be in 0…\d+, got 99"):
        env.reset(options={"start": 99})


def test_rows_of_a_batch_equal_single_environments(world):
    actions = np.random.default_rng(0).integers(3, size=(5, 3))
    batch = make_env(world, num_envs=3)
    seen, info = batch.reset(seed=4)
    together = [seen, *(batch.step(row)[0] for row in actions)]
    for i in range(3):
        start, alone = episode(make_env(world), 4 + i, actions[:, i])
        assert info["start"][i] == start
        assert np.array_equal(np.stack(together)[:, i], np.stack(alone))


def test_reward_and_end_are_those_that_the_model_predicts(world):
    env = forced(make_env(world), reward=2, terminated=-9.0)
    env.reset(seed=0)
    assert env.step(0)[1:4] == (1.0, False, False)
    forced(env, reward=0, terminated=9.0)
    assert env.step(0)[1:4] == (-1.0, True, False)
    with pytest.raises(ResetNeeded, match="the episode has ended"):
        env.step(0)


def test_max_steps_truncates_and_the_next_step_resets_a_finished_row(world):
    batch = forced(make_env(world, num_envs=2, max_steps=3), reward=2, terminated=-9.0)
    with pytest.raises(ResetNeeded):
        batch.step([0, 0])
    batch.reset(seed=0)
    flags = [batch.step([1, 2])[1:4] for _ in range(4)]
    assert [f[2].tolist() for f in flags] == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]
    assert not any(f[1].any() for f in flags)
    assert [f[0].tolist() for f in flags] == [[1, 1], [1, 1], [1, 1], [0, 0]]
    assert batch.steps.tolist() == [0, 0]
    real = [
        s.seen[-1].transpose(1, 2, 0) for s in map(batch.worlds.starts.__getitem__, range(len(batch.worlds.starts)))
    ]
    assert all(any((row == frame).all() for frame in real) for row in batch.worlds.frames)


def test_a_model_without_outcomes_has_reward_0_and_is_truncated_only(tmp_path):
    moves = ActionSpec(kind="discrete", size=3)
    run = outside_run(tmp_path, Acting, ClipSpec(channels=1, height=12, width=12, fps=10, actions=moves))
    with pytest.warns(UserWarning, match="no reward and no end: the reward is 0; episodes end at max_steps"):
        env = make_env(run, max_steps=2, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.step(1)[1:4] == (0.0, False, False)
    assert env.step(1)[1:4] == (0.0, False, True)
    assert env.render().shape == (12, 12, 3)


def test_actions_outside_the_space_are_refused_in_a_sentence(world):
    env, game = make_env(world), GameEnv("paddle")
    for made in (env, game):
        made.reset(seed=0)
        for action in (77, -1, 0.5, float("nan"), "UP", None, [0, 1]):
            with pytest.raises(UserError, match=r"actions must be whole numbers from 0 to \d+, got"):
                made.step(action)


def test_a_world_without_actions_is_refused_in_a_sentence(tmp_path):
    run = outside_run(tmp_path, Plain, ClipSpec(channels=1, height=12, width=12, fps=10))
    with pytest.raises(UserError, match="predicts without actions, so it is no environment; use a run with actions"):
        make_env(run)


def test_frames_without_actions_are_refused_in_a_sentence(world, tmp_path):
    with framecast.DatasetWriter(tmp_path / "plain", fps=20) as writer:
        writer.add(np.full((12, 3, SIDE, SIDE), 20, np.uint8))
    with pytest.raises(UserError, match=r"is without actions but .* was trained on 3; use data of the same kind"):
        make_env(world, data=str(tmp_path / "plain"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, 'no run is given; give run=RUN, for example run="world-paddle"'),
        ({"run": None}, "no run is given; give run=RUN"),
        ({"run": 5}, "run must be a folder or a name, got 5; give run=RUN"),
        ({"run": "world-padle"}, "world-padle: no such run folder or packaged weights; did you mean 'world-paddle'"),
        ({"run": "direct-any"}, "direct-any: predicts without actions, so it is no environment"),
        ({"run": "world-paddle", "data": 3}, "data must be a path or the name of a source, as text, got 3"),
        (
            {"run": "world-paddle", "max_step": 3},
            "unknown setting 'max_step' of an environment; did you mean 'max_steps'",
        ),
    ],
)
def test_every_way_to_make_a_world_refuses_wrong_settings_in_one_sentence(settings, sentence):
    gymnasium.register_envs(framecast.envs)
    name = "framecast/World-v0"
    ways = [
        lambda: make_env(**settings),
        lambda: make_env(num_envs=2, **settings),
        lambda: gymnasium.make(name, **settings),
        lambda: gymnasium.make_vec(name, num_envs=2, **settings),
        lambda: gymnasium.make_vec(name, num_envs=2, vectorization_mode="sync", **settings),
    ]
    for make in ways:
        with pytest.raises(UserError) as error:
            make()
        assert str(error.value).startswith(sentence)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_step": 3}, "unknown setting 'max_step' of an environment; did you mean 'max_steps'"),
        ({"run": "world-paddle"}, "unknown setting 'run' of an environment; known are max_steps, render_mode"),
        ({"game": "ball"}, "unknown game 'ball'; known are maze, paddle"),
        ({"game": "padle"}, "unknown game 'padle'; did you mean 'paddle'"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_games_refuse_wrong_settings_in_one_sentence(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        gymnasium.make("framecast/Paddle-v0", **settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"max_steps": 1.5}, r"max_steps must be a whole number, got 1\.5"),
        ({"max_steps": None}, "max_steps must be a whole number, got None"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"num_envs": 1.5}, r"num_envs must be a whole number, got 1\.5"),
        ({"starts": 0}, "starts must be at least 1"),
        ({"device": "cudda"}, "device 'cudda' is not known; use auto, cpu"),
        ({"precision": "fp8"}, "precision 'fp8' is unknown; use auto, fp32 or bf16"),
        ({"render_mode": "human"}, """render_mode must be "rgb_array" or None, got 'human'"""),
        ({"max_step": 3}, "unknown setting 'max_step' of an environment; did you mean 'max_steps'"),
        ({"num_envs": 2, "max_step": 3}, "unknown setting 'max_step'"),
    ],
)
def test_impossible_settings_are_refused(world, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        make_env(world, **settings)


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "framecast.inference.envs")
    with pytest.raises(UserError, match=r'install it: pip install "framecast\[env\]"'):
        importlib.import_module("framecast.inference.envs")


@pytest.mark.filterwarnings("ignore:.*predicts no reward")
def test_continuous_actions_are_clipped_to_their_box_and_standardised(tmp_path):
    actions = ActionSpec(kind="continuous", size=2, low=(-2.0, 0.0), high=(2.0, 4.0), mean=(0.5, 1.0), std=(0.5, 2.0))
    env = make_env(outside_run(tmp_path, Acting, ClipSpec(channels=1, height=12, width=12, fps=10, actions=actions)))
    assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == ([-2.0, 0.0], [2.0, 4.0])
    env.reset(seed=0)
    assert env.worlds._vectors(np.array([[9.0, 3.0]])).tolist() == [[3.0, 1.0]]
    assert env.step(env.action_space.sample())[0].shape == (12, 12, 1)
    for action in ("left", [0.0], [float("nan"), 0.0], None):
        with pytest.raises(UserError, match="an action must be 2 finite numbers, got"):
            env.step(action)


def test_continuous_actions_have_the_bounds_of_the_data():
    spec = ActionSpec(kind="continuous", size=3, low=(-2.0, 0.0, float("-inf")), high=(2.0, 0.0, 1.0))
    assert spec.bounds == [(-2.0, 2.0), (-1.0, 1.0), (-1.0, 1.0)]
    assert ActionSpec(kind="continuous", size=1, mean=(3.0,), std=(0.5,)).bounds == [(2.0, 4.0)]


def test_a_game_is_a_function_of_seed_and_actions_and_ends():
    env = GameEnv("paddle")
    runs = []
    for seed in (1, 1, 2):
        frames = [env.reset(seed=seed)[0]]
        total, over = 0.0, False
        while not over:
            frame, reward, over, truncated, info = env.step(0)
            frames.append(frame)
            total += reward
            assert not truncated
        runs.append(np.stack(frames))
        assert info["opponent_score"] - info["player_score"] == -total
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][:200], runs[2][:200])
    with pytest.raises(ResetNeeded):
        env.step(0)
