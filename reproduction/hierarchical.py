"""The long runs of hierarchical prediction: figures into docs/results/hierarchical.json, films beside it.

    python -m reproduction.hierarchical                    all parts, one after another; finished ones are kept
    python -m reproduction.hierarchical --only bouncing    one part: eight, bouncing, delay, pushing, walking
    python -m reproduction.hierarchical --again            run finished ones again

Most trainings start from the weights of others (`hierarchical_training.py`); finished ones are kept, one that was
stopped resumes. Each result holds its
figures, commands, seed, versions and hardware.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import framecast
from framecast.core.types import Batch
from framecast.data.base import Source
from framecast.data.store import Store
from framecast.evaluation.clips import Clips, held_out_clips
from framecast.metrics import psnr, sharpness_ratio
from framecast.metrics.averages import summarize
from framecast.models.base import Predictor
from framecast.models.hierarchical.networks import Encoder
from framecast.models.rollout import evaluating, rollout
from framecast.nn.vgg import VGG16, load_imagenet
from framecast.training.log import read_metrics
from framecast.training.run_folder import open_run
from reproduction.hierarchical_page import FIRST, page
from reproduction.hierarchical_training import DATA, shapes, trained
from reproduction.results import RESULTS, Results, arguments, write_film
from reproduction.scene_metrics import foreground, iou, presence, probe, shape_colours, shape_kinds


def main() -> None:
    """Run the parts asked for."""
    makers = {"eight": eight, "bouncing": bouncing, "delay": delay, "pushing": pushing, "walking": walking}
    Results("hierarchical", page).parts(makers, arguments(__doc__, list(makers)).parse_args())


# ------------------------------------------------------------------------------------------------------ eight clips


def eight() -> dict[str, Any]:
    """Overfitting on eight clips: PSNR of their frames drawn from true encodings."""
    run, training = trained("eight")
    model, source = framecast.load(run), Store(DATA["eight"]())
    parts = source.splits(18)["train"]
    frames = torch.stack([torch.from_numpy(source.clip(p.video, 0, 18).frames) for p in parts]).float() / 255
    with evaluating(model):
        found = psnr(model.reconstruct(frames), frames[:, 1:])
    still = psnr(frames[:, :1].expand_as(frames[:, 1:]), frames[:, 1:])
    drawn, first = float(found.mean()), float(still.mean())
    return {
        "sentence": f"{len(parts)} clips of 18 frames, overfitted: {drawn:.1f} dB for frames drawn from their true "
        f"encodings, {first:.1f} for repeating the first frame",
        "training": training,
        "clips": len(parts),
        "psnr_on_enc": drawn,
        "psnr_first": first,
    }


# --------------------------------------------------------------------------------------------------------- bouncing


def bouncing() -> dict[str, Any]:
    """Table 1 of the paper: one shape on grey, 16 predicted frames, 1,000 trials; then 1,000 frames."""
    run, training = trained("bouncing")
    model, trials = framecast.load(run), Store(shapes("bouncing-trials", 1000, 24, 1))
    short, drawn = colours(model, trials, 16), colours(model, trials, 16, known=True)
    film = RESULTS / "hierarchical-bouncing"
    far = colours(model, Store(shapes("bouncing-long-trials", 32, 1024, 5)), 1000, film=film)
    at = {k: round(100 * short[k][15], 2) for k in ("correct", "wrong", "gone")}
    kept = round(100 * short["kept"][15], 1)
    end = {k: round(100 * far[k][-1], 1) for k in ("correct", "wrong", "gone")}
    return {
        "sentence": f"at frame 16 of {short['trials']:,} trials: {at['correct']} % in their colour, {at['wrong']} % in "
        f"another, {at['gone']} % gone (paper 96.9 / 3.1 / 0), {kept} % there and of their kind; at frame 1,000 of "
        f"{far['trials']}: {end['correct']} / {end['wrong']} / {end['gone']} %",
        "training": training,
        "context": model.num_context,
        "short": short,
        "reconstruction": drawn,
        "long": far,
        "film": f"{film.name}.webp",
    }


def colours(
    model: Predictor, source: Source, horizon: int, film: Path | None = None, known: bool = False
) -> dict[str, Any]:
    """Shares of frames whose shape is in its colour, in another, gone, there and of its kind by area moments, and how
    far off it is, by frame. known: of frames drawn from their own encodings, not of forecasts."""
    meta, kept = source.meta(), list[Tensor]()
    palette, grey = list(meta["colours"].values()), [meta["parameters"]["grey"]] * 3
    seen, found = model.num_context, []
    for start in range(0, len(source), 8):
        clips = [source.clip(v, 0, seen + horizon).frames for v in range(start, min(start + 8, len(source)))]
        frames = torch.from_numpy(np.stack(clips)).float() / 255
        with evaluating(model):
            predicted = (
                model.reconstruct(frames)[:, seen - 1 :] if known else rollout(model, frames[:, :seen], horizon)[0]
            )
        found.append(shape_colours(predicted, frames[:, seen:], palette, grey))
        kinds = [shape_kinds(images, palette, grey) for images in (predicted, frames[:, seen:])]
        kept.append((kinds[0] == kinds[1]) & ~found[-1].gone)
        if film and not start:
            write_film(
                {"truth": frames[0, seen:], "prediction": predicted[0]}, film.with_suffix(".webp"), 30, shown=200
            )
    whole = {name: torch.cat([getattr(v, name) for v in found]).double() for name in vars(found[0])}
    shares: dict[str, Any] = {k: whole[k].mean(0).tolist() for k in ("correct", "wrong", "gone")}
    shares["kept"] = torch.cat(kept).double().mean(0).tolist()
    shares["away_px"] = [None if math.isnan(x) else x for x in whole["away"].nanmean(0).tolist()]
    every = [k - 1 for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000) if k <= horizon]
    if horizon > 16:
        shares = {"frames": [k + 1 for k in every], **{k: [v[i] for i in every] for k, v in shares.items()}}
    return {"trials": len(source), **shares}


# ------------------------------------------------------------------------------------------------------------ delay


def delay() -> dict[str, Any]:
    """The weight of the encoding loss in full from step 0, against the schedule: does the encoding collapse?"""
    table: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for name in ("schedule", "at-once"):
        run, ours = trained(f"delay-{name}")
        training |= ours
        rows = read_metrics(run)
        seen = [r for r in rows if "epva/spread" in r]
        table[name] = {
            "steps": [r["step"] for r in seen],
            "spread": [r["epva/spread"] for r in seen],
            "van_on_enc": [r["epva/van_on_enc"] for r in seen],
        }
    return {"sentence": f"{spreads(table)}; {drawings(training)}", "training": training, "table": table}


def spreads(table: Mapping[str, Mapping[str, Any]]) -> str:
    """Standard deviation of encodings with and without schedule, after a twentieth of the steps and at the end."""
    slow, fast = table["schedule"], table["at-once"]
    early, last = len(slow["steps"]) // 20, len(slow["steps"]) - 1
    at = [
        f"after {slow['steps'][i]:,} steps {slow['spread'][i]:.2g} with the schedule and {fast['spread'][i]:.2g} with "
        f"full weight from the start"
        for i in (early, last)
    ]
    return f"standard deviation of encodings: {at[0]}; {at[1]}"


def drawings(training: Mapping[str, Mapping[str, Any]]) -> str:
    """PSNR of validation frames drawn from true encodings, with and without schedule, look by look."""
    slow, fast = (training[f"delay-{name}"]["validations"] for name in ("schedule", "at-once"))
    name = "val/psnr_on_enc_forecast"
    at = [f"{a[name]:.1f} and {b[name]:.1f} dB after {a['step']:,}" for a, b in zip(slow, fast, strict=True)]
    return f"held-out frames drawn from true encodings: {', '.join(at)}"


# ---------------------------------------------------------------------------------------------------------- pushing


def pushing() -> dict[str, Any]:
    """Do actions matter, and is a push of known objects easier than one of new ones?"""
    run, training = trained("pushing-settled")
    opened = open_run(run)
    model, source = opened.model(), Store(DATA["pushing"]())
    table, gains, costs = {}, {}, {}
    for split in ("test/seen", "test/novel"):
        clips = held(opened, model, source, split, 18, 128)
        found = {kind: forecast(model, clips, kind) for kind in ("recorded", "shuffled", "shifted", "none", FIRST)}
        table[split] = {kind: values.mean(0).tolist() for kind, values in found.items()}
        things = split.removeprefix("test/")
        gains[things] = over_clips(found["recorded"] - found[FIRST])
        costs[things] = {k: over_clips(found["recorded"] - found[k]) for k in ("shuffled", "shifted", "none")}
    seen, novel = table["test/seen"], table["test/novel"]
    return {
        "sentence": f"PSNR of the forecast: {mean(seen['recorded']):.2f} dB with the recorded actions, "
        f"{mean(seen['shuffled']):.2f} with another clip's, {mean(seen['shifted']):.2f} with actions one step late, "
        f"{mean(seen[FIRST]):.2f} for repeating the first frame; novel objects {mean(novel['recorded']):.2f}, and "
        f"{mean(novel[FIRST]):.2f} for repeating the first frame",
        "training": training,
        "table": table,
        "gain_over_first_frame": gains,
        "recorded_minus": costs,
        "film": pushes(model, held(opened, model, source, "test/seen", 18, 8)),
    }


def over_clips(values: Tensor, groups: list[str] | None = None) -> dict[str, float | None]:
    """Mean over clips of their means over the horizon, with its 95 % interval; values: (clips, horizon).

    groups: of each clip what makes clips depend on each other; None takes all as independent.
    """
    series = summarize(values.double().mean(1, keepdim=True), groups)
    return {"mean": series.mean[0], "low": series.low[0], "high": series.high[0]}


def pushes(model: Predictor, clips: Clips) -> str:
    """A push: truth, the forecast with its actions and with another clip's."""
    batch = next(batches(clips))
    assert batch.actions is not None
    rows = {
        "its actions": rollout(model, batch.context, batch.future.shape[1], batch.actions)[0, 0],
        "another's": rollout(model, batch.context, batch.future.shape[1], batch.actions.roll(1, 0))[0, 0],
    }
    return write_film({"truth": batch.future[0], **rows}, RESULTS / "hierarchical-pushing.webp", 10)


