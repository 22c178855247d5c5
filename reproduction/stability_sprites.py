"""Sprites in 64 recursions of the multi-scale network, plain and adversarial: trained in three steps, three seeds.

The recording is the demo's with ghosts painted from the frames before (`--deflicker`): the console shows the ghosts in
turn, and at frame skip 4 a network of squared errors learns to leave them out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.data.cache import open_data
from framecast.data.options import DataConfig
from framecast.evaluation.clips import split_segments, spread_clips
from framecast.inference.load import load
from framecast.metrics.clips import MetricSettings, moving_masks, parts_of
from framecast.metrics.objects import Found, find, score_objects, true_places
from framecast.training.log import read_metrics
from reproduction.claim_checks import over_seeds_and_episodes
from reproduction.pages import code, line, machine
from reproduction.results import RESULTS, WORK, command, length, made, relative, write_film
from reproduction.sprites import THINGS, presence

#: The game's colours but that of edible ghosts, which is rare and lies between the background and a ghost.
PALETTE = (
    "0-28-136,228-111-111,0-0-0,187-187-53,195-144-61,200-72-72,198-89-179,84-184-153,180-122-48,210-164-74,184-50-50"
)
#: First step, on single frames: every pixel of a sprite weighs 4, and contexts are dimmed more than after it.
FIRST = ["--model.recursion", "1", "--model.context-mix", "0.5", "--model.foreground-weight", "3"]
LATER = ["--model.context-mix", "0.3", "--model.foreground-weight", "1", "--model.palette", PALETTE]
#: Processor time of the steps: single frames, recursion, and further with or without adversary.
BUDGETS = {"one": "80s", "three": "130s", "further": "120s"}
ADVERSARY = ["--model.adversarial", "--model.spectral-norm", "--optim.discriminator-lr", "1e-3"]
HORIZON, FRAMES = 64, (1, 2, 4, 8, 16, 32, 48, 64)
ROWS = ("plain", "adversarial", "copy-last", "truth")
#: Figures of every clip and frame, with their labels.
CURVES = {
    "any": "share of frames with her or any ghost, anywhere",
    "share": "sprites of the true frame that are present anywhere",
    "moving": "share of frames in which she or any ghost has moved since four frames before",
    "recall_any": "recall of her or any ghost, at its true place",
    "recall": "recall at the true place, mean of the sprites",
    "sharpness": "sharpness ratio in the moving area of truth or forecast",
    "skill": "skill over copy-last, whole frame",
    "gain": "gain in the moving area, dB",
}
#: Figures of which the adversarial network's are compared with the plain one's, and at which frames.
COMPARED, AT = ("any", "share", "recall_any", "sharpness"), (32, 64)


def recording() -> Path:
    """Sixty episodes of 100 frames without flicker, of which six are held out."""
    words = ("--game", "ms_pacman", "--frame-skip", "4", "--episodes", "60", "--max-frames", "100", "--ram")
    return made(WORK / "data" / "ms_pacman-steady", "atari", *words, "--deflicker")


def sprites(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The trainings of one seed, and figures of both networks on held-out clips."""
    runs = _trained(seed)
    clips = _clips(options.sprite_clips)
    futures = {name: _future(run, clips["context"]) for name, (run, _) in runs.items() if name in ROWS}
    truth = clips["future"]
    futures |= {"copy-last": clips["context"][:, -1:].expand_as(truth), "truth": truth}
    values = {name: measured(future, clips) for name, future in futures.items()}
    middle = len(truth) // 2
    film = write_film(
        {name: futures[name][middle].numpy() for name in ("truth", "plain", "adversarial")},
        RESULTS / f"stability-sprites-{seed}.webp",
        15,
    )
    return {
        "sentence": _sentence(values),
        "clips": len(truth),
        "episodes": len(set(clips["videos"])),
        "runs": {name: {"command": typed, **length(read_metrics(run))} for name, (run, typed) in runs.items()},
        "rows": {name: {key: means(found, values, key) for key in CURVES} for name, found in values.items()},
        "by_episode": {name: _compared(found, clips["videos"]) for name, found in values.items()},
        "film": film,
    }


