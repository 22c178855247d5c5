"""The long runs behind docs/results: train, score, film; figures into docs/results/multiscale-gan.json.

    python -m reproduction.multiscale_gan                       all parts, one after another; finished ones are kept
    python -m reproduction.multiscale_gan --only games          one part: games, claims, kills, phone
    python -m reproduction.multiscale_gan --clip FILE           a natural clip of your own: last 20 % held out
    python -m reproduction.multiscale_gan --again               run finished ones again

Each result holds its figures, protocol, command, seed, versions and hardware. A run that was stopped resumes.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.scorer import KeptClip
from framecast.media.write import write_video
from framecast.metrics.scores import Scores
from framecast.training.log import read_metrics
from reproduction.multiscale_gan_page import page
from reproduction.results import (
    LOSSES,
    RESULTS,
    ROOT,
    WORK,
    Results,
    arguments,
    command,
    length,
    made,
    record,
    relative,
    slug,
    write_film,
)


def main() -> None:
    """Run the parts asked for."""
    parser = arguments(__doc__, ["games", "claims", "kills", "phone"], clip="train and score on this video instead")
    parser.add_argument("--steps", type=int, default=20_000, help="training steps of games and clips")
    parser.add_argument("--claim-steps", type=int, default=1_200, help="training steps of each claim's run")
    parser.add_argument("--seeds", type=int, default=3, help="runs per loss in claims")
    options, part = parser.parse_args(), MULTISCALE_GAN.part
    if options.clip:
        part(f"clip-{slug(options.clip.stem)}", lambda: clip(options.clip, options.steps), options.again)
        return
    wanted = [options.only] if options.only else ["games", "claims", "kills", "phone"]
    if "games" in wanted:
        part("ms_pacman", lambda: game("ms_pacman", 4, options.steps), options.again)
        part("ms_pacman-skip1", lambda: game("ms_pacman", 1, options.steps), options.again)
        part("space_invaders", lambda: game("space_invaders", 4, options.steps), options.again)
        # nobody looked at this one while the profiles were made
        part("other-game", lambda: game("asterix", 4, options.steps), options.again)
    if "claims" in wanted:
        for name in LOSSES:
            for seed in range(options.seeds):
                part(
                    f"claim-{slug(name)}-{seed}", lambda n=name, s=seed: claim(n, s, options.claim_steps), options.again
                )
        part("claims", lambda: compare_claims(options.seeds), True)
    if "kills" in wanted:
        part("kills", lambda: kills(20), options.again)
    if "phone" in wanted:
        part("phone", phone, options.again)


MULTISCALE_GAN = Results("multiscale-gan", lambda done: page(done, RESULTS))


# ------------------------------------------------------------------------------------------------------------ parts


def game(name: str, skip: int, steps: int, clips: int = 25, horizon: int = 64) -> dict[str, Any]:
    """A game recorded, `small` without adversary trained on it, scored on held-out episodes over `horizon` frames."""
    data, run = record(name, skip), WORK / f"{name}-skip{skip}"
    train = command(
        *("train", "multiscale-gan", "--profile", "small", "--data", relative(data), "--out", relative(run)),
        *("--steps", str(steps), "--model.no-adversarial", "--optim.decay-steps", str(steps)),
    )
    return scored(run, train, f"{name}-skip{skip}", clips=clips, horizon=horizon)


def clip(path: Path, steps: int) -> dict[str, Any]:
    """The same for a natural clip, cut in time; the horizon is what its held-out part allows."""
    run = WORK / f"clip-{slug(path.stem)}"
    train = command(
        *("train", "multiscale-gan", "--profile", "natural", "--data", str(path), "--out", relative(run)),
        *("--steps", str(steps), "--optim.decay-steps", str(steps)),
    )
    # the films stay in the run's folder: a natural clip is somebody's
    return scored(run, train.replace(str(path), path.name), f"clip-{slug(path.stem)}", clips=32, films=run)


def scored(
    run: Path, train: str, name: str, clips: int, films: Path = RESULTS, horizon: int | None = None
) -> dict[str, Any]:
    """Scores, films and pictures of a finished run."""
    scores, kept = evaluate(run, clips=clips, horizon=horizon)
    film(kept, films / f"{name}.webp", scores.protocol.fps)
    gain = scores.versus[scores.main]["moving_psnr"]
    config = json.loads((run / "config.json").read_text())
    return {
        "sentence": f"moving area at frame 1: {gain.mean[0]:+.2f} dB to copy-last "
        + _between(gain.low[0], gain.high[0]),
        "command": train,
        "seed": config["train"]["seed"],
        "film": f"{name}.webp",
        **length(read_metrics(run)),
        "scores": scores.to_json(),
    }


def _between(low: float | None, high: float | None) -> str:
    return "(one clip, no interval)" if low is None or high is None else f"({low:.2f} to {high:.2f})"


def film(kept: list[KeptClip], path: Path, fps: float) -> None:
    """The median clip, truth beside prediction beside copy-last, and a strip of its frames as PNG."""
    shown = next((c for c in kept if c.role == "median"), kept[0])
    main = next(iter(shown.predictions))
    rows = {"truth": shown.truth, "prediction": shown.predictions[main], "copy-last": shown.predictions["copy-last"]}
    write_film(rows, path, fps)


def claim(loss: str, seed: int, steps: int) -> dict[str, Any]:
    """One loss and seed of the published comparison: the same data, networks and number of steps for all."""
    data, run = record("ms_pacman", 4), WORK / f"claim-{slug(loss)}-{seed}"
    train = command(
        *("train", "multiscale-gan", "--profile", "small", "--data", relative(data), "--out", relative(run)),
        *("--steps", str(steps), "--optim.decay-steps", str(steps), "--seed", str(seed), *LOSSES[loss]),
    )
    return scored(run, train, f"claim-{slug(loss)}-{seed}", clips=5, films=run)


def compare_claims(seeds: int) -> dict[str, Any]:
    """Mean over seeds, with the spread between them, of what the publications claim."""
    done = MULTISCALE_GAN.load()["results"]
    table: dict[str, Any] = {}
    for name in LOSSES:
        runs = [Scores.from_json(done[f"claim-{slug(name)}-{s}"]["scores"]) for s in range(seeds)]
        row: dict[str, Any] = {}
        for metric in ("sharpness_ratio", "psnr", "moving_psnr", "sharp_diff"):
            for frame in (1, 16, 32, 64):
                values = [r.predictors[r.main][metric].mean[frame - 1] for r in runs]
                row[f"{metric}@{frame}"] = {
                    "runs": values,
                    "mean": float(np.mean(values)),
                    "sd": float(np.std(values, ddof=1)),
                }
        table[name] = row
    plain, judged = table["l1+gdl"], table["adversarial+gdl"]
    sharp = judged["sharpness_ratio@64"]["mean"] - plain["sharpness_ratio@64"]["mean"]
    level = judged["psnr@64"]["mean"] - plain["psnr@64"]["mean"]
    return {
        "sentence": f"adversarial against l1+GDL at frame 64: sharpness ratio {sharp:+.3f}, PSNR {level:+.2f} dB",
        "table": table,
        "film": claims_film("claims"),
        "rows": "truth, l1+gdl, adversarial+gdl, copy-last",
    }


def claims_film(name: str) -> str:
    """Truth, l1+GDL and adversarial+GDL (seed 0) on the first test clip, one beneath the other."""
    shown: dict[str, np.ndarray] = {}
    for loss in ("l1+gdl", "adversarial+gdl"):
        scores, kept = evaluate(WORK / f"claim-{slug(loss)}-0", clips=1, save=False)
        shown |= {"truth": kept[0].truth, loss: kept[0].predictions[scores.main]}
    shown["copy-last"] = kept[0].predictions["copy-last"]
    return write_film(shown, RESULTS / f"{name}.webp", scores.protocol.fps)


def kills(count: int) -> dict[str, Any]:
    """A run killed (SIGKILL) at `count` random moments and resumed ends with the weights of the unbroken one."""
    data = made(WORK / "data" / "bouncing", "bouncing", "--videos", "12", "--frames", "40")
    words = ["train", "multiscale-gan", "--profile", "tiny", "--data", relative(data), "--steps", "8000"]
    words += ["--train.save-every", "37", "--train.validate-every", "500", "--quiet"]
    whole, broken = WORK / "kills-whole", WORK / "kills-broken"
    command(*words, "--out", relative(whole), "--overwrite")
    rng, done = random.Random(0), 0
    first = ["--overwrite"]
    while True:
        child = subprocess.Popen(
            [sys.executable, "-m", "framecast", *words, "--out", relative(broken), *first], cwd=ROOT
        )
        first = []
        try:
            code = child.wait(timeout=rng.uniform(3.0, 7.0) if done < count else None)
            break
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            done += 1
    assert code == 0, f"the resumed run ended with {code}"
    assert done == count, f"the run ended after {done} of {count} kills; train longer"
    a, b = (torch.load(p / "checkpoint.pt", weights_only=True) for p in (whole, broken))
    same = all(torch.equal(a[part][k], b[part][k]) for part in ("model", "ema") for k in a[part])
    return {
        "sentence": f"{done} kills: weights {'equal the unbroken run bit for bit' if same else 'DIFFER'}",
        "kills": done,
        "equal": same,
    }


def phone() -> dict[str, Any]:
    """A made 30 s clip of 1080x1920 with a rotation flag: train with only --data and the suggested profile, predict."""
    film_path = WORK / "phone.mp4"
    make_phone_clip(film_path)
    run, out = WORK / "phone", WORK / "future.mp4"
    began = time.monotonic()
    train = command(
        *("train", "multiscale-gan", "--profile", "natural", "--budget", "6m"),
        *("--data", relative(film_path), "--out", relative(run)),
    )
    command("predict", relative(run), "--input", relative(film_path), "--out", relative(out))
    command("report", relative(run), "--clips", "8")
    import resource

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    seconds = time.monotonic() - began
    return {
        **scored(run, train, "phone", clips=8),
        "seconds": round(seconds),
        "peak_memory_gb": round(peak, 2),
        "sentence": f"{seconds / 60:.1f} min and {peak:.2f} GB from clip to report",
    }


def make_phone_clip(path: Path) -> None:
    """Thirty seconds of shapes moving over a pattern, stored as 1920x1080 with a flag to turn it by 90 degrees."""
    from framecast.media.draw import draw_shape

    def frames() -> Any:
        y, x = np.mgrid[0:1080, 0:1920]
        ground = np.stack([(x // 8) % 160 + 40, (y // 6) % 160 + 40, ((x + y) // 12) % 160 + 40]).astype(np.uint8)
        for t in range(900):
            frame = ground.copy()
            for i, (kind, colour) in enumerate((("circle", (230, 60, 50)), ("square", (60, 90, 230)))):
                place = (960 + 700 * np.sin(t / (25 + 9 * i) + i), 540 + 350 * np.cos(t / (31 + 7 * i)))
                draw_shape(frame, kind, (float(round(place[0])), float(round(place[1]))), 260.0, colour)
            yield frame

    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(frames(), path, 30)
        rotate(path)


def rotate(path: Path) -> None:
    """Set the track's matrix to a turn by 90 degrees, as phones do."""
    data = bytearray(path.read_bytes())
    unit, one = bytes([0, 1, 0, 0]), bytes([0x40, 0, 0, 0])
    zero, minus = bytes(4), bytes([0xFF, 0xFF, 0, 0])
    plain = unit + zero * 3 + unit + zero * 3 + one
    at = data.index(plain, data.index(b"tkhd"))
    data[at : at + 36] = zero + unit + zero + minus + zero * 4 + one
    path.write_bytes(bytes(data))


if __name__ == "__main__":
    main()
