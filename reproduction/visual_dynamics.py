"""The runs behind docs/results/visual-dynamics.md: train, sample, measure; figures into visual-dynamics.json beside it.

    python -m reproduction.visual_dynamics                   all parts, one after another; finished ones are kept
    python -m reproduction.visual_dynamics --only shapes     one part: bound, shapes, flow, ablation, objects, …
    python -m reproduction.visual_dynamics --clip FILE       a natural clip of your own; its grids stay with the run
    python -m reproduction.visual_dynamics --again           run finished ones again
    python -m reproduction.visual_dynamics --package         the packaged weights from the run of the chain, with scores
    python -m reproduction.visual_dynamics --only contours --weights RUN    second contours of a run's samples, printed

Parts `contours` and `rollouts` train nothing: they measure the packaged weights within minutes.

A run that was stopped resumes; one that is there is measured, not trained again. Samples are drawn with fixed seeds.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framecast.data.base import Segment
from framecast.data.store import Store
from framecast.data.synthetic.shapes import Scene, ShapesConfig
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.motion import first_frame, measure_motions, motions_of_model, true_motions
from framecast.inference.export import save_pretrained
from framecast.inference.latents.motions import dims, sample, transfer
from framecast.metrics.displacement import KINDS, find_displacements
from framecast.training.checkpoint import finished_step
from framecast.training.log import read_metrics
from framecast.training.run_folder import Run, open_run
from reproduction.flow_baseline import flow_baseline
from reproduction.pages import code, machine, opening, table, text
from reproduction.results import RESULTS, ROOT, WORK, Results, arguments, command, made, relative, slug
from reproduction.shape_samples import SEEDS, contours, rollouts

SIZE, SAMPLES = 64, 20
#: The profile that is a chain of trainings, and folders of its first link and the last but one below the run.
CHAIN, FIRST_LINK, BEFORE_LAST = "staged", "chain/1-places", "chain/5-last"
#: Weights of this chain that come with the package.
PACKAGED = "visual-dynamics-shapes"
#: Scenes and frames that are rolled out.
ROLLOUT = {"count": 100, "horizon": 8}
#: Weights of KL compared in short trainings from the first link: an autoencoder without KL, one weight, steps.
ABLATION = {
    "w = 0": "--model.kl-weights 0 0",
    "constant": "--model.kl-weights 0 0.005",
    "stepped": "--model.kl-weights 0 0.001 0.08 0.005 0.12 0.02 --model.kl-between step",
}


def main() -> None:
    """Run the parts asked for."""
    names = ("bound", "shapes", "flow", "ablation", "objects", "contours", "contours-last", "rollouts", "medium")
    parser = arguments(__doc__, names, clip="train and sample on this video instead")
    parser.add_argument("--pictures", type=int, default=500, help="test pictures that are sampled from")
    parser.add_argument("--ablation-epochs", type=float, default=0.16, help="passes of each run of the ablation")
    parser.add_argument("--weights", help="with --only contours: measure these, print a table and store nothing")
    parser.add_argument("--scenes", type=int, default=500, help="fresh scenes of contours")
    parser.add_argument("--split", choices=list(SEEDS), default="test", help="seed of the fresh scenes of --weights")
    parser.add_argument("--package", action="store_true", help="export the run of the chain as packaged weights")
    options = parser.parse_args()
    if options.package:
        package(staged()[0])
        return
    if options.weights:
        print("\n".join(_contours(contours_of(options.weights, options.scenes, options.split))))
        return
    makers = {
        "bound": bound,
        "shapes": lambda: shapes(options.pictures),
        "flow": lambda: flow(options.pictures),
        "ablation": lambda: ablation(options.ablation_epochs, options.pictures),
        "objects": objects,
        "contours": lambda: contours_of(PACKAGED, options.scenes),
        "contours-last": lambda: contours_of(relative(staged()[0].folder / BEFORE_LAST), options.scenes),
        "rollouts": rolled_out,
        "medium": medium,
        "clip": lambda: clip(options.clip),
    }
    Results("visual-dynamics", page).parts(makers, options)


# -------------------------------------------------------------------------------------------------------------- parts


def data() -> Path:
    """The pairs all parts share, 64x64."""
    return made(WORK / "data" / "shapes64", "shapes", "--size", str(SIZE))


def trained(name: str, source: str, extra: str = "", profile: str = "pairs") -> tuple[Run, dict[str, Any]]:
    """A finished run, and how it was made; one that is there is taken as it is."""
    folder = WORK / name
    words = ("train", "visual-dynamics", "--profile", profile, "--data", source, "--out", relative(folder))
    line = " ".join(["framecast", *words, *extra.split()])
    if finished_step(folder) is None:
        command(*words, *extra.split())
    rows = read_metrics(folder)
    last = next(row for row in reversed(rows) if "val/l2" in row)
    run = open_run(folder)
    steps, seconds = run.trained  # of all links
    facts = {
        "command": line,
        "steps": steps,
        "training_seconds": round(seconds or 0.0),
        "losses": {k: last[k] for k in ("train/loss", "train/l2", "train/kl", "val/loss", "val/l2", "val/kl")},
    }
    return run, facts


def staged() -> tuple[Run, dict[str, Any]]:
    """The run of the chain on the pairs that all parts share."""
    return trained("visual-staged", relative(data()), profile=CHAIN)


def bound(scenes: int = 1000, draws: int = 12) -> dict[str, Any]:
    """What copying and the best single guess err on new scenes: the conditional mean, whose error is the variance."""
    config = ShapesConfig()
    copy, least = [], []
    for i in range(scenes):
        rng = np.random.default_rng([5, i])
        scene = Scene.draw(config, rng)
        futures = [replace(scene, motion=Scene.draw(config, rng).motion).frame(SIZE, 1) for _ in range(draws)]
        values = np.stack(futures).astype(np.float64) / 127.5
        least.append(values.var(0, ddof=1).mean())
        copy.append(np.square(values - scene.frame(SIZE, 0) / 127.5).mean())
    return {
        "sentence": f"at {SIZE}x{SIZE} the best single guess errs by {np.mean(least):.4f}, copying by "
        f"{np.mean(copy):.4f} (mean square, -1 to 1, {scenes:,} scenes)",
        "deterministic": float(np.mean(least)),
        "deterministic_error": float(np.std(least) / np.sqrt(scenes)),
        "copy_last": float(np.mean(copy)),
        "scenes": scenes,
    }


def shapes(pictures: int) -> dict[str, Any]:
    """`staged` on shapes: losses, sampled motions from both priors, active numbers, motions carried over, a grid."""
    run, facts = staged()
    store, model = Store(data()), run.model()
    test = store.splits(2)["test"][:pictures]
    motions = motions_of_model(model, store, test, SAMPLES)
    count = dims(run, count=256, out=run.folder / "latents")
    grids = {}
    for prior in ("normal", "posterior"):
        drawn = sample(run, prior=prior, out=run.folder / "latents")
        grids[prior] = _kept(drawn.files["grid"], f"visual-dynamics-{prior}.png")
    grids["transfer"] = _kept(transfer(run, out=run.folder / "latents").files["grid"], "visual-dynamics-transfer.png")
    error, found = transfer_error(model, store, test[:100])
    losses = facts["losses"]
    return {
        "sentence": f"squared error {losses['val/l2']:.4f} held out, {losses['train/l2']:.4f} in training",
        **facts,
        "pictures": len(test),
        "motions": motions,
        "dims": {k: v for k, v in count.facts.items() if k != "dominant"},
        "transfer_px": error,
        "transfer_found": found,
        "grids": grids,
    }


@torch.no_grad()
def transfer_error(model: Any, store: Store, segments: list[Segment]) -> tuple[float | None, float]:
    """Mean distance, px of 128, between what a pair's motion does to another picture and what it did; share found."""
    size = (model.config.size,) * 2
    errors: list[float] = []
    for a, b in zip(segments, segments[1:] + segments[:1], strict=True):
        pair = torch.from_numpy(np.array(store.clip(a.video, 0, 2).frames)).float()[None] / 255
        frame, scene = first_frame(store, b, size)
        moved = model.decode(model.encode(pair), frame[None, None])[:, 0]
        found_at, found = find_displacements(moved, scene)
        truth, there = find_displacements(pair[0, 1:], first_frame(store, a, size)[1])
        both = found[0] & there[0]
        errors += np.linalg.norm(found_at[0][both] - truth[0][both], axis=-1).tolist()
    share = len(errors) / (len(KINDS) * len(segments))
    return (float(np.mean(errors)) if errors else None), share