def _trained(seed: int) -> dict[str, tuple[Path, str]]:
    """Folder and command of every training; finished ones are kept."""
    data = relative(recording())
    runs: dict[str, tuple[Path, str]] = {}

    def train(name: str, budget: str, *flags: str) -> None:
        run, never = WORK / f"stability-sprites-{name}-{seed}", "1000000"
        words = ["train", "multiscale-gan", "--profile", "stable", "--data", data, "--out", relative(run)]
        words += [
            "--budget",
            budget,
            "--seed",
            str(seed),
            "--model.gate-weight",
            "0",
            *flags,
            "--train.clock",
            "cpu",
            "--train.select",
            "last",
        ]
        runs[name] = (run, command(*words, "--train.validate-every", never, "--train.preview-every", never))

    def after(name: str, rate: str) -> list[str]:
        return ["--init-from", relative(runs[name][0]), "--optim.generator-lr", rate, *LATER]

    train("one", BUDGETS["one"], *FIRST)
    train("three", BUDGETS["three"], *after("one", "1e-3"))
    train("plain", BUDGETS["further"], *after("three", "7e-4"))
    train("adversarial", BUDGETS["further"], *after("three", "7e-4"), *ADVERSARY)
    return runs


def _clips(count: int) -> dict[str, Any]:
    """Held-out clips: context and future uint8 (n, t, 3, 210, 160), memory of the console, and their videos."""
    source, _ = open_data(DataConfig(path=str(recording())))
    context = 4
    chosen, _ = spread_clips(
        source, split_segments(source, "test", [context + 1]), "test", context, HORIZON, count, seed=0
    )
    clips = [source.clip(video, start, context + HORIZON) for video, start in chosen.pairs]
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    ram = torch.from_numpy(np.stack([clip.arrays["ram"] for clip in clips]))
    videos = [source.names[video] for video, _ in chosen.pairs]
    return {"context": frames[:, :context], "future": frames[:, context:], "ram": ram[:, context:], "videos": videos}


def _future(run: Path, context: Tensor) -> Tensor:
    """The run's forecast, uint8 (n, 64, 3, h, w); kept beside the run."""
    kept = run / f"forecast-{len(context)}.npy"
    if not kept.is_file():
        model = load(run).eval()
        found = [model.predict(clip[None].float() / 255, HORIZON)[0, 0] for clip in context]
        np.save(kept, (torch.stack(found).float() * 255).round().byte().numpy())
    return torch.from_numpy(np.load(kept))


