"""Motion latents: samples of the next frame, transfer of motion to other images, and active dimensions.

Works on any `MotionLatentModel` (`models/base.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.io import write_json
from framecast.inference.latents.io import LatentResult, as_floats, clips, latent_model, out_folder
from framecast.media.grid import as_rgb, enlarge, grid
from framecast.media.images import to_uint8, write_image
from framecast.media.write import write_video
from framecast.models.latent import MotionLatentModel
from framecast.training.run_folder import Run

if TYPE_CHECKING:
    from framecast.models.base import Predictor

#: Samples between the first frame and the true second one, as in the published grids.
SAMPLES = 6
#: Smallest mean KL divergence of an active latent dimension, nats.
ACTIVE = 0.01
#: Largest number of dominant dimensions listed, in order of their KL divergence.
DOMINANT = 16
_CELL = 128  # px; smaller frames are enlarged to it in grids


def motion_coder(run: Run, device: str = "cpu") -> Predictor:
    """The run's model, a `MotionLatentModel`.

    Raises:
        UserError: the latents of the model do not represent motion.
    """
    model = latent_model(run, device)
    if not isinstance(model, MotionLatentModel):
        raise UserError(
            f"{run.label}: latents of {run.config.name} do not represent motion; use a run of visual-dynamics"
        )
    return model


# ------------------------------------------------------------------------------------------------------------- sample


@torch.no_grad()
def sample(
    run: Run,
    source: str | Path | None = None,
    *,
    prior: str | None = None,
    pictures: int = 8,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "cpu",
) -> LatentResult:
    """Samples of the next frame for each of several images.

    Writes sample.png (one row per image: first frame, six samples, and the true second frame where there is one) and
    sample.gif (alternates between the first frames and that grid, 0.5 s each). With prior "posterior" the files are
    named sample-posterior.

    Args:
        run: trained run of a `MotionLatentModel`.
        source: input clips, see `io.clips`.
        prior: "normal" or "posterior"; None uses the model's configuration.
        pictures: largest number of rows.
        seed: random seed for clip selection and sampling.
        out: output folder, see `io.out_folder`.
        device: torch device.

    Raises:
        UserError: posteriors are requested but none are stored.
    """
    model: Any = motion_coder(run, device)
    taken = clips(run, source, pictures, seed)
    frames = as_floats(model, taken)
    generator = torch.Generator(frames.device).manual_seed(seed)
    first = frames[:, :1]
    drawn = []
    for _ in range(SAMPLES):
        z = model.draw(len(frames), prior, generator)
        drawn.append(model.decode(z[:, None], first)[:, 0])
    moves = bool((taken[:, 0] != taken[:, 1]).any()) if taken.shape[1] > 1 else False
    columns = [first[:, 0], *drawn, *([frames[:, 1]] if moves else [])]
    after = tiled(columns)
    before = tiled([first[:, 0]] * len(columns))
    folder, name = out_folder(run, out), "sample-posterior" if prior == "posterior" else "sample"
    files = {
        "grid": write_image(after, folder / f"{name}.png"),
        "film": write_video(np.stack([before, after]), folder / f"{name}.gif", 2.0),
    }
    spread = torch.stack(drawn).std(0, correction=0).mean()
    facts = {"prior": prior or str(model.config.prior), "pictures": len(frames), "spread": round(float(spread), 6)}
    return LatentResult(files, facts)


def tiled(columns: Sequence[Tensor]) -> np.ndarray:
    """Image of columns of frames without gaps, uint8 (3, H, W); small frames are enlarged.

    Args:
        columns: frames (n, c, h, w) in 0…1 of each column.
    """
    cells = [enlarge(as_rgb(column.cpu()), _CELL) for column in columns]
    return np.concatenate([np.concatenate(list(cell), axis=1) for cell in cells], axis=2)


# ----------------------------------------------------------------------------------------------------------- transfer


@torch.no_grad()
def transfer(
    run: Run,
    source: str | Path | None = None,
    onto: str | Path | None = None,
    *,
    pictures: int = 8,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "cpu",
) -> LatentResult:
    """Motion of one pair of frames applied to other images.

    Writes transfer.png (one row per image: the pair, the image, the moved image) and transfer.gif (pair and image
    move, 1 s each).

    Args:
        run: trained run of a `MotionLatentModel`.
        source: input clips, see `io.clips`; the first clip is the pair.
        onto: images to move; None uses the other clips of `source`.
        pictures: largest number of rows.
        seed: random seed for clip selection.
        out: output folder, see `io.out_folder`.
        device: torch device.

    Raises:
        UserError: there is no image to move.
    """
    model: Any = motion_coder(run, device)
    taken = as_floats(model, clips(run, source, pictures + 1, seed))
    targets = taken[1:] if onto is None else as_floats(model, clips(run, onto, pictures, seed))
    if not len(targets):
        raise UserError(f"--input {source}: got one clip, expected at least one further image to move; use --onto")
    pair, still = taken[:1].expand(len(targets), -1, -1, -1, -1), targets[:, 0]
    moved = model.decode(model.encode(pair[:, :2]), still[:, None])[:, 0]
    folder = out_folder(run, out)
    videos = [tiled([pair[:, 0], still]), tiled([pair[:, 1], moved])]
    files = {
        "grid": write_image(tiled([pair[:, 0], pair[:, 1], still, moved]), folder / "transfer.png"),
        "film": write_video(np.stack(videos), folder / "transfer.gif", 1.0),
    }
    return LatentResult(files, {"pictures": len(targets)})


# --------------------------------------------------------------------------------------------------------------- dims


@torch.no_grad()
def dims(
    run: Run,
    source: str | Path | None = None,
    *,
    count: int = 256,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "cpu",
) -> LatentResult:
    """KL divergence of every latent dimension, and feature maps and kernels of the first clip.

    Writes dims.json (for every dimension the mean KL divergence from N(0, 1) in nats, and the smallest and largest mean
    and log-variance), dims.png (bars of the same for the dominant dimensions), and one page of feature maps and one of
    kernels for each scale, finest first.

    Args:
        run: trained run of a `MotionLatentModel`.
        source: input clips, see `io.clips`.
        count: largest number of clips.
        seed: random seed for clip selection.
        out: output folder, see `io.out_folder`.
        device: torch device.
    """
    model: Any = motion_coder(run, device)
    frames = as_floats(model, clips(run, source, count, seed))
    parts = [model.posterior(some) for some in torch.split(frames, 32)]
    mean, logvar = (torch.cat([part[i].flatten(0, 1) for part in parts]).cpu() for i in (0, 1))
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean(0)
    order = [int(i) for i in kl.argsort(descending=True, stable=True)]
    facts: dict[str, Any] = {
        "clips": len(frames),
        "size": len(kl),
        "kl": round(float(kl.sum()), 4),
        "active": int((kl > ACTIVE).sum()),
        "dominant": order[:DOMINANT],
    }
    table = {
        "kl": kl,
        "mean_low": mean.amin(0),
        "mean_high": mean.amax(0),
        "logvar_low": logvar.amin(0),
        "logvar_high": logvar.amax(0),
    }
    folder = out_folder(run, out)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {name: [round(float(v), 5) for v in values] for name, values in table.items()}
    write_json(folder / "dims.json", {**facts, "by_number": numbers})
    files = {"table": folder / "dims.json", "bars": _bars(numbers, facts["dominant"], folder / "dims.png")}
    for k, (maps, kernels) in enumerate(
        zip(model.features(frames[:1, 0]), model.kernels(mean[:1].to(frames.device)), strict=True)
    ):
        files[f"features {k}"] = write_image(_page(maps[0]), folder / f"features-{k}.png")
        files[f"kernels {k}"] = write_image(_page(kernels[0]), folder / f"kernels-{k}.png")
    summary = f"{facts['active']} of {facts['size']} dimensions above {ACTIVE:g} nats, {facts['kl']:.1f} nats in total"
    return LatentResult(files, facts, (summary,))


def _page(maps: Tensor, columns: int = 8) -> np.ndarray:
    """Maps (n, h, w) as a page of grey images, each stretched to its own range."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    grey = to_uint8(((maps - low) / (high - low).clamp(min=1e-12)).float())[:, None]
    return grid([grey[i : i + columns] for i in range(0, len(grey), columns)])


def _bars(numbers: Mapping[str, Sequence[float]], shown: Sequence[int], path: Path) -> Path:
    """KL divergence and ranges of the dominant dimensions, as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    at = np.arange(len(shown))
    top.bar(at, [numbers["kl"][i] for i in shown])
    top.set_ylabel("KL, nats")
    for axes, name, label in ((middle, "mean", "means"), (bottom, "logvar", "log-variances")):
        low, high = (np.array([numbers[f"{name}_{end}"][i] for i in shown]) for end in ("low", "high"))
        axes.bar(at, high - low, bottom=low)
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set_ylabel(f"{label}, range")
    bottom.set_xticks(at, [str(i) for i in shown])
    bottom.set_xlabel("latent dimension")
    figure.savefig(path, dpi=100)
    return path