def flow(pictures: int) -> dict[str, Any]:
    """The baseline that copies the flow of the nearest training pictures, measured by the same code."""
    store = Store(data())
    splits = store.splits(2)
    sampler = flow_baseline(store, splits["train"], (SIZE, SIZE))
    result = measure_motions(sampler, store, splits["test"][:pictures], (SIZE, SIZE), true_motions(store), SAMPLES)
    return {
        "sentence": "copying the exact flow of one of ten neighbours among 2,000 training pictures",
        "pictures": result["images"],
        "motions": {"flow": result},
    }


def ablation(epochs: float, pictures: int) -> dict[str, Any]:
    """KL weights compared over equally short runs: how samples of one picture spread, and how well they fit."""
    source = data()
    store, first = Store(source), relative(staged()[0].folder / FIRST_LINK)
    test = store.splits(2)["test"][: min(pictures, 100)]
    table = {}
    for name, extra in ABLATION.items():
        length = f"--epochs {epochs:g} --optim.lr 1.5e-3 --optim.decay-epochs {epochs:g} --train.every steps"
        flags = f"--init-from {first} {length} --train.validate-every 200 {extra}"
        run, facts = trained(f"visual-{slug(name)}", relative(source), flags)
        table[name] = {"losses": facts["losses"], "motions": motions_of_model(run.model(), store, test, SAMPLES)}
    return {
        "sentence": f"KL weights over {epochs:g} pass(es) from the weights of the first training, {len(test)} pictures",
        "pictures": len(test),
        "ablation": table,
    }


