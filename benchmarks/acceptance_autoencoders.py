"""The long runs of the fourteen autoencoders: figures into docs/results/generative-autoencoders.json.

    python benchmarks/acceptance_autoencoders.py                        everything; what is finished is kept
    python benchmarks/acceptance_autoencoders.py --only small           one group of parts (see GROUPS)
    python benchmarks/acceptance_autoencoders.py --list                 the parts and which are done
    python benchmarks/acceptance_autoencoders.py --part small-c-ae      one part

Every model of a group trains for the same wall-clock budget (`--budget 4m`), one after another, on the same recordings
at 84x64, and is scored on a fresh recording that no run was trained on. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import claims
import torch
from acceptance import ROOT, circumstances, command, dumped, film, relative, slug
from autoencoders_page import page

import framecast
from framecast.compare import compare
from framecast.comparison import Comparison
from framecast.data.loader import Loader
from framecast.data.store import Store
from framecast.engine.device import make_device
from framecast.engine.state import TrainState
from framecast.engine.step import train_step
from framecast.models.autoencoders import PROFILES, VARIANTS, Autoencoder

RESULTS = ROOT / "docs" / "results"
FILE = RESULTS / "generative-autoencoders.json"
WORK = ROOT / "runs" / "acceptance" / "autoencoders"
SIZE, HORIZON, CLIPS = "84x64", 60, 32
#: Frames of the horizon that are told.
TOLD = (1, 5, 10, 20, 40, 60)
OTHERS = ("video_pinball", "qbert", "montezuma_revenge", "space_invaders")
OPTIONS = {
    "code 30": [],
    "code 256": ["--model.latent", "256"],
    "code 30, on the newest frame": ["--model.residual"],
    "code 256, on the newest frame": ["--model.latent", "256", "--model.residual"],
}


def parts(budget: str) -> dict[str, tuple[str, Callable[[], dict[str, Any]]]]:
    """Name -> (group, what makes it), in the order they are made."""
    found: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {}
    for name in VARIANTS:
        found[f"small-{name}"] = ("small", partial(trained, name, "small", "ms_pacman", budget))
    found["multiscale-gan"] = ("small", partial(trained, "multiscale-gan", "small", "ms_pacman", budget))
    found["small-all"] = ("small", partial(together, "small"))
    for label, flags in OPTIONS.items():
        found[f"option-{slug(label)}"] = ("options", partial(option, label, flags, budget))
    for game in OTHERS:
        for name in ("c-gia-ae", "c-lstm-vae"):
            found[f"{slug(game)}-{name}"] = ("games", partial(trained, name, "small", game, budget))
    for name in VARIANTS:
        found[f"overfit-{name}"] = ("overfit", partial(overfit, name))
    for name in VARIANTS:
        found[f"default-{name}"] = ("default", partial(trained, name, "default", "ms_pacman", budget))
    found["default-all"] = ("default", partial(together, "default"))
    return found


GROUPS = ("small", "options", "games", "overfit", "default")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=GROUPS, help="one group instead of all")
    parser.add_argument("--part", help="one part instead of all")
    parser.add_argument("--budget", default="4m", help="training time of every run")
    parser.add_argument("--again", action="store_true", help="do finished parts anew")
    parser.add_argument("--list", action="store_true", help="name the parts and stop")
    options = parser.parse_args()
    every = parts(options.budget)
    if options.part is not None and options.part not in every:
        parser.error(f"no part {options.part!r}; see --list")
    for name, (group, make) in every.items():
        done = name in load()["results"]
        if options.list:
            print(f"{'done' if done else 'open':<6}{group:<10}{name}")
        elif options.part == name or (options.part is None and options.only in (None, group)):
            if done and not options.again:
                print(f"{name}: done before", flush=True)
                continue
            print(f"{name} …", flush=True)
            keep(name, {**make(), **circumstances()})


def keep(name: str, found: dict[str, Any]) -> None:
    """Write one result beside the others, and the page."""
    done = load()  # only now: another part may have ended meanwhile
    done["results"][name] = found
    RESULTS.mkdir(parents=True, exist_ok=True)
    FILE.write_text(dumped(done), encoding="utf-8")
    FILE.with_suffix(".md").write_text(page(done, RESULTS), encoding="utf-8")
    claims.write()
    print(f"{name}: {found['sentence']}", flush=True)


def load() -> dict[str, Any]:
    """The result file, or an empty one."""
    empty = {"format": 1, "family": "generative-autoencoders", "results": {}}
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else empty


# ------------------------------------------------------------------------------------------------------------- data


def recording(game: str, fresh: bool = False) -> Path:
    """Forty episodes of a game at 60 frames a second, or sixteen short ones of another seed to score on; at 84x64."""
    name = f"{game}-fresh" if fresh else game
    store, whole = WORK / "data" / name, WORK / "data" / f"{name}-whole"
    if (store / "index.json").is_file():
        return store
    length = ["--episodes", "16", "--max-frames", "160", "--seed", "1"] if fresh else ["--max-frames", "300"]
    length = length if fresh else ["--episodes", "40", *length]
    command("data", "make", "atari", "--game", game, *length, "--out", relative(whole), "--overwrite")
    command("data", "import", relative(whole), "--size", SIZE, "--out", relative(store), "--overwrite")
    shutil.rmtree(whole)
    return store


# ------------------------------------------------------------------------------------------------------------ parts


def trained(
    name: str, profile: str, game: str, budget: str, flags: tuple[str, ...] = (), label: str = ""
) -> dict[str, Any]:
    """One model under the budget, scored on the fresh recording beside copy-last and temporal-mean."""
    data, run = recording(game), folder(name, profile, game, label)
    words = ["train", name, "--profile", profile, "--data", relative(data), "--out", relative(run), *flags]
    if name == "multiscale-gan":  # its published rates fall over a number of steps; within a budget they stay
        words += ["--model.no-adversarial", "--optim.generator-final-lr", "None"]
    line = command(*words, "--budget", budget, "--train.validate-every", "100", "--quiet")
    rows = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    found, kept = compare([f"{name}={run}"], recording(game, fresh=True), split="all", horizon=HORIZON, clips=CLIPS)
    film(kept, RESULTS / f"{run.name}.webp", found.protocol.fps)
    seconds = max(r.get("seconds", 0) for r in rows)
    return {
        "sentence": sentence(found, name),
        "command": line,
        "model": name,
        "profile": profile,
        "game": game,
        "parameters": sum(p.numel() for p in framecast.load(run).parameters()),
        "steps": rows[-1]["step"],
        "training_seconds": round(seconds),
        "film": f"{run.name}.webp",
        "split": "a fresh recording, 16 episodes of another seed",
        "table": table(found),
        "protocol": found.protocol.to_json(),
    }


def folder(name: str, profile: str, game: str, label: str = "") -> Path:
    """Where a run lies."""
    return WORK / "-".join(w for w in (name, profile, slug(game), slug(label)) if w)


def table(found: Comparison) -> dict[str, Any]:
    """Row -> metric -> frame -> [mean, low, high]."""
    told: dict[str, Any] = {}
    for row, metrics in found.scores.predictors.items():
        told[row] = {
            metric: {str(k): [series.mean[k - 1], series.low[k - 1], series.high[k - 1]] for k in TOLD}
            for metric, series in metrics.items()
        }
    return told


def sentence(found: Comparison, name: str) -> str:
    """At five frames: the whole frame against the temporal mean, the moving area against copy-last."""
    rows = {n: found.scores.predictors[n] for n in (name, "copy-last", "temporal-mean")}
    whole = [rows[n]["psnr"].mean[4] for n in (name, "temporal-mean", "copy-last")]
    moving = [rows[n]["moving_psnr"].mean[4] for n in (name, "temporal-mean", "copy-last")]

    def told(values: list[float | None]) -> str:
        first, mean, last = (float("nan") if v is None else v for v in values)
        return f"{first:.2f} dB (temporal mean {mean:.2f}, copy-last {last:.2f})"

    return f"PSNR at +5: {told(whole)}; where something moves {told(moving)}"


def together(profile: str) -> dict[str, Any]:
    """All fourteen of a profile and the multi-scale network on the same clips: ranks, intervals, the claims."""
    missing = [n for n in VARIANTS if not (folder(n, profile, "ms_pacman") / "config.json").is_file()]
    if missing:
        raise SystemExit(f"{profile}-all: {', '.join(missing)} not trained yet")
    runs = [f"{n}={folder(n, profile, 'ms_pacman')}" for n in VARIANTS]
    gan = folder("multiscale-gan", "small", "ms_pacman")
    runs += [f"multiscale-gan={gan}"] if (gan / "config.json").is_file() else []
    out = WORK / f"all-{profile}"
    fresh = recording("ms_pacman", fresh=True)
    found, kept = compare(runs, fresh, split="all", horizon=HORIZON, clips=CLIPS, out=out, show=1)
    found.save(out)
    strips(kept, RESULTS / f"autoencoders-{profile}.png")
    ranked = [row["name"] for row in found.ranking()]
    claims = {
        metric: {
            "convolutional above fully connected": pairs(found, metric, conv_above_dense()),
            "c-gia-ae and c-lstm-vae above the other twelve": pairs(found, metric, best_above_rest()),
            "c-gia-ae and c-lstm-vae above multiscale-gan": pairs(
                found, metric, [("c-gia-ae", "multiscale-gan"), ("c-lstm-vae", "multiscale-gan")]
            ),
        }
        for metric in ("psnr", "moving_psnr", "ssim", "sharpness_ratio")
    }
    return {
        "sentence": f"by PSNR where something moves: {', '.join(ranked)}",
        "profile": profile,
        "picture": f"autoencoders-{profile}.png",
        "ranking": found.ranking(),
        "claims": claims,
        "table": table(found),
        "protocol": found.protocol.to_json(),
    }


def conv_above_dense() -> list[tuple[str, str]]:
    """Each convolutional model beside its fully connected twin."""
    return [(n, f"f{n}") for n in VARIANTS if f"f{n}" in VARIANTS]


def best_above_rest() -> list[tuple[str, str]]:
    """The two that were called the best beside every other."""
    best = ("c-gia-ae", "c-lstm-vae")
    return [(b, n) for b in best for n in VARIANTS if n not in best]


def pairs(found: Comparison, metric: str, wanted: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Paired differences a - b with their intervals."""
    rows = [(a, b) for a, b in wanted if b in found.means]
    return [{"a": a, "b": b, **found.difference(metric, a, b)} for a, b in rows]


