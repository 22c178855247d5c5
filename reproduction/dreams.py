"""The runs behind docs/results/dreams.md: train, dream, measure; figures into docs/results/dreams.json.

    python -m reproduction.dreams                   all parts, one after another; finished ones are kept
    python -m reproduction.dreams --only ball       one part: ball, crossroads, ms_pacman, maze, windows
    python -m reproduction.dreams --clip FILE       a natural clip of your own; its films stay with the run
    python -m reproduction.dreams --again           run finished ones again

A run that was stopped resumes; one that is there is measured, not trained again. Dreams are drawn with fixed seeds.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.types import Batch
from framecast.data.base import Source
from framecast.data.cache import open_data
from framecast.data.loader import Loader
from framecast.inference.latents.statistics import dream_norms
from framecast.media.grid import grid, side_by_side
from framecast.media.images import write_image
from framecast.media.write import write_video
from framecast.metrics.frames import sharpness
from framecast.models.dreams.predictor import Dreams
from framecast.models.rollout import rollout
from reproduction.dream_metrics import change, histogram_distance, spot, turns
from reproduction.dreams_maze import maze
from reproduction.dreams_page import page
from reproduction.dreams_training import Trained
from reproduction.dreams_windows import windows
from reproduction.find_ms_pacman import FAR, HELD, NEAR, console_place, fitted_finder, frames_of, replayed
from reproduction.results import RESULTS, WORK, Results, arguments, made, relative, slug

DREAMS, LENGTH = 8, 300
#: Temperatures of which a video without known truth is given one, by its validation frames.
OFFERED = (0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Run the parts asked for."""
    parts = {"ball": ball, "crossroads": crossroads, "ms_pacman": ms_pacman, "maze": maze, "windows": windows}
    options = arguments(__doc__, list(parts), clip="train and measure on this video instead").parse_args()
    torch.manual_seed(0)
    Results("dreams", page).parts({**parts, "clip": lambda: clip(options.clip)}, options)


# ------------------------------------------------------------------------------------------------ what all parts do


def dreams(model: Dreams, context: Tensor, length: int, actions: Tensor | None = None, samples: int = DREAMS) -> Tensor:
    """Futures of one context (t, c, h, w): (samples, length, c, h, w)."""
    led = None if actions is None else actions[None]
    generator = torch.Generator().manual_seed(0)
    return rollout(model, context[None], length, led, samples, generator)[:, 0]


def movement(dreamt: Tensor, real: Tensor) -> float:
    """Frame-to-frame change of dreams over that of data, after 20 frames."""
    return float(change(dreamt[:, 20:]).mean() / change(real))


def at(model: Dreams, temperature: float) -> Dreams:
    """The same model, its weights shared, drawing at one temperature of mixture and sigma."""
    other = copy.copy(model)
    other.config = replace(model.config, weight_temperature=temperature, sigma_temperature=temperature)
    return other


