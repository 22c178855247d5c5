"""The runs behind docs/results/direct.md: the default predictor trained alone, from packaged weights, and not at all.

    python -m reproduction.direct --weights         the packaged weights: mixed set, training, export
    python -m reproduction.direct                   every part below
    python -m reproduction.direct --only ms_pacman  one of them
    python -m reproduction.direct --only clips --clips FOLDER   filmed clips of your own

Weights are trained on the mixed set of direct_data.py. Figures are those of `framecast evaluate` on test clips, made
once per run.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framecast.data.base import Source
from framecast.data.cache import open_data
from framecast.data.loader import Loader
from framecast.data.options import DataConfig
from framecast.data.registry import find_source
from framecast.evaluation.evaluate import evaluate
from framecast.inference.backtest import DEFAULT_RUN, adapted, backtest
from framecast.inference.export import save_pretrained
from framecast.inference.predict import read_past
from framecast.media.write import write_video
from framecast.metrics.scores import BASELINES, Scores
from framecast.models.base import Predictor
from framecast.models.direct.predictor import Direct
from framecast.training.run_folder import open_run
from reproduction import direct_data
from reproduction.results import RESULTS, ROOT, WORK, Results, command, relative, write_film

#: Steps of a run from random weights; four minutes of one core with bf16.
STEPS = 1100
#: Shown frames of a horizon.
FRAMES = (1, 2, 4, 8, 16, 32, 64)
#: Generated sets: settings of their recording, flags of training, horizon of the score.
SETS: dict[str, tuple[dict[str, Any], list[str], int]] = {
    "bouncing": ({"videos": 200, "frames": 96}, [], 45),
    "walking": ({"subjects": 12, "held_out": 3, "takes": 3, "frames": 160}, [], 64),
    "pushing": (
        {"train": 200, "val": 20, "test": 20, "novel": 20, "frames": 80},
        ["--model.use-actions", "--model.block", "2"],
        64,
    ),
}
#: Of the model card of the packaged weights.
TRAINING = """That is the last of four stages (`python -m reproduction.direct --weights`): 6,486 steps at a rate of 5e-3
and 13,370 at 2e-3 on 24 games, 5,513 and these 1,000 at 2e-3 on {count} games of the emulator at frame skips 1, 2
and 4; in all of them also generated scenes (bouncing, pushing, walking) and moving photographs
({photographs}).
Never trained on, held out for the score: the games {games},
and the photographs {pictures}. Never trained on, and used to choose between weights: the games
{apart}.
"""


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of parts instead of all")
    parser.add_argument("--weights", action="store_true", help="train and export the packaged weights instead")
    parser.add_argument(
        "--weights-budget",
        nargs=4,
        default=("36m", "50m", "24m", "6m"),
        help="training times of the weights: at both rates on the mixed set, with both floors on the wide one",
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps from random weights: about 4 minutes")
    parser.add_argument("--clips", type=Path, help="folder with filmed clips for part clips")
    parser.add_argument("--again", action="store_true", help="run finished parts again")
    options, results = parser.parse_args(), Results("direct", page)
    if options.weights:
        weights(options.weights_budget)
        return
    for name, made in parts(options).items():
        if not options.only or name in options.only:
            results.part(name, made, options.again)


def parts(options: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """The parts by name."""
    made: dict[str, Callable[[], dict[str, Any]]] = {"ms_pacman": partial(game, "ms_pacman", options.steps)}
    made |= {name: partial(game, name, options.steps) for name in direct_data.HELD_OUT_GAMES if name != "ms_pacman"}
    made |= {name: partial(generated, name, options.steps) for name in SETS}
    made |= {f"zero-shot {name}": partial(zero_shot, name) for name in direct_data.HELD_OUT_GAMES}
    made |= {"demo": demo, "own-clips": own_clips}
    if options.clips is not None:
        made["clips"] = partial(clips, options.clips)
    return made


def weights(budgets: Sequence[str]) -> None:
    """Train on the mixed set, at a high and then at a low rate, then on the wide one, and export the packaged weights.

    The floor of the relative loss falls from stage to stage, so that clips that hardly change count for more.
    """
    recordings = WORK / "data" / "mixed-recordings"
    store = direct_data.make(WORK / "data" / "mixed", recordings)
    wide = direct_data.make(WORK / "data" / "mixed-wide", recordings, wide=True)
    first, second, third, run = (WORK / f"direct-any{name}" for name in ("-fast", "", "-wide", "-floor"))
    line, slower = ["train", "direct", "--profile", "any"], ["--optim.lr", "2e-3", "--model.relative-floor"]
    command(*line, "--data", relative(store), "--budget", budgets[0], "--out", relative(first))
    settings = ["--data", relative(store), "--init-from", relative(first), *slower, "3e-4"]
    command(*line, *settings, "--budget", budgets[1], "--out", relative(second))
    last = ["--data", relative(wide), "--train.select", "last", "--train.clock", "cpu"]
    settings = [*last, "--init-from", relative(second), *slower, "1e-4"]
    command(*line, *settings, "--budget", budgets[2], "--out", relative(third))
    settings = [*last, "--init-from", relative(third), *slower, "3e-5", "--train.validate-every", "100000"]
    command(*line, *settings, "--budget", budgets[3], "--out", relative(run))
    export_weights(until(run, 1000))


def until(run: Path, step: int) -> Path:
    """A run folder beside `run` that ends at one of its snapshots: the one that was best on the validation games."""
    folder, name = run.with_name(f"{run.name}-{step}"), f"weights/step-{step}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run / name, folder / name)
    shutil.copy(run / "config.json", folder)
    rows = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if json.loads(row)["step"] <= step]
    (folder / "metrics.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder


def export_weights(run: Path) -> None:
    """The packaged weights, with their scores on the first held-out game."""
    source, _ = open_data(DataConfig(path=str(recording(direct_data.HELD_OUT_GAMES[0])), size="84x64"))
    scores, _ = evaluate(run, source, horizon=64, clips=27, save=False)
    folder = ROOT / "framecast" / "pretrained" / DEFAULT_RUN
    shutil.rmtree(folder, ignore_errors=True)
    save_pretrained(run, folder, half=True, scores=scores, license="apache-2.0")
    card = folder / "README.md"
    before, line, after = card.read_text(encoding="utf-8").partition("Weights are float16")
    assert line, "the sentence of the card that the training is described before"
    card.write_text(before + TRAINING.format(**_named()) + line + after, encoding="utf-8")


def _named() -> dict[str, str | int]:
    """What the card names: numbers and lists of games and photographs."""
    lists = {"apart": direct_data.VALIDATION_GAMES, "games": direct_data.HELD_OUT_GAMES}
    lists |= {"photographs": direct_data.PHOTOS, "pictures": direct_data.HELD_OUT_PHOTOS}
    return {"count": len(direct_data.all_games())} | {key: ", ".join(names) for key, names in lists.items()}


def recording(name: str, skip: int = 1) -> Path:
    """Ninety episodes of 200 frames; nine of them are held out."""
    store = WORK / "data" / f"{name}-skip{skip}-90"
    if not (store / "index.json").is_file():
        words = ("--episodes", "90", "--max-frames", "200", "--frame-skip", str(skip))
        command("data", "make", "atari", "--game", name, *words, "--out", relative(store))
    return store


def game(name: str, steps: int) -> dict[str, Any]:
    """A game at 84x64 and 60 frames a second, from random weights; horizon 64, 27 clips of 9 held-out episodes."""
    return trained(name, recording(name), ["--size", "84x64"], steps, 64)


def generated(name: str, steps: int) -> dict[str, Any]:
    """A generated set from random weights; its videos have no other use."""
    _, flags, horizon = SETS[name]
    store = scene(name)
    flags = [*flags, *([] if horizon == 64 else ["--model.horizon", "48"])]
    longer = steps if name == "bouncing" else steps * 5 // 2
    found = trained(name, store, flags, longer, horizon)
    if name == "pushing":
        found["actions"] = shuffled_actions(WORK / f"direct-{name}", store, horizon)
    return found


def scene(name: str) -> Path:
    """The store of a generated set; one that is there is kept."""
    store = WORK / "data" / f"{name}-direct"
    if not (store / "index.json").is_file():
        source = find_source(name)
        source(source.Config(**SETS[name][0])).prepare(store)
    return store


def trained(name: str, store: Path, flags: list[str], steps: int, horizon: int) -> dict[str, Any]:
    """Train profile small from random weights, evaluate on test, keep a film of the median clip."""
    run = WORK / f"direct-{name}"
    length = ["--steps", str(steps), "--train.select", "last", "--train.validate-every", "100000"]
    where = ["--data", relative(store), *flags, *length, "--out", relative(run)]
    line = command("train", "direct", "--profile", "small", *where)
    return {"command": line, **evaluated(run, None, horizon, name), "coverage": coverage(run, store, flags, horizon)}


def zero_shot(name: str) -> dict[str, Any]:
    """The packaged weights on a game that they were never trained on, at the size of the games' own score."""
    store = recording(name)
    source, _ = open_data(DataConfig(path=str(store), size="84x64"))
    return evaluated(DEFAULT_RUN, source, 64, f"zero-shot-{name}")