def objects() -> dict[str, Any]:
    """Other data: the published moving objects."""
    folder = made(WORK / "data" / "moving-objects", "moving-objects", "--pairs", "8000")
    run, facts = trained("visual-objects", relative(folder), "--epochs 4")
    drawn = sample(run, prior="posterior", out=run.folder / "latents")
    grid = _kept(drawn.files["grid"], "visual-dynamics-objects.png")
    return {
        "sentence": "8,000 pairs of moving objects, 4 passes",
        **facts,
        "grids": {"posterior": grid},
    }


def contours_of(weights: str, scenes: int, split: str = "test") -> dict[str, Any]:
    """Second contours, and triangles on their axis, of samples of fresh scenes."""
    found = contours(open_run(weights).model(), scenes, split)
    shares = ", ".join(f"{row['doubled']['share']:.1%} with codes: {name}" for name, row in list(found.items())[2:])
    return {
        "sentence": f"second contours in samples of {weights}: {shares}",
        "weights": weights,
        "scenes": scenes,
        "contours": found,
    }


def rolled_out() -> dict[str, Any]:
    """Frames fed back with fresh codes, from the packaged weights."""
    found = rollouts(
        open_run(PACKAGED).model(), Store(data()), picture=RESULTS / "visual-dynamics-rollout.png", **ROLLOUT
    )
    unstable = found["unstable_from"]
    verdict = "not unstable" if unstable is None else f"unstable from frame {unstable}"
    return {
        "sentence": f"{ROLLOUT['horizon']} frames fed back with fresh codes: {verdict}",
        "weights": PACKAGED,
        "rollouts": found,
        "grids": {"true and sampled frames of five scenes": "visual-dynamics-rollout.png"},
    }


def medium() -> dict[str, Any]:
    """Profile `medium` on frames of 128x128, for a part of its length, with a constant KL weight."""
    folder = made(WORK / "data" / "shapes128", "shapes", "--size", "128", "--train", "4000", "--val", "256")
    short = (
        "--epochs 2 --optim.decay-epochs 2 --model.kl-weights 0 0.002 --train.every steps --train.validate-every 100"
    )
    run, facts = trained("visual-medium", relative(folder), short, profile="medium")
    drawn = sample(run, prior="posterior", out=run.folder / "latents")
    grid = _kept(drawn.files["grid"], "visual-dynamics-medium.png")
    return {
        "sentence": f"profile `medium` at 128x128, {facts['steps']:,} of its 11,250 steps (9 passes through 20,000)",
        **facts,
        "grids": {"posterior": grid},
    }


def package(run: Run) -> None:
    """The packaged weights from a run: half precision, with scores of 50 held-out pairs; its examples are kept."""
    folder = ROOT / "framecast" / "pretrained" / PACKAGED
    scores, _ = evaluate(run, data(), horizon=1, samples=6, clips=50, save=False)
    with tempfile.TemporaryDirectory() as kept:
        shutil.copytree(folder / "examples", Path(kept) / "examples")
        shutil.rmtree(folder)
        save_pretrained(run, folder, half=True, scores=scores, license="apache-2.0")
        shutil.copytree(Path(kept) / "examples", folder / "examples", dirs_exist_ok=True)


