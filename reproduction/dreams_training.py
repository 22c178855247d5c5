"""Trainings of the dreams model for docs/results/dreams.md, and what is known of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from framecast.core.types import ClipRequest
from framecast.data.base import Source
from framecast.data.cache import open_data
from framecast.data.loader import Loader
from framecast.models.dreams.predictor import Dreams
from framecast.training.log import read_metrics
from framecast.training.run_folder import Run, open_run
from reproduction.results import WORK, command, length, relative

#: Training of each part, beside --data and --out.
TRAINING = {
    "ball": "--profile narrow --steps 4500 --model.vision-share 0.3 --model.compare linear softmax-mse",
    "crossroads": "--profile narrow --steps 3500 --model.vision-share 0.35 --model.compare linear gaussian",
    "ms_pacman": "--profile narrow --size 64x64 --fit squash --steps 5000 --model.kl-weight 0.1",
    "maze": "--profile tokens",
    "clip": "--profile narrow --steps 1600 --model.compare linear softmax-mse",
}


class Trained:
    """A finished run: its model, its data and how it was made."""

    def __init__(self, name: str, data: str, kind: str) -> None:
        folder = WORK / f"dreams-{name}"
        words = ("train", "dreams", "--data", data, "--out", relative(folder), *TRAINING[kind].split())
        self.command = command(*words).replace(data, Path(data).name if kind == "clip" else data)
        self.run: Run = open_run(folder)
        model = self.run.model()
        assert isinstance(model, Dreams)
        self.model: Dreams = model
        self.source: Source = open_data(self.run.config.data)[0]
        rows = read_metrics(folder)
        self.facts = {
            "command": self.command,
            **length(rows),
            "vision_steps": max((r["step"] for r in rows if r["stage"] == "vision"), default=0),
            "seed": self.run.config.train.seed,
            "losses": {
                k: next((r[k] for r in reversed(rows) if k in r), None)
                for k in ("vision/reconstruction", "vision/kl", "memory/nll", "linear/mse", "gaussian/nll")
            },
            "validation": self._validation(rows),
        }

    def _validation(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        stages = {r["stage"] for r in rows if "val/loss" in r}
        return {s: min(r["val/loss"] for r in rows if r["stage"] == s and "val/loss" in r) for s in sorted(stages)}

    def frames(self, split: str, most: int = 400) -> tuple[Tensor, Tensor | None]:
        """The longest stretch of a split, float (t, 3, 64, 64), and its actions."""
        request = self.model.request(self.model.config)
        longest = max(self.source.splits(request.source_length)[split], key=lambda s: s.stop - s.start)
        count = min(longest.stop - longest.start, most)
        whole = ClipRequest(context=count, future=0, resize=request.resize)
        loader = Loader(self.source, [longest], whole, 1, actions=self.run.config.spec.actions)
        batch = loader.gather([(longest.video, longest.start)]).to("cpu")
        return batch.context[0], None if batch.actions is None else batch.actions[0]