def demo() -> dict[str, Any]:
    """`framecast demo`, evaluated on at least 20 clips of its held-out episodes."""
    out = WORK / "direct-demo"
    line = command("demo", "--out", relative(out))
    still = still_share(out / "run", out / "data", 64)
    return {"command": line, **evaluated(out / "run", None, 64, "demo", clips=24), "still": still}


def evaluated(run: Path | str, source: Any, horizon: int, label: str, clips: int = 27) -> dict[str, Any]:
    """Figures of `framecast evaluate` on test clips, and a film of the median one."""
    scores, kept = evaluate(run, source, horizon=horizon, clips=clips, save=False)
    clip = next((c for c in kept if c.role == "median"), kept[0])
    rows = {"truth": clip.truth, **{n: v for n, v in clip.predictions.items() if n in (scores.main, BASELINES[0])}}
    film = write_film(rows, RESULTS / f"direct-{label}.webp", 15)
    return {"protocol": scores.protocol.to_json(), "rows": rows_of(scores), "film": film}


def rows_of(scores: Scores) -> dict[str, Any]:
    """Forecaster -> skill, useful horizon, guards, and curves at the shown frames."""
    shown = [k for k in FRAMES if k <= scores.protocol.horizon]
    rows = {}
    for name, metrics in scores.predictors.items():
        summary = scores.summaries[name]
        versus = scores.versus.get(name, {})
        row: dict[str, Any] = {
            "skill": dict(summary.skill),
            "skill_best": dict(summary.skill_best),
            "useful_horizon": summary.useful_horizon,
            "blurred_from": summary.blurred_from,
            "unstable_from": summary.unstable_from,
            "false_motion": summary.false_motion,
            "psnr": float(np.nanmean([v for v in metrics["psnr"].mean if v is not None])),
        }
        if "skill" in metrics:
            series = metrics["skill"]
            row["by_frame"] = {str(k): [series.mean[k - 1], series.low[k - 1], series.high[k - 1]] for k in shown}
            known = [(m, low) for m, low in zip(series.mean, series.low, strict=True) if m is not None]
            row["least"] = min(m for m, _ in known)
            row["frames_above_zero"] = sum(low is not None and low > 0 for _, low in known)
        if "moving_psnr" in versus:
            gain = [v for v in versus["moving_psnr"].mean if v is not None]
            row["moving_gain"] = float(np.mean(gain)) if gain else None
            row["moving_gain_first"] = gain[0] if gain else None
        if summary.sharpness_by_frame:
            row["sharpness"] = {str(k): summary.sharpness_by_frame[k - 1] for k in shown}
        rows[name] = row
    return rows


