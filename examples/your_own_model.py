"""A predictor of your own, trained, resumed and scored like those of the package.

python examples/your_own_model.py
framecast train examples/your_own_model.py:Nudge --data bouncing --steps 500      # the same from the command line
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import framecast
from framecast.core.types import ClipRequest, Loss


@dataclass(frozen=True, kw_only=True)
class NudgeConfig:
    context: int = 3  # frames seen, at least 1
    width: int = 24  # channels of the hidden layer


class Nudge(framecast.Predictor):
    """Adds a learned correction to the last frame, from a stack of the last few."""

    Config = NudgeConfig

    def __init__(self, config, spec):
        super().__init__(config, spec)
        into = nn.Conv2d(config.context * spec.channels, config.width, 7, padding=3)
        self.net = nn.Sequential(into, nn.ReLU(), nn.Conv2d(config.width, spec.channels, 5, padding=2))

    @classmethod
    def request(cls, config):
        return ClipRequest(context=config.context)

    def next_frame(self, context):
        return context[:, -1] + self.net(context.flatten(1, 2))

    def loss(self, batch, step=0):
        l1 = (self.next_frame(batch.context) - batch.future[:, 0]).abs().mean()
        return Loss(l1, {"l1": l1.detach()})

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        frames = list(context.unbind(1))
        for _ in range(horizon):
            frames.append(self.next_frame(torch.stack(frames[-self.num_context :], 1)).clamp(0, 1))
        return torch.stack(frames[-horizon:], 1).expand(samples, -1, -1, -1, -1, -1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/example-model"), help="run folder")
    parser.add_argument("--tiny", action="store_true", help="a few steps")
    given = parser.parse_args()
    run = framecast.train(Nudge, "bouncing", out=given.out, steps=3 if given.tiny else 500)
    print(framecast.evaluate(run, "bouncing", horizon=8, clips=16, model_class=Nudge)[0].headline("moving_psnr"))
