"""The long runs of the fourteen autoencoders: figures into docs/results/generative-autoencoders.json.

    python -m reproduction.autoencoders                        everything; what is finished is kept
    python -m reproduction.autoencoders --only games           one group of parts (see GROUPS)
    python -m reproduction.autoencoders --list                 the parts and which are done
    python -m reproduction.autoencoders --part overfit-c-ae    one part

Models of a table train equally long (`--budget 4m`), one after another, at 84x64, by `framecast benchmark`: a run that
was stopped resumes, a finished one is kept, and all are scored on the same held-out episodes. The fourteen in `small`
are those of reproduction/benchmark.py: one training serves both pages.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from framecast.data.loader import Loader
from framecast.data.store import Store
from framecast.models.autoencoders.config import PROFILES, VARIANTS
from framecast.models.autoencoders.predictor import Autoencoder
from framecast.training.device import make_device
from framecast.training.state import TrainState
from framecast.training.step import train_step
from reproduction import benchmark as acceptance_benchmark
from reproduction.autoencoders_page import page
from reproduction.benchmark import brief, recording, series
from reproduction.results import RESULTS, ROOT, Results, command, relative

WORK = ROOT / "runs" / "acceptance" / "autoencoders"
GAME = "ms_pacman"
OTHERS = ("video_pinball", "qbert", "montezuma_revenge", "space_invaders")
BEST = ("c-gia-ae", "c-lstm-vae")
GAN = "multiscale-gan"
OPTIONS = (
    "code-30=c-ae:default",
    "code-256=c-ae:default --model.latent 256",
    "code-30-on-newest-frame=c-ae:default --model.residual",
    "code-256-on-newest-frame=c-ae:default --model.latent 256 --model.residual",
)
#: Seeds of overfitting, 0 elsewhere: from 0 this one stays with the mean clip (4.4 times in 6,000 steps).
OVERFIT_SEEDS = {"c-lstm-ae": 1}
#: Metrics by which the published claims are judged.
JUDGED = ("psnr", "moving_psnr", "ssim", "sharpness_ratio")


def parts(budget: str) -> dict[str, tuple[str, Callable[[], dict[str, Any]]]]:
    """Name -> (group, what makes it), in the order they are made."""
    found: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {}
    found["small-all"] = ("small", partial(together, "small", budget))
    found["options"] = ("options", partial(options, budget))
    found["games"] = ("games", partial(games, budget))
    for name in VARIANTS:
        found[f"overfit-{name}"] = ("overfit", partial(overfit, name))
    found["default-all"] = ("default", partial(together, "default", budget))
    return found


GROUPS = ("small", "options", "games", "overfit", "default")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=GROUPS, help="one group instead of all")
    parser.add_argument("--part", help="one part instead of all")
    parser.add_argument("--budget", default="4m", help="training time of every run")
    parser.add_argument("--again", action="store_true", help="run finished parts again")
    parser.add_argument("--list", action="store_true", help="name the parts and stop")
    given = parser.parse_args()
    every, results = parts(given.budget), Results("generative-autoencoders", lambda done: page(done, RESULTS))
    if given.part is not None and given.part not in every:
        parser.error(f"no part {given.part!r}; see --list")
    for name, (group, make) in every.items():
        if given.list:
            print(f"{'done' if name in results.load()['results'] else 'open':<6}{group:<10}{name}")
        elif given.part == name or (given.part is None and given.only in (None, group)):
            results.part(name, make, given.again)


# ------------------------------------------------------------------------------------------------------------ parts


def together(profile: str, budget: str) -> dict[str, Any]:
    """All fourteen of a profile and the multi-scale network on the same clips: ranks, intervals, the claims."""
    if profile == "small":
        work, models = acceptance_benchmark.WORK, ["all:small"]
    else:
        work, models = WORK / f"all-{profile}", [*(f"{name}:{profile}" for name in VARIANTS), f"{GAN}:small"]
    table = made(models, {GAME: recording(GAME)}, work, budget)
    shutil.copyfile(work / GAME / "strip.png", RESULTS / f"autoencoders-{profile}.png")
    found = extract(table, GAME, [f"{n}:{profile}" for n in VARIANTS] + [f"{GAN}:small"])
    pairs = {
        "convolutional above fully connected": conv_above_dense(),
        "c-gia-ae and c-lstm-vae above the other twelve": best_above_rest(),
        "c-gia-ae and c-lstm-vae above multiscale-gan": [(name, GAN) for name in BEST],
    }
    return {
        "sentence": f"by PSNR in the moving area: {', '.join(row['name'] for row in found['ranking'])}",
        "profile": profile,
        "picture": f"autoencoders-{profile}.png",
        **found,
        "claims": {
            metric: {
                claim: [{"a": a, "b": b, **difference(table, metric, a, b)} for a, b in wanted]
                for claim, wanted in pairs.items()
            }
            for metric in JUDGED
        },
    }


def options(budget: str) -> dict[str, Any]:
    """Gains of `default` of one model by a larger latent and residual prediction, at the same size and budget."""
    table = made(OPTIONS, {GAME: recording(GAME)}, WORK / "options", budget)
    names = [text.partition("=")[0] for text in OPTIONS]
    found = extract(table, GAME, names)
    at_five = {name: found["table"][name]["moving_psnr"]["5"][0] for name in names}
    gains = ", ".join(f"{name} {at_five[name] - at_five[names[0]]:+.2f} dB" for name in names[1:])
    return {"sentence": f"five frames ahead, in the moving area, beside {names[0]}: {gains}", **found}


def games(budget: str) -> dict[str, Any]:
    """The two that were called the best, on the other four games."""
    models = [f"{name}:small" for name in BEST]
    table = made(models, {game: recording(game) for game in OTHERS}, WORK / "games", budget)
    found = {game: extract(table, game, models) for game in OTHERS}
    above = []
    for game in OTHERS:
        shutil.copyfile(WORK / "games" / game / "strip.png", RESULTS / f"autoencoders-{game}.png")
        gains = {name: found[game]["gains"][name]["moving_psnr"]["5"] for name in BEST}
        above += [f"{name} on {game}" for name, gain in gains.items() if gain[1] is not None and gain[1] > 0]
    return {
        "sentence": f"five frames ahead above copy-last in the moving area: {', '.join(above) or 'none'}",
        "games": found,
    }


def made(models: Sequence[str], data: Mapping[str, Path], work: Path, budget: str) -> dict[str, Any]:
    """The table of a benchmark of which every run is made here."""
    table = series(models, data, work, budget)
    assert table is not None, "no shard: nothing is left to others"
    return table


def extract(table: Mapping[str, Any], data: str, names: Sequence[str]) -> dict[str, Any]:
    """The rows of `names` and the baselines on one set of data, profiles left out of their names.

    models: row -> weights, steps, seconds, commands.  ranking: from best to worst by PSNR in the moving area.
    table: row -> metric -> frame -> [mean, low, high]; gains: the same to copy-last.
    """
    short = brief(table)
    found, runs, costs = short["data"][data], short["runs"][data], short["costs"][data]
    rows = [row for row in found["rows"] if not row["seeds"] or row["name"] in names]
    models = {}
    for name in (row["name"] for row in rows if row["seeds"]):
        own = [run for row, run in runs.items() if row == name or row.startswith(f"{name} seed ")]
        commands = [run["command"] for run in own]
        models[plain(name)] = {**costs[name], "commands": commands, "hardware": own[0]["hardware"]}
    return {
        "models": models,
        "ranking": [{"name": plain(row["name"]), **row["figures"]["moving_psnr"]} for row in rows],
        "table": {plain(row["name"]): row["by_frame"] for row in rows},
        "gains": {plain(row["name"]): row["to_copy_last_by_frame"] for row in rows if row["seeds"]},
        "protocol": found["protocol"],
    }


def difference(table: Mapping[str, Any], metric: str, a: str, b: str) -> dict[str, Any]:
    """a's mean over the horizon minus b's, paired, with its interval; names as `plain` gives them."""
    every = table["data"][GAME]["differences"][metric]
    rows = {plain(x): {plain(y): gap for y, gap in row.items()} for x, row in every.items()}
    if b in rows.get(a, {}):
        return {k: rows[a][b][k] for k in ("mean", "low", "high")}
    other = rows[b][a]
    return {"mean": -other["mean"], "low": -other["high"], "high": -other["low"]}


def plain(label: str) -> str:
    """A row's name without its profile."""
    return label.partition(":")[0]


