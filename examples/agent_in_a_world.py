"""An agent that learns in the world `world-paddle`, scored in the real game: python examples/agent_in_a_world.py."""

import sys

import gymnasium
import numpy as np
from stable_baselines3 import DQN

import framecast

COLOURS = np.array([(250, 250, 250), (90, 210, 120), (230, 90, 70)], np.int16)  # ball, player, opponent
gymnasium.register_envs(framecast.envs)


class Positions(gymnasium.Wrapper):
    observation_space = gymnasium.spaces.Box(-8, 8, (6,), np.float32)

    def observe(self, frame, row=None):  # rows of ball and paddles, column of the ball, what it is off, its speed
        seen = np.abs(frame[4:78, :, None] - COLOURS).max(-1) < 24
        area = np.maximum(seen.sum((0, 1)), 1)
        rows = (seen * np.linspace(-1, 1, 74)[:, None, None]).sum((0, 1)) / area
        column = (seen[..., 0] * np.linspace(-1, 1, 80)).sum() / area[0]
        self.row = rows[0]
        return np.array([*rows, column, rows[0] - rows[1], 0 if row is None else 4 * (rows[0] - row)], np.float32)

    def reset(self, **options):
        return self.observe(self.env.reset(**options)[0]), {}

    def step(self, action):
        frame, total, *over, info = self.env.step(action)
        for _ in range(3):  # an action is held for four frames
            if not any(over):
                frame, reward, *over, info = self.env.step(action)
                total += reward
        return self.observe(frame, self.row), total, *over, info


def train(env, steps, seed):
    settings = {"learning_rate": 1e-3, "gamma": 0.98, "batch_size": 128, "train_freq": 1, "target_update_interval": 500}
    return DQN("MlpPolicy", env, learning_starts=500, exploration_fraction=0.5, seed=seed, **settings).learn(steps)


def score(choose, games, max_steps=3000):
    env, total = Positions(gymnasium.make("framecast/Paddle-v0", max_steps=max_steps)), 0.0
    for seed in range(1000, 1000 + games):
        seen, over = env.reset(seed=seed)[0], False
        while not over:
            seen, reward, *ends, _ = env.step(choose(seen))
            total, over = total + reward, any(ends)
    return total / games


if __name__ == "__main__":
    tiny, random = "--tiny" in sys.argv, np.random.default_rng(0)
    steps, games = (8, (1, 60)) if tiny else (10_000, (10, 3000))
    agent = train(Positions(framecast.make_env("world-paddle")), steps, seed=0)
    print(f"random actions: {score(lambda seen: random.integers(3), *games):.1f} points a game")
    print(f"trained in the world: {score(lambda seen: int(agent.predict(seen, deterministic=True)[0]), *games):.1f}")