def held(opened: Any, model: Predictor, source: Source, split: str, horizon: int, clips: int) -> Clips:
    """Clips that training never saw."""
    request = type(model).request(opened.config.model)
    return held_out_clips(source, request, split, model.num_context, horizon, clips, 0, opened.config.spec.actions)


def mean(values: list[float]) -> float:
    """Over the horizon."""
    return float(np.mean(values))


def forecast(model: Predictor, clips: Clips, actions: str) -> Tensor:
    """PSNR (clips, horizon) with the recorded actions, another clip's, the same one step late, none; or of FIRST."""
    found = []
    for batch in batches(clips):
        given, horizon = batch.actions, batch.future.shape[1]
        assert given is not None
        if actions == "shuffled":
            given = given.roll(1, 0)
        elif actions == "shifted":
            given = torch.cat([given[:, :1], given[:, :-1]], 1)
        if actions == FIRST:
            made = batch.context[None, :, :1].expand(-1, -1, horizon, -1, -1, -1)
        else:
            made = rollout(model, batch.context, horizon, None if actions == "none" else given)
        found.append(psnr(made[0], batch.future))
    return torch.cat(found)


def batches(clips: Clips) -> Iterator[Batch]:
    """The clips as floats."""
    for batch in clips:
        yield batch.to("cpu")