@torch.no_grad()
def coverage(run: Path, store: Path, flags: list[str], horizon: int) -> dict[str, Any]:
    """Share of true values of the moving area within the 90 % intervals, and their width, by lead time."""
    size = flags[flags.index("--size") + 1] if "--size" in flags else None
    source, _ = open_data(DataConfig(path=str(store), size=size))
    model = open_run(run).model()
    assert isinstance(model, Direct)
    n, loader = model.num_context, _forecasts(model, source, horizon)
    inside, width, area = (np.zeros(horizon) for _ in range(3))
    for pair in loader.windows.fixed(16, 1):
        batch = loader.gather([pair]).to("cpu")
        frames, actions = torch.cat([batch.context, batch.future], 1), model.batch_actions(batch, horizon)
        low, high = model.intervals(frames[:, :n], horizon, actions)
        truth, last = frames[0, n:], frames[0, n - 1]
        moved = ((truth - last).abs().amax(1, keepdim=True) > 0.02).float()
        moved = torch.nn.functional.max_pool2d(moved, 7, 1, 3).expand_as(truth)
        within = ((truth >= low[0]) & (truth <= high[0])).float()
        for total, values in ((inside, within * moved), (width, (high - low)[0] * moved), (area, moved)):
            total += values.sum((1, 2, 3)).numpy()
    shown = [k for k in FRAMES if k <= horizon and area[k - 1] > 0]
    return {str(k): {"share": inside[k - 1] / area[k - 1], "width": width[k - 1] / area[k - 1]} for k in shown}