def repeated(actions: Tensor | None, count: int) -> Tensor | None:
    """What was really done, over and over, (count, a)."""
    return None if actions is None else actions.repeat(-(-count // len(actions)), 1)[:count]


def settled(trained: Trained) -> dict[str, float]:
    """The temperature at which dreams move most as the data do, by validation frames alone; their movement there."""
    real, actions = trained.frames("val")
    t = trained.model.config.context
    led = repeated(actions, t + LENGTH - 1)
    moves = {}
    for tau in OFFERED:
        moves[tau] = movement(dreams(at(trained.model, tau), real[:t], LENGTH, led, samples=4), real)
    chosen = min(OFFERED, key=lambda tau: abs(math.log(max(moves[tau], 1e-9))))
    return {"temperature": chosen, "on_validation": moves[chosen]}


@torch.no_grad()
def flicker(model: Dreams, real: Tensor) -> dict[str, float]:
    """Change of decoded real frames over that of the frames: from their mean codes, and from draws, which are what the
    memory learns to continue, noise of the posterior and all."""
    found = {k: v[0] for k, v in model.latents(Batch(context=real[None], future=real[None, :0])).items()}
    noise = torch.randn(found["mean"].shape, generator=torch.Generator().manual_seed(0))
    latents = {"means": found["mean"], "draws": found["mean"] + (found["logvar"] / 2).exp() * noise}
    return {name: float(change(model.decode(z[None])[0]) / change(real)) for name, z in latents.items()}


def long(frames: Tensor, real: Tensor) -> dict[str, dict[str, float]]:
    """Sharpness and colours of the 20 frames before 100, 300 and 1,000, beside real ones."""
    found = {}
    for step in (100, 300, 1000):
        if step <= len(frames):
            last = frames[step - 20 : step]
            found[str(step)] = {
                "sharpness_ratio": float(sharpness(last).mean() / sharpness(real).mean()),
                "histogram_distance": histogram_distance(last, real),
                "change": float(change(last) / change(real)),
            }
    parts = real[: len(real) // 2], real[len(real) // 2 :]
    found["real"] = {
        "sharpness_ratio": float(sharpness(parts[1]).mean() / sharpness(parts[0]).mean()),
        "histogram_distance": histogram_distance(*parts),
        "change": float(change(parts[1]) / change(parts[0])),
    }
    return found


def temperatures(model: Dreams, context: Tensor, actions: Tensor | None = None) -> dict[str, float]:
    """Spread of one-step codes, mean over dimensions, at both temperatures alike."""
    found = {}
    t = model.config.context
    for tau in (0.1, 0.5, 1.0, 1.5):
        start = None if actions is None else actions[None, : t - 1]
        carry = model.rollout_init(context[None, :t], start, 500, torch.Generator().manual_seed(0))
        carry["weight_temperature"].fill_(tau)
        carry["sigma_temperature"].fill_(tau)
        action = None if actions is None else actions[t - 1].expand(500, -1)
        found[str(tau)] = float(model.rollout_latent(carry, action)[0]["latents"][:, -1].std(0).mean())
    return found


def norms(model: Dreams, real: Tensor) -> dict[str, float]:
    """Length of a dream's codes over that of the data's, at steps of 300; both drawn, noise and all."""
    with torch.no_grad():
        found = model.latents(Batch(context=real[None], future=real[None, :0]))
    data = float((found["mean"].square() + found["logvar"].exp()).sum(-1).sqrt().mean())
    t = model.config.context
    starts = torch.stack([real[i : i + t] for i in np.linspace(0, len(real) - t, DREAMS).astype(int)])
    return {str(step): length / data for step, length, _ in dream_norms(model, starts, (1, 10, 100, 300))}


def film(rows: dict[str, Tensor], name: str, folder: Path = RESULTS, fps: float = 24.0) -> str:
    """Films side by side, and ten frames of each, evenly spread, as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = {k: (v.clamp(0, 1) * 255).round().to(torch.uint8).numpy() for k, v in rows.items()}
    write_video(side_by_side(shown, least=128), folder / f"{name}.webp", fps)
    at = np.linspace(0, min(len(v) for v in shown.values()) - 1, 10).round().astype(int)
    lines = {k: v[at] for k, v in shown.items()}
    write_image(grid(lines, captions=[str(i + 1) for i in at], least=96), folder / f"{name}.png")
    return f"{name}.webp"


def reconstruction(trained: Trained, real: Tensor) -> dict[str, float]:
    """Squared error a frame (summed, 0…1) and PSNR of held-out frames decoded from their mean codes."""
    decoded = trained.model.decode(trained.model.encode(real[None]))[0]
    error = (decoded - real).square().sum((1, 2, 3)).mean()
    return {"squared_error": float(error), "psnr": float(-10 * torch.log10(error / real[0].numel()))}


def measured(name: str, data: str, kind: str, still: bool = True) -> dict[str, Any]:
    """A video without known truth: reconstruction, movement (also at the temperature settled on validation frames),
    temperature, code lengths, a dream of 1,000 frames."""
    trained = Trained(name, data, kind)
    model, (real, actions) = trained.model, trained.frames("test")
    t = model.config.context
    led = repeated(actions, t + 999)
    chosen = settled(trained)
    calm = at(model, chosen["temperature"])
    calmer = dreams(calm, real[:t], LENGTH, None if led is None else led[: t + LENGTH - 1], samples=2)
    whole = dreams(model, real[:t], 1000, led, samples=2)
    found = {
        **trained.facts,
        "reconstruction": reconstruction(trained, real),
        "movement": {"mdn": movement(whole[:, :LENGTH], real)},
        "settled": {**chosen, "movement": movement(calmer, real)},
        "flicker": flicker(model, real),
        "temperature": temperatures(model, real, actions),
        "long": long(whole[0], real),
    }
    if actions is None:
        found["norms"] = norms(model, real)
    place = RESULTS if still else trained.run.folder / "films"
    count = min(len(real), 96)
    decoded = model.decode(model.encode(real[None, :count]))[0]
    rows = {"original": real[t:count], "decoded": decoded[t:], model.config.head: whole[0, : count - t]}
    if chosen["temperature"] != 1:
        rows[f"{model.config.head} at {chosen['temperature']:g}"] = calmer[0, : count - t]
    for head in model.config.compare:
        own = model.using(head)
        other = dreams(own, real[:t], LENGTH, None if led is None else led[: t + LENGTH - 1], samples=2)
        found["movement"][head] = movement(other, real)
        rows[head] = other[0, : count - t]
    found["film"] = film(rows, f"dreams-{name}", place, trained.run.config.spec.fps)
    if not still:
        found.pop("film")
    sentence = (
        f"reconstruction {found['reconstruction']['psnr']:.1f} dB; the dream moves {found['movement']['mdn']:.2f}"
        " times as much as the data"
    )
    if chosen["temperature"] != 1:
        sentence += f", {found['settled']['movement']:.2f} times at temperature {chosen['temperature']:g}"
        sentence += ", which validation frames settled"
    return {**found, "sentence": sentence}


# ------------------------------------------------------------------------------------------------------------ parts


def ball() -> dict[str, Any]:
    """The published toy: is the disc there, does it go 2 px a frame to and fro, with and without a mixture."""
    trained = Trained("ball", "ball", "ball")
    model, (real, _) = trained.model, trained.frames("test")
    t = model.config.context
    truth = spot(real)
    decoded = spot(model.decode(model.encode(real[None]))[0])
    inner = (truth.centre[:, 0] >= 10) & (truth.centre[:, 0] <= 54) & (truth.area == 317)
    off = (decoded.centre - truth.centre).norm(dim=-1)[inner]
    found: dict[str, Any] = {
        **trained.facts,
        "reconstruction": reconstruction(trained, real),
        "blank": float(real.square().sum((1, 2, 3)).mean()),
        "centre_within_1px": float((off <= 1).double().mean()),
        "temperature": temperatures(model, real),
        "norms": norms(model, real),
        "heads": {},
        "long": {},
    }
    rows = {"truth": real[t:]}
    for head in (model.config.head, *model.config.compare):
        own = model.using(head)
        whole = dreams(own, real[:t], 1000)
        found["heads"][head] = _ball_row(whole[:, :LENGTH], real)
        found["long"][head] = long(whole[0], real)
        rows[head] = whole[0, : len(real) - t]
    found["film"] = film(rows, "dreams-ball")
    row = found["heads"]["mdn"]
    found["sentence"] = (
        f"disc present in {row['present']:.1%} of {DREAMS} dreams of {LENGTH} frames, {row['step']:.2f} px a frame, "
        f"{row['turns']:.1f} turns (true 8.8); movement over the data's: mdn {row['movement']:.2f}, "
        f"linear {found['heads']['linear']['movement']:.2f}, "
        f"softmax-mse {found['heads']['softmax-mse']['movement']:.3f}"
    )
    return found


def _ball_row(dreamt: Tensor, real: Tensor) -> dict[str, float]:
    least = 0.5 * float(spot(real).area.min())
    seen = spot(dreamt)
    x = seen.centre[..., 0]
    step = (x[:, 1:] - x[:, :-1]).abs()
    back = [(x[i, 1:] - x[i, :-1]) for i in range(len(x))]
    return {
        "present": float((seen.area >= least).double().mean()),
        "step": float(step[torch.isfinite(step)].median()) if torch.isfinite(step).any() else 0.0,
        "turns": float(np.mean([turns(row) for row in x])),
        "fewest_turns": float(min(turns(row) for row in x)),
        "both_directions": float(np.mean([bool((b > 1).any() and (b < -1).any()) for b in back])),
        "movement": movement(dreamt, real),
    }


def crossroads() -> dict[str, Any]:
    """Two futures: how often each is dreamt, and what squared error makes of them."""
    trained = Trained("crossroads", "crossroads", "crossroads")
    model, t = trained.model, trained.model.config.context
    segments = trained.source.splits(t + 1)["test"]
    clip = trained.source.clip(segments[0].video, 0, 37)
    turned = int(np.argmax(clip.arrays["turned"]))  # the first frame off the middle
    context = torch.tensor(clip.frames[turned - t : turned]).float() / 255
    ways = {
        int(turn): torch.tensor(found.frames[turned : turned + 12]).float() / 255
        for turn, found in _both_ways(trained.source)
    }
    mean = (ways[-1] + ways[1]) / 2
    real, _ = trained.frames("test", 148)
    nll = {head: _held_out_nll(trained, head) for head in ("mdn", "gaussian")}
    found: dict[str, Any] = {
        **trained.facts,
        "reconstruction": reconstruction(trained, real),
        "nll": nll,
        "temperature": temperatures(model, context),
        "norms": norms(model, real),
        "mean_code": {},
        "heads": {},
    }
    latents = {turn: model.encode(frames[None, :1])[0, 0] for turn, frames in ways.items()}
    rows = {"left": ways[-1], "right": ways[1], "mean": mean}
    for head in (model.config.head, *model.config.compare):
        own = model.using(head)
        found["mean_code"][head] = _off_mean_code(own, context, latents)
        futures = dreams(own, context, 12, samples=200 if own.stochastic else 1)
        seen = spot(futures, 0.3)
        x = seen.centre[:, 7:, 0].nanmean(1)
        left, right = float((x < 26).double().mean()), float((x > 38).double().mean())
        longer = dreams(own, context, LENGTH, samples=DREAMS if own.stochastic else 1)
        found["heads"][head] = {
            "left": left,
            "right": right,
            "neither": 1 - left - right,
            "movement": movement(longer, real),
            # against the pixel mean of both ways: 0 is the mean itself, 1 as far off as black
            "off_mean@1": float((futures[:, 0] - mean[0]).norm() / mean[0].norm() / math.sqrt(len(futures))),
            "off_mean@4": float((futures[:, 3] - mean[3]).norm() / mean[3].norm() / math.sqrt(len(futures))),
            "off_mean@8": float((futures[:, 7] - mean[7]).norm() / mean[7].norm() / math.sqrt(len(futures))),
            "area@8": float(seen.area[:, 7].double().mean() / spot(ways[1][7:8], 0.3).area[0]),
        }
        rows[f"{head} 1"] = futures[0]
        if own.stochastic:
            rows[f"{head} 2"] = next(
                (f for f, a in zip(futures, x, strict=True) if (a - 32) * (x[0] - 32) < 0), futures[1]
            )
    found["film"] = film(rows, "dreams-crossroads", fps=6.0)
    row = found["heads"]["mdn"]
    found["sentence"] = (
        f"of 200 dreams {row['left']:.0%} turn left, {row['right']:.0%} right, {row['neither']:.0%} neither; "
        f"held-out likelihood {nll['mdn']:.2f} nats a code with ten Gaussians, {nll['gaussian']:.2f} with one"
    )
    return found


def _off_mean_code(model: Dreams, context: Tensor, latents: dict[int, Tensor]) -> float:
    """How far the first code imagined at the crossing, on average over draws, is from the mean of both ways' codes: in
    halves of the distance between these two, so that 1 is as far as either way itself."""
    carry = model.rollout_init(context[None], None, 2000 if model.stochastic else 1, torch.Generator().manual_seed(0))
    imagined = model.rollout_latent(carry)[0]["latents"][:, -1].mean(0)
    middle = (latents[-1] + latents[1]) / 2
    return float((imagined - middle).norm() / (latents[1] - middle).norm())


def _both_ways(source: Source) -> Any:
    for wanted in (-1, 1):
        for video in range(len(source)):
            clip = source.clip(video, 0, 37)
            if clip.arrays["turn"][0] == wanted:
                yield wanted, clip
                break


def _held_out_nll(trained: Trained, head: Any) -> float:
    model = trained.model.using(head)
    request = model.request(model.config)
    loader = Loader(trained.source, trained.source.splits(request.source_length)["test"], request, 64)
    with torch.no_grad():
        torch.manual_seed(0)
        return float(np.mean([float(model.memory_loss(loader.batch(i).to("cpu")).total) for i in range(16)]))


def clip(path: Path) -> dict[str, Any]:
    """A natural clip, whose films stay with the run."""
    return measured(f"clip-{slug(path.stem)}", str(path), "clip", still=False)


def ms_pacman() -> dict[str, Any]:
    """A game with actions: a long dream under the player's own actions, and whether she moves as directed."""
    words = ("--game", "ms_pacman", "--episodes", "48", "--max-frames", "250", "--frame-skip", "4")
    data = made(WORK / "data" / "ms_pacman-held", "atari", *words)
    found = measured("ms_pacman", relative(data), "ms_pacman")
    trained = Trained("ms_pacman", relative(data), "ms_pacman")
    found["steering"] = steering(trained)
    row = found["steering"]
    text = f"held left or right moves her so within {HELD} frames in {row['obeyed']:.0%} of {row['starts']} starts"
    real = f"the game itself: {row['real']:.0%}; she is seen in {row['seen']:.0%}"
    return {**found, "sentence": f"{found['sentence']}; {text} ({real})"}


def steering(trained: Trained, starts: int = 50) -> dict[str, Any]:
    """Held left and held right for 10 frames from held-out starts, in the dream and in the game itself: where
    Ms. Pac-Man is then. She cannot always go: walls are in the way of the real one too.

    Each share is over starts and both directions. obeyed: she moved as directed.  real: of the game itself.
    followed: of those the game obeys, those the dream obeys too.  place: she is where the game has her.  apart: starts
    where held right ends right of held left.  seen, decoded: she is to be seen at the end of the dream, in the decoded
    last real frame (and where she is).  finder: real held-out frames in which she is found where she is.
    """
    model, spec = trained.model, trained.run.config.spec
    assert spec.actions is not None
    console = open_data(replace(trained.run.config.data, size=None))[0]
    t, names = model.config.context, spec.actions.names
    request = model.request(model.config)
    loader = Loader(trained.source, trained.source.splits(request.source_length)["test"], request, 1)
    places = loader.windows.fixed(starts)
    batch = loader.gather(places).to("cpu")
    assert batch.actions is not None
    finder = fitted_finder(trained.source, console, t)
    last = [(video, first + t - 1) for video, first in places]
    before = console_place(torch.cat([frames_of(console, video, [frame]) for video, frame in last]))
    moves = [names.index(name) for name in ("LEFT", "RIGHT")]
    real = torch.stack([replayed(console, video, frame, moves) for video, frame in last], 1)
    dreamt = []
    for move in moves:
        held = torch.zeros(batch.size, HELD, spec.actions.size)
        held[..., move] = 1
        led = torch.cat([batch.actions[:, : t - 1], held], 1)
        future = rollout(model, batch.context, HELD, led, generator=torch.Generator().manual_seed(0))[0]
        dreamt.append(finder(future[:, -1]))
    ours = torch.stack(dreamt)
    direction = torch.tensor([-1.0, 1.0])[:, None]
    obeyed, obeys = ((ends[..., 0] - before[:, 0]) * direction > FAR for ends in (ours, real))
    decoded = finder(model.decode(model.encode(batch.context))[:, -1])

    def share(truth: Tensor) -> float:
        return float(truth.double().mean())

    return {
        "starts": batch.size,
        "obeyed": share(obeyed),
        "real": share(obeys),
        "followed": share(obeyed[obeys]),
        "place": share((ours - real).norm(dim=-1) <= NEAR),
        "apart": share(ours[1, :, 0] > ours[0, :, 0] + FAR),
        "real_apart": share(real[1, :, 0] > real[0, :, 0] + FAR),
        "seen": share(ours[..., 0].isfinite()),
        "decoded": share((decoded - before).norm(dim=-1) <= NEAR),
        "finder": share((finder(batch.context[:, -1]) - before).norm(dim=-1) <= NEAR),
    }


if __name__ == "__main__":
    main()