# ---------------------------------------------------------------------------------------------------------- walking


def walking() -> dict[str, Any]:
    """epva, e2e and a small epva-gan on people that walk: are they still there, sharp and in place, at frame 127?"""
    source, runs = Store(DATA["walking"]()), {}
    training: dict[str, Any] = {}
    for mode in ("epva", "e2e", "epva-gan"):
        runs[mode], ours = trained(f"walking-{mode}")
        training |= ours
    ten, ours = trained("walking-ten")
    training |= ours
    opened, rooms = open_run(runs["epva"]), empty_rooms(source)
    clips = held(opened, opened.model(), source, "test", 127, 24)
    request = dataclasses.replace(clips.loader.request, extras=("masks", "joints", "visibility"))
    clips.loader.request = request
    table: dict[str, Any] = {"copy the first frame": people(None, clips, rooms)}
    for mode, run in runs.items():
        model = framecast.load(run)
        table[mode] = {**people(model, clips, rooms), "probe": joints(model, source, open_run(run))}
    table["drawn from true encodings (epva)"] = people(framecast.load(runs["epva"]), clips, rooms, known=True)
    films(runs, clips)
    gap = over_clips(*more_context(ten, runs["epva"], source))
    at = {k: v["present"][126] for k, v in table.items()}
    return {
        "sentence": "people still there at frame 127: " + ", ".join(f"{k} {100 * v:.0f} %" for k, v in at.items()),
        "training": training,
        "table": {k: {m: thin(v) for m, v in row.items()} for k, row in table.items()},
        "ten_minus_five": gap,
        "film": "hierarchical-walking.webp",
    }