@torch.no_grad()
def still_share(run: Path, store: Path, horizon: int, clips: int = 24) -> dict[str, float]:
    """Share of the pixels whose true value is that of the last frame of the context, and whose forecast is, by frame.

    The same within 8 levels of 255 in every channel: a difference that is hardly seen.
    """
    source, _ = open_data(DataConfig(path=str(store)))
    model = open_run(run).model()
    n, loader = model.num_context, _forecasts(model, source, horizon)
    still, kept = np.zeros(horizon), np.zeros(horizon)
    for pair in loader.windows.fixed(clips, 1):
        batch = loader.gather([pair]).to("cpu")
        forecast = model.predict(batch.context[:, :n], horizon)[0, 0]
        last = batch.context[0, n - 1]
        same, stays = ((f - last).abs().amax(1) <= 8 / 255 for f in (batch.future[0], forecast))
        still += same.sum((1, 2)).numpy()
        kept += (same & stays).sum((1, 2)).numpy()
    return {str(k): kept[k - 1] / still[k - 1] for k in FRAMES if k <= horizon}


@torch.no_grad()
def shuffled_actions(run: Path, store: Path, horizon: int, clips: int = 40) -> dict[str, Any]:
    """Mean squared error under the true actions and under those of other clips, paired over clips."""
    source, _ = open_data(DataConfig(path=str(store)))
    model = open_run(run).model()
    n, loader = model.num_context, _forecasts(model, source, horizon)
    read = [loader.gather([pair]).to("cpu") for pair in loader.windows.fixed(clips, 1)]
    tables = [batch.actions[0] for batch in read if batch.actions is not None]
    difference, true_error = [], []
    for i, batch in enumerate(read):
        frames = torch.cat([batch.context, batch.future], 1)
        other = torch.cat([tables[i][: n - 1], tables[(i + 1) % len(read)][n - 1 :]])
        errors = []
        for table in (tables[i], other):
            forecast = model.predict(frames[:, :n], horizon, actions=table[None])[0]
            errors.append(float((forecast - frames[:, n:]).double().square().mean()))
        true_error.append(errors[0])
        difference.append(errors[1] - errors[0])
    mean, spread = float(np.mean(difference)), float(np.std(difference, ddof=1) / len(difference) ** 0.5)
    return {"mse_true": float(np.mean(true_error)), "shuffled_minus_true": mean, "standard_error": spread}


def _forecasts(model: Predictor, source: Source, horizon: int) -> Loader:
    """Whole windows of the test split."""
    request = model.request(model.config).consecutive(model.num_context, horizon)
    segments = source.splits(request.source_length)["test"]
    return Loader(source, segments, request, 1, actions=model.spec.actions)


def clips(folder: Path) -> dict[str, Any]:
    """Filmed clips: packaged weights, and those adapted for 60 s to the first 70 % of a clip, on its last 20 %."""
    paths = sorted(p for p in folder.iterdir() if p.is_file())
    read = {path.stem: read_past(path, "end", 128, 2000, 3) for path in paths}
    return backtested({name: (past, float(fps)) for name, (past, fps) in read.items()})


def own_clips() -> dict[str, Any]:
    """The same on two clips of held-out photographs, as they come out of a video file."""
    read = {}
    for name, frames in direct_data.own_clips():
        path = WORK / f"{name}.mp4"
        path.unlink(missing_ok=True)
        past, fps = read_past(write_video(frames, path), "end", 128, 2000, 3)
        read[name] = past, float(fps)
    return backtested(read)