def strips(kept: Any, path: Path) -> None:
    """One clip as every row forecast it, a strip a row, the truth first."""
    import numpy as np

    from framecast.media.grid import grid
    from framecast.media.images import write_image

    clip = kept[0]
    chosen = [k - 1 for k in TOLD]
    rows = {"truth": clip.truth, **clip.predictions}
    pictures = {name: (np.asarray(v)[chosen] * 255).round().astype(np.uint8) for name, v in rows.items()}
    write_image(grid(pictures, [f"+{k}" for k in TOLD], least=84), path)


def option(label: str, flags: list[str], budget: str) -> dict[str, Any]:
    """What an option buys: `default` of one model with it, at the same size and budget."""
    found = trained("c-ae", "default", "ms_pacman", budget, tuple(flags), f"option {label}")
    return {**found, "option": label}


def overfit(name: str, most: int = 6000) -> dict[str, Any]:
    """A hundred fixed pairs at 42x32, `default`: steps until the loss in eval mode has fallen tenfold."""
    store = WORK / "data" / "ms_pacman-42x32"
    if not (store / "index.json").is_file():
        command("data", "import", relative(recording("ms_pacman")), "--size", "42x32", "--out", relative(store))
    source = Store(store)
    config = PROFILES["default"](name)
    loader = Loader(source, source.splits(15)["train"], Autoencoder.request(config), 10)
    batch = loader.batch(0).to("cpu")
    torch.manual_seed(0)
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
        train_step(state, lambda stream, micro: batch, device)
        if state.step % 25 == 0:
            now = loss()
    fallen = first / now
    return {
        "sentence": f"eval loss {first:.4f} to {now:.4f} in {state.step} steps, {fallen:.1f} times",
        "model": name,
        "first": first,
        "last": now,
        "steps": state.step,
        "tenfold": fallen >= 10,
        "stage": state.current.name,
    }


if __name__ == "__main__":
    main()
