"""Skill of weights of `direct` on the validation games, by which packaged weights are chosen.

    python -m reproduction.direct_choice direct-any runs/acceptance/direct-any

Nine episodes of each game of `direct_data.VALIDATION_GAMES`, 84x64, 60 frames a second, three clips of each episode,
64 frames. Held-out games are not read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framecast.data.cache import open_data
from framecast.data.loader import Loader
from framecast.data.options import DataConfig
from framecast.data.registry import find_source
from framecast.nn.shrinkage import change_sums
from framecast.training.run_folder import open_run
from reproduction import direct_data
from reproduction.results import WORK

HORIZON, CLIPS = 64, 27
#: Mean squared error of copy-last below which a lead time has no skill: it would be divided by nearly nothing.
STILL = 1e-6


def main() -> None:
    """Print a table for each of the weights named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="packaged weights or run folders")
    for name in parser.parse_args().weights:
        print(f"{name}: skill over 64 frames, its standard error over episodes, least of a frame, at frames 1 to 64")
        totals, least = [], []
        for game in direct_data.VALIDATION_GAMES:
            total, error, curve = skills(name, recording(game))
            totals.append(total)
            least.append(np.nanmin(curve))
            shown = " ".join(f"{curve[k - 1]:+.3f}" for k in (1, 2, 4, 8, 16, 32, 64))
            at = int(np.nanargmin(curve)) + 1
            print(f"  {game:16} {total:+.3f} {error:.3f} {least[-1]:+.3f} at {at:2} | {shown}", flush=True)
        print(f"  {'mean':16} {np.mean(totals):+.3f}       {np.mean(least):+.3f}", flush=True)


def recording(game: str) -> Path:
    """Nine episodes of 200 frames."""
    folder = WORK / "data" / "validation-games" / f"{game}-1"
    if not (folder / "index.json").is_file():
        source = find_source("atari")
        source(source.Config(game=game, episodes=9, max_frames=200, frame_skip=1, seed=1)).prepare(folder)
    return folder


@torch.no_grad()
def skills(weights: str, store: Path) -> tuple[float, float, np.ndarray]:
    """Skill over copy-last, its standard error over episodes, and its curve.

    Args:
        weights: packaged weights or a run folder.
        store: recording.

    Returns:
        Skill over the horizon, jackknife standard error, and skill at each lead time, (64,).
    """
    source, _ = open_data(DataConfig(path=str(store), size="84x64"))
    model = open_run(weights).model()
    request = model.request(model.config).consecutive(model.num_context, HORIZON)  # type: ignore[attr-defined]
    whole = [segment for part in source.splits(request.source_length).values() for segment in part]
    loader = Loader(source, whole, request, 1)
    errors, episodes = [], []
    for pair in loader.windows.fixed(CLIPS, 1):
        batch = loader.gather([pair]).to("cpu")
        forecast = model.predict(batch.context[:, : model.num_context], HORIZON)[0]
        both, own, true = change_sums(forecast, batch.future, batch.context[:, -1:])[:, 0]
        errors.append(torch.stack([own - 2 * both + true, true]))
        episodes.append(pair[0])
    found, groups = torch.stack(errors), torch.tensor(episodes)
    per_episode = torch.stack([found[groups == k].sum(0) for k in groups.unique()])
    forecasts, copied = found.sum(0)
    moving = copied > STILL * CLIPS * batch.context[0, 0].numel()
    curve = torch.where(moving, 1 - forecasts / copied, torch.nan)
    return _skill(per_episode), _jackknife(per_episode), curve.numpy()


def _skill(sums: Tensor) -> float:
    forecast, copied = sums.sum((0, 2)).tolist()
    return 1 - forecast / max(copied, 1e-12)


def _jackknife(sums: Tensor) -> float:
    n = len(sums)
    left_out = np.array([_skill(torch.cat([sums[:k], sums[k + 1 :]])) for k in range(n)])
    return float(((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5)


if __name__ == "__main__":
    main()