def backtested(read: Mapping[str, tuple[np.ndarray, float]]) -> dict[str, Any]:
    """Backtests of clips (frames, frames per second) by name."""
    run, found = open_run(DEFAULT_RUN), {}
    for name, (past, fps) in read.items():
        cut, first = len(past) * 7 // 10, len(past) * 8 // 10
        one = adapted(run, past[:cut], fps, 60, 8, WORK / f"direct-clip-{name}", "cpu", "cpu")
        models = {"adapted 60 s": one.model(), DEFAULT_RUN: run.model()}
        found[name] = {"frames": len(past), **vars(backtest(models, past, 8, first))}
    protocol = "8 frames at a shorter side of 128 px, skill over copy-last on the last 20 %; 60 s of processor time"
    return {"clips": found, "protocol": protocol}


def page(done: dict[str, Any]) -> str:
    """docs/results/direct.md."""
    results = done["results"]
    lines = ["# Results of `direct`", "", "Written by `python -m reproduction.direct`; figures in direct.json.", ""]
    lines += ["| set | skill over copy-last | over the best baseline | useful horizon | least skill of a frame "]
    lines[-1] += "| gain in the moving area, dB | PSNR, dB | copy-last, dB |"
    lines += ["|" + "---|" * 8]
    for name, result in results.items():
        if "rows" in result:
            lines.append(_row(name, result["rows"]))
    for name, result in results.items():
        if "film" in result:
            lines += ["", f"## {name}", "", f"![truth, forecast, copy-last](direct-{_label(name)}.png)"]
            lines += ["", f"`{result['command']}`"] if "command" in result else []
            lines += _table(result)
    for part, title in (("clips", "Filmed clips"), ("own-clips", "Clips of held-out photographs")):
        if part not in results:
            continue
        lines += ["", f"## {title}", "", results[part]["protocol"] + ".", ""]
        for name, clip in results[part]["clips"].items():
            shown = ", ".join(f"{k} {v:+.3f}" for k, v in clip["skill"].items())
            lines.append(f"- {name} ({clip['frames']} frames, {clip['origins']} forecasts): {shown}")
    return "\n".join(lines) + "\n"


def _label(name: str) -> str:
    return name.replace(" ", "-")


def _row(name: str, rows: dict[str, Any]) -> str:
    main, copied = next(iter(rows.values())), rows["copy-last"]

    def interval(value: dict[str, Any]) -> str:
        return f"{value['mean']:+.3f} ({value['low']:+.3f} to {value['high']:+.3f})"

    cells = [name, interval(main["skill"]), interval(main["skill_best"]), str(main["useful_horizon"])]
    cells += [f"{main.get('least', float('nan')):+.3f}", f"{main.get('moving_gain') or float('nan'):+.2f}"]
    return "| " + " | ".join([*cells, f"{main['psnr']:.2f}", f"{copied['psnr']:.2f}"]) + " |"


def _table(result: dict[str, Any]) -> list[str]:
    main = next(iter(result["rows"].values()))
    frames = list(main.get("by_frame", {}))
    if not frames:
        return []
    lines = ["", "| frame | " + " | ".join(frames) + " |", "|---|" + "---|" * len(frames)]
    lines.append("| skill | " + " | ".join(f"{main['by_frame'][k][0]:+.3f}" for k in frames) + " |")
    if "sharpness" in main:
        lines.append("| sharpness, moving area | " + " | ".join(_two(main["sharpness"].get(k)) for k in frames) + " |")
    if "coverage" in result:
        shares = [result["coverage"].get(k, {}).get("share") for k in frames]
        widths = [result["coverage"].get(k, {}).get("width") for k in frames]
        lines.append("| within 90 % intervals | " + " | ".join(map(_two, shares)) + " |")
        lines.append("| their width | " + " | ".join(map(_two, widths)) + " |")
    if "still" in result:
        lines.append("| still pixels that stay | " + " | ".join(_three(result["still"].get(k)) for k in frames) + " |")
    if "actions" in result:
        found = result["actions"]
        lines += ["", f"MSE {found['mse_true']:.5f} under the true actions; under those of other clips"]
        lines[-1] += f" {found['shuffled_minus_true']:+.5f} (standard error {found['standard_error']:.5f})."
    return lines


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