def clip(path: Path) -> dict[str, Any]:
    """Consecutive frames of a natural clip; the grid stays in the run's folder, a clip is somebody's."""
    first, _ = staged()
    extra = f"--size {SIZE}x{SIZE} --epochs 300 --model.kl-weights 0 0.002 --optim.decay-epochs 300"
    extra += " --train.validate-every 30"
    run, facts = trained(f"visual-{slug(path.stem)}", str(path), f"--init-from {relative(first.folder)} {extra}")
    sample(run, prior="posterior", out=run.folder / "latents")
    facts["command"] = facts["command"].replace(str(path), path.name)
    return {
        "sentence": f"{path.name}, pairs of consecutive frames at 64x64, 300 passes from the weights of shapes",
        **facts,
    }


def _kept(file: Path, name: str) -> str:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / name).write_bytes(file.read_bytes())
    return name


# --------------------------------------------------------------------------------------------------------------- page


def page(done: dict[str, Any]) -> str:
    """The page's text."""
    lines = [
        "# Results: cross convolutional networks",
        "",
        "Written by `reproduction/visual_dynamics.py` from [visual-dynamics.json](visual-dynamics.json), which",
        "`make acceptance` writes. Displacements are in px of a 128 px frame; how they are found is described in",
        "[the model's page](../models/visual-dynamics.md#are-the-sampled-motions-the-true-ones).",
        "",
    ]
    results = done["results"]
    if {"bound", "shapes", "flow"} <= set(results):
        lines += _goals(results)
    for name, found in results.items():
        lines += opening(name, found)
        if "command" in found:
            minutes = found["training_seconds"] / 60
            lines += [*code(found["command"]), f"{found['steps']:,} steps in {minutes:.0f} minutes.", ""]
            lines += _replaced(found["command"])
        if "losses" in found:
            lines += _losses(found["losses"])
        if "dims" in found:
            d = found["dims"]
            active = f"{d['active']} of {d['size']} numbers of the code exceed 0.01 nats"
            lines += [f"{active}; {d['kl']:.1f} nats in all.", ""]
        if "motions" in found:
            lines += _motions(found["motions"], found["pictures"])
        if found.get("transfer_px") is not None:
            lines += [
                f"A pair's motion on another picture: {found['transfer_px']:.1f} px off on average, over "
                f"{found['transfer_found']:.0%} of the shapes (the others are hidden, or ghosts).",
                "",
            ]
        if "contours" in found:
            lines += _contours(found)
        if "rollouts" in found:
            lines += _rollouts(found["rollouts"])
        for label, row in found.get("ablation", {}).items():
            lines += [
                f"### KL weight: {label}",
                "",
                *_losses(row["losses"]),
                *_motions(row["motions"], found["pictures"]),
            ]
        for label, file in found.get("grids", {}).items():
            lines += [f"![{label}]({file})", ""]
        lines += machine(found)
    return text(lines)


def _replaced(command: str) -> list[str]:
    """The one command of a chain, where its links were recorded as commands of their own."""
    if len(command.splitlines()) < 2:
        return []
    note = "These trainings are now the links of one profile, and one command trains all of them:"
    data = "runs/acceptance/data/shapes64 --out runs/acceptance/visual-staged"
    return [note, "", *code(f"framecast train visual-dynamics --profile staged --data {data}")]


def _goals(results: dict[str, Any]) -> list[str]:
    """What the samples should reach, beside what they reach with codes from both priors."""
    bound, losses, motions = results["bound"], results["shapes"]["losses"], results["shapes"]["motions"]
    copied = ", ".join(f"{results['flow']['motions']['flow']['shapes'][k]['kl']:.1f}" for k in KINDS)

    def each(what: str, goal: str, key: str, digits: str) -> list[str]:
        return [what, goal, *(", ".join(format(m["shapes"][k][key], digits) for k in KINDS) for m in motions.values())]

    def one(what: str, goal: str, key: str) -> list[str]:
        return [what, goal, *(_number(result[key]) for result in motions.values())]

    goal, ratio = (
        f"below {bound['deterministic']:.4f}, the best single guess",
        losses["val/loss"] / losses["train/loss"],
    )
    rows = [
        ["squared error, held out", goal, f"{losses['val/l2']:.4f}", "the same"],
        ["held-out over training loss", "within 25 %", f"{ratio:.2f}", "the same"],
        each("off axis by at most 1 px", "95 %", "off_axis", ".1%"),
        each("standard deviation over the true one", "0.8 to 1.2", "sd_ratio", ".2f"),
        each("standard deviation within a picture, px", "3", "within_image_sd", ".1f"),
        each("KL(true, sampled)", f"0.5, and below {copied} of the copied flow", "kl", ".2f"),
        one("correlation of circle and triangle", "0.9", "corr_circle_triangle"),
        one("correlation of circle and square", "0.1 at most", "corr_circle_square"),
    ]
    lines = table([", ".join(KINDS), "to reach", *(f"codes: {name}" for name in motions)], rows)
    carried = f"| a motion carried to another picture, px off | 2 | {results['shapes']['transfer_px']:.1f} | |"
    return [*lines[:-1], carried, ""]