def thin(values: Any) -> Any:
    """A curve at the frames that are quoted."""
    if not isinstance(values, list):
        return values
    return {str(k): values[k - 1] for k in (1, 8, 16, 32, 64, 128) if k <= len(values)} | {str(len(values)): values[-1]}


def empty_rooms(source: Source) -> Tensor:
    """The room without anybody as every camera sees it, (cameras, c, h, w) in 0…1: the median over training films."""
    films: dict[str, list[np.ndarray]] = {}
    for part in source.splits(1)["train"]:
        camera = source.names[part.video].rsplit("-", 1)[1]
        films.setdefault(camera, []).append(
            source.clip(part.video, part.start, (part.stop - part.start) // 8, 8).frames
        )
    return torch.stack([torch.from_numpy(np.median(np.concatenate(v), 0)) for v in films.values()]).float() / 255


def people(model: Predictor | None, clips: Clips, rooms: Tensor, known: bool = False) -> dict[str, list[float]]:
    """By frame: share of clips with a person, anywhere and near the true one, area of what is not room over the true
    person's, IoU of it with the true mask; both of the drawing mask too; PSNR; sharpness over the truth's, of frames
    and of the person they show.

    None repeats the first frame. known: of frames drawn from their own encodings, not of forecasts.
    """
    rows: dict[str, list[Tensor]] = {}
    for batch in batches(clips):
        seen, horizon = batch.context.shape[1], batch.future.shape[1]
        truth, masks = batch.future, batch.extras["masks"][:, seen : seen + horizon] > 0
        ground = rooms[(batch.context[:, None, 0] - rooms).abs().mean((2, 3, 4)).argmin(1)]
        if model is None:
            made = batch.context[:, :1].expand_as(truth)
        elif known:
            with evaluating(model):
                made = model.reconstruct(torch.cat([batch.context, truth], 1))[:, seen - 1 :]
        else:
            made = rollout(model, batch.context, horizon)[0]
            with evaluating(model):
                drawn = model.masks(batch.context, horizon)[:, :, 0] > 0.5
            rows.setdefault("mask_iou", []).append(iou(drawn, masks))
            rows.setdefault("mask_area", []).append(drawn.sum((-2, -1)) / masks.sum((-2, -1)))
        there, area = foreground(made, ground), masks.sum((-2, -1))
        found = {
            "present": presence(there, masks, near=False),
            "in_place": presence(there, masks),
            "area": there.sum((-2, -1)) / area,
            "iou": iou(there, masks),
            "psnr": psnr(made, truth),
            "sharpness": sharpness_ratio(made, truth),
            "person_sharpness": edges(made, there) / edges(truth, masks),
        }
        for name, values in found.items():
            rows.setdefault(name, []).append(values.double())
    return {name: torch.cat(values).double().nanmean(0).tolist() for name, values in rows.items()}


def edges(frames: Tensor, where: Tensor) -> Tensor:
    """Mean step from a pixel to those below and beside it, in an area (b, t, h, w): (b, t), not-a-number if empty."""
    down, right = frames.diff(dim=-2).abs(), frames.diff(dim=-1).abs()
    steps = (F.pad(down, (0, 0, 0, 1)) + F.pad(right, (0, 1))).mean(2)
    return (steps * where).sum((-2, -1)) / where.sum((-2, -1))


def more_context(more: Path, fewer: Path, source: Source) -> tuple[Tensor, list[str]]:
    """PSNR (clips, horizon) of a forecast from more frames of context minus that of the same frames from fewer; and the
    take of each clip, which two cameras filmed."""
    opened, other = open_run(more), framecast.load(fewer)
    model, rows = opened.model(), []
    clips = held(opened, model, source, "test", 122, 24)
    for batch in batches(clips):
        made = [rollout(m, batch.context[:, -m.num_context :], 122)[0] for m in (model, other)]
        rows.append(psnr(made[0], batch.future) - psnr(made[1], batch.future))
    return torch.cat(rows), clips.groups


class SecondEncoder(torch.nn.Module):
    """An encoder that was not trained on the data, with as many outputs: frozen convolutions and a random projection.

    The paper compares with VGG-16, whose weights are not part of the package: the environment variable VGG names a file
    of them. Without it the convolutions are those of the model at initial values.
    """

    def __init__(self, model: Predictor, weights: Path | None = None) -> None:
        super().__init__()
        config, generator = model.config, torch.Generator().manual_seed(0)
        weights = weights or (Path(os.environ["VGG"]) if "VGG" in os.environ else None)
        widths = config.encoder_widths if weights is None else VGG16
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = Encoder(1, config.size, 3, widths, "torchvision").trunk
        if weights is not None:
            load_imagenet(self.trunk, weights)
        features = widths[-1][-1] * (config.size // 2 ** len(widths)) ** 2
        self.register_buffer("out", torch.randn(features, config.encoding_size, generator=generator))

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(n, E) of frames (n, 3, h, w) in 0…1."""
        projected: Tensor = self.trunk(frames).flatten(1) @ self.get_buffer("out")
        return projected


def joints(model: Predictor, source: Source, opened: Any) -> dict[str, float]:
    """Error of 2-D joints (in half frames) read off true encodings by a small network; beside one that reads the output
    of a second encoder, as many fixed random projections of the frame's pixels, and the mean joint."""
    sets, second = {}, SecondEncoder(model)
    for split, count in (("train", 96), ("test", 32)):
        clips = held(opened, model, source, split, 27, count)
        clips.loader.request = dataclasses.replace(clips.loader.request, extras=("joints", "visibility"))
        rows = []
        for batch in batches(clips):
            frames = torch.cat([batch.context, batch.future], 1)
            with torch.no_grad(), evaluating(model):
                rows.append((model.encode(frames), frames, batch.extras["joints"], batch.extras["visibility"]))
        latents, frames, places, visible = (torch.cat(x).flatten(0, 1) for x in zip(*rows, strict=True))
        other = torch.cat([second(part) for part in frames.split(64)])
        generator = torch.Generator().manual_seed(0)
        pixels = frames.flatten(1) @ torch.randn(frames[0].numel(), latents.shape[1], generator=generator)
        shown = (visible > 0).repeat_interleave(2, -1)
        inputs = {"encodings": latents.float(), "second encoder": other, "random projection": pixels}
        sets[split] = (inputs, places.flatten(1).float(), shown)
    fit = functools.partial(probe, steps=1500)
    (inputs, places, _), (held_inputs, held_places, shown) = sets["train"], sets["test"]
    return {
        **{k: fit(inputs[k], places, held_inputs[k], held_places, shown) for k in inputs},
        "mean joint": float((held_places - places.mean(0)).abs()[shown].mean()),
    }


def films(runs: Mapping[str, Path], clips: Clips) -> None:
    """The first clip under every mode."""
    batch = next(batches(clips)).rows([0])
    rows = {
        mode: rollout(framecast.load(run), batch.context, batch.future.shape[1])[0, 0] for mode, run in runs.items()
    }
    rows["first frame"] = batch.context[0, :1].expand_as(batch.future[0])
    write_film({"truth": batch.future[0], **rows}, RESULTS / "hierarchical-walking.webp", 6.25)


if __name__ == "__main__":
    main()