def conv_above_dense() -> list[tuple[str, str]]:
    """Each convolutional model beside its fully connected twin."""
    return [(n, f"f{n}") for n in VARIANTS if f"f{n}" in VARIANTS]


def best_above_rest() -> list[tuple[str, str]]:
    """The two that were called the best beside every other."""
    return [(b, n) for b in BEST for n in VARIANTS if n not in BEST]


def overfit(name: str, most: int = 9000) -> dict[str, Any]:
    """A hundred pairs, 42x32, `default`: steps until their loss in eval mode has fallen tenfold.

    Twenty pairs a step; all of them where a whole clip becomes one code, as batch norm of two codes knows no spread.
    """
    store = WORK / "data" / "ms_pacman-42x32"
    if not (store / "index.json").is_file():
        command("data", "import", relative(recording(GAME)), "--size", "42x32", "--out", relative(store))
    source = Store(store)
    config = PROFILES["default"](name)
    loader = Loader(source, source.splits(15)["train"], Autoencoder.request(config), 10)
    batch = loader.batch(0).to("cpu")
    seed = OVERFIT_SEEDS.get(name, 0)
    torch.manual_seed(seed)
    state = TrainState.create(Autoencoder(config, source.spec))
    device = make_device("cpu", precision="fp32")

    def loss() -> float:
        state.model.eval()
        with torch.no_grad():
            value = float(state.model.loss(batch).total)
        state.model.train()
        return value

    first, now = loss(), loss()
    # Stages by share, as a run has them: reconstruction, the judges alone, both in turns.
    ends = [0.6 * most, 0.6 * most + config.warm_up_steps]
    while state.step < most and now > first / 10:
        if len(state.stages) > 1 and state.stage < 2 and state.step >= ends[state.stage]:
            state.leave_stage()
        clips = range(10) if config.memory == "time" else range(2 * (state.step % 5), 2 * (state.step % 5) + 2)
        train_step(state, lambda stream, micro, clips=clips: batch.rows(list(clips)), device)
        if state.step % 50 == 0:
            now = loss()
    fallen = first / now
    return {
        "sentence": f"eval loss {first:.4f} to {now:.4f} in {state.step} steps, {fallen:.1f} times",
        "model": name,
        "seed": seed,
        "first": first,
        "last": now,
        "steps": state.step,
        "tenfold": fallen >= 10,
        "stage": state.current.name,
    }


if __name__ == "__main__":
    main()