def _losses(losses: dict[str, float]) -> list[str]:
    rows = (
        [label, f"{losses[f'{k}/loss']:.4f}", f"{losses[f'{k}/l2']:.4f}", f"{losses[f'{k}/kl']:.5f}"]
        for k, label in (("train", "training pairs"), ("val", "held-out pairs"))
    )
    return table(["", "loss", "squared error", "KL a number of z"], rows)


def _motions(motions: dict[str, Any], pictures: int) -> list[str]:
    head = [
        "samples from",
        "shape",
        "rejected",
        "off axis ≤ 1 px",
        "std ratio",
        "std within an image",
        "KL(true, sampled)",
    ]
    shapes = (
        [name, kind, *(_percent(row[k]) for k in ("rejected", "off_axis"))]
        + [_number(row[k]) for k in ("sd_ratio", "within_image_sd", "kl")]
        for name, result in motions.items()
        for kind, row in result["shapes"].items()
    )
    linked = ("corr_circle_triangle", "corr_circle_square", "kl_circle_triangle")
    pairs = ([name, *(_number(result[k]) for k in linked)] for name, result in motions.items())
    true = next(iter(motions.values()))["true_corr_circle_triangle"]
    return [
        *(f"{pictures} test pictures, {SAMPLES} samples of each.", "", *table(head, shapes)),
        *table(
            ["samples from", "correlation of circle and triangle", "of circle and square", "KL of circle and triangle"],
            pairs,
        ),
        f"The true correlation of circle and triangle is {_number(true)}, of circle and square 0.",
        "",
    ]


def _contours(found: dict[str, Any]) -> list[str]:
    """Tables of second contours and of triangles, with their intervals."""
    rows = found["contours"].items()
    head = ["frames", "any shape doubled", *KINDS, *(f"{kind} lost" for kind in KINDS)]
    shapes = (
        [name, _interval(row["doubled"])]
        + [_percent(row["shapes"][kind][what]["share"], 1) for what in ("doubled", "lost") for kind in KINDS]
        for name, row in rows
    )
    parts = ("all", *next(iter(found["contours"].values()))["triangles"])
    triangles = (
        [name] + [_interval(each["on_axis"]) for each in (row["shapes"]["triangle"], *row["triangles"].values())]
        for name, row in rows
    )
    counts = found["contours"]["true frames"]["triangles"]
    numbers = " and ".join(f"{row['lost']['n']} {name}" for name, row in counts.items())
    return [
        f"One sample of each of {found['scenes']} fresh scenes; in brackets 95 % intervals. Doubled: with a second "
        "contour, shapes among those found; lost: not found, hidden or blurred.",
        "",
        *table(head, shapes),
        f"Triangles at most 1 px off their axis, of those found. In the true frames {numbers}: at most 1 %, or at "
        "least a third of the triangle is under the square in either frame.",
        "",
        *table(["frames", *parts], triangles),
    ]


def _rollouts(found: dict[str, Any]) -> list[str]:
    """What changes by frame in roll-outs."""
    frames = [str(t + 1) for t in range(len(found["skill"]))]
    rows = [
        ["skill S of the samples", *map(_number, found["skill"])],
        [f"skill S of the mean of {found['samples']}", *map(_number, found["skill_of_mean"])],
        ["share outside the training frames' statistics", *map(_percent, found["outside"])],
        ["the same of the true frames", *map(_percent, found["outside_true"])],
        *([f"area of {kind}s over the true", *map(_number, values)] for kind, values in found["area"].items()),
    ]
    return [
        f"{found['scenes']} fresh scenes, {found['samples']} samples of each; true scenes move on by fresh motions.",
        "",
        *table(["frame", *frames], rows),
    ]


def _interval(row: dict[str, Any]) -> str:
    if row["share"] is None:
        return "–"
    return f"{row['share']:.1%} ({row['low']:.1%} to {row['high']:.1%})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}%}"


if __name__ == "__main__":
    main()