def measured(future: Tensor, clips: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Figures of a forecast, uint8 (n, frames, 3, h, w): by clip and frame; mse and moving_mse among them."""
    settings = MetricSettings.fitting(*future.shape[-2:])
    parts: dict[str, list[Any]] = {}
    for i, frames in enumerate(future):
        forecast, truth = frames[None].float() / 255, clips["future"][i : i + 1].float() / 255
        last = clips["context"][i : i + 1, -1].float() / 255
        mask = moving_masks(truth, last, settings)
        found = {key: value[0].tolist() for key, value in parts_of(forecast, truth, last, settings, mask).items()}
        found |= {key: value[0] for key, value in presence(forecast, truth).items()}
        found |= _recall(forecast, truth, clips["ram"][i : i + 1])
        for key, value in found.items():
            parts.setdefault(key, []).append(value)
    arrays = {key: np.array(value, dtype=np.float64) for key, value in parts.items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        arrays["sharpness"] = arrays["area_sharpness"] / arrays["true_area_sharpness"]
    return arrays


def _recall(forecast: Tensor, truth: Tensor, ram: Tensor) -> dict[str, list[float]]:
    """Sprites at their true places: the mean of those in the true frame, and whether any is found."""
    real = find(truth, THINGS)
    own = find(forecast, THINGS)
    places = true_places(THINGS, {"ram": ram}, real)
    hit = score_objects(Found(own.there[None], own.place[None]), real, places, THINGS)["found"][0, 0]
    any_hit = hit.nan_to_num(-1).amax(-1)
    return {"recall": hit.nanmean(-1).tolist(), "recall_any": any_hit.where(any_hit >= 0, torch.nan).tolist()}


def means(found: Mapping[str, np.ndarray], values: Mapping[str, Mapping[str, np.ndarray]], key: str) -> list[Any]:
    """Curve of a figure over all frames of the horizon, mean over clips."""
    base = values["copy-last"]
    with np.errstate(invalid="ignore", divide="ignore"):
        if key == "skill":
            return _plain(1 - found["mse"].sum(0) / base["mse"].sum(0))
        if key == "gain":
            return _plain(_mean(10 * np.log10(base["moving_mse"] / found["moving_mse"])))
        if key == "sharpness":
            return _plain(found["area_sharpness"].sum(0) / found["true_area_sharpness"].sum(0))
    return _plain(_mean(found[key]))


def _compared(found: Mapping[str, np.ndarray], videos: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Figure of COMPARED -> frame of AT -> its mean in every episode."""
    return {key: {str(k): _plain(_episodes(found[key][:, k - 1], videos)) for k in AT} for key in COMPARED}


def _episodes(values: np.ndarray, videos: Sequence[str]) -> np.ndarray:
    """Mean over the clips of each episode, of one frame, from values by clip."""
    return np.array([_mean(values[[v == name for v in videos]]) for name in dict.fromkeys(videos)])


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over clips of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(0)
    return np.where(count, np.where(known, values, 0).sum(0) / np.maximum(count, 1), np.nan)


def _plain(values: np.ndarray) -> list[Any]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _sentence(values: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    shown = [
        f"{name} {means(values[name], values, 'any')[31]:.2f} and {means(values[name], values, 'any')[63]:.2f}"
        for name in ROWS[:2]
    ]
    return f"her or any ghost is present at frames 32 and 64 in a share of clips of: {', '.join(shown)}"


# --------------------------------------------------------------------------------------------------------------- page


def section(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of docs/results/stability.md: curves averaged over seeds, differences, commands and films."""
    first = seeds[0]
    lines = ["## Sprites, plain and adversarial", "", *_about(seeds)]
    for key, label in CURVES.items():
        lines += [line([label, *(f"frame {k}" for k in FRAMES)]), "|---" * (len(FRAMES) + 1) + "|"]
        for name in ROWS:
            curve = [[seed["rows"][name][key][k - 1] for seed in seeds] for k in FRAMES]
            lines.append(line([name, *(_number(values) for values in curve)]))
        lines.append("")
    lines += [
        line(["adversarial less plain, 95 % interval", *(f"frame {k}" for k in AT)]),
        "|---" * (len(AT) + 1) + "|",
    ]
    for key in COMPARED:
        cells = []
        for k in AT:
            both = [_by_episode(seeds, name, key, k) for name in ("adversarial", "plain")]
            mean, low, high = over_seeds_and_episodes(both[0], both[1])
            cells.append(f"{mean:+.2f} ({low:+.2f} to {high:+.2f})")
        lines.append(line([CURVES[key], *cells]))
    lines += ["", *code(*(run["command"] for run in first["runs"].values()))]
    for seed in seeds:
        still = seed["film"].rsplit(".", 1)[0] + ".png"
        lines += [f"![truth, plain, adversarial]({seed['film']})", "", f"![every eighth frame]({still})", ""]
    return [*lines, *machine(dict(first))]


def _about(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    first = seeds[0]
    steps = ", ".join(f"{run['steps']:,} ({name})" for name, run in first["runs"].items())
    budgets = ", ".join(f"{name} {budget}" for name, budget in BUDGETS.items())
    return [
        f"Seeds: {len(seeds)}. Steps of seed 0: {steps}; processor time of one core: {budgets}.",
        f"Scored on {first['clips']} clips of {first['episodes']} held-out episodes, ghosts de-flickered: not to be",
        "compared with the figures above. A sprite is present when enough pixels of its colour lie together anywhere",
        "in the frame (`reproduction/sprites.py`); the last frame repeated keeps its own and moves none. Intervals are",
        "over seeds and episodes. Profile `stable` with the flags of the commands below, in three steps.",
        "",
    ]


def _by_episode(seeds: Sequence[Mapping[str, Any]], name: str, key: str, frame: int) -> np.ndarray:
    return np.array([seed["by_episode"][name][key][str(frame)] for seed in seeds], dtype=np.float64)


def _number(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{np.mean(known):.2f}" if known else "–"
