"""Speed of this checkout against that of another commit, measured in turns in one run.

    python -m benchmarks.paired --against 9ded7df

Step times of all small profiles, clips per batch of the loader, and reading of a generated video of 30 s, 1080x1920, at
a shorter side of 128. One process of each checkout measures; they take turns, so that a change of the machine's speed
meets both. A ratio above 1 means that this checkout takes longer; it counts as slower if all pairs say so. About eight
minutes on two cores; --only and --models measure a part (`--only small` the cases of small_cases.py, by CPU time), and
--record writes docs/results/paired.json and its page.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("steps", "loading", "reading")
#: With `--only small`: the cases of `small_cases.py`, with the precision after a slash.
SMALL = "small"
#: Seconds of one measurement of steps, and the most steps in it.
LENGTH, MOST = 1.0, 50


# ------------------------------------------------------------------------------------------- process of one checkout


def serve(data: Path, video: Path) -> None:
    """Measure what each line of standard input names, [kind, model, count], and print the seconds."""
    known: tuple[Any, Callable[[int], float]] | None = None
    for line in sys.stdin:
        *what, count = json.loads(line)
        if known is None or known[0] != what:
            known = None  # free the model before the next one is built
            make = {"steps": _steps, SMALL: _small}.get(what[0])
            known = what, make(data, what[1]) if make else _work(data, video, what[0])
        print(json.dumps(known[1](count)), flush=True)


def _steps(data: Path, name: str) -> Callable[[int], float]:
    """Mean seconds of a number of training steps of a small profile."""
    import dataclasses

    import torch

    from framecast.data.cache import open_data
    from framecast.models.registry import find_model
    from framecast.training.device import make_device
    from framecast.training.presets import preset
    from framecast.training.state import TrainState
    from framecast.training.train import settle
    from framecast.training.trainer import Trainer

    config, model_class = preset(name, "small"), find_model(name)
    source, found = open_data(dataclasses.replace(config.data, path=str(data)))
    config = dataclasses.replace(config, data=found)
    train = dataclasses.replace(config.train, steps=100, epochs=None, budget=None)
    config = settle(dataclasses.replace(config, train=train), source, model_class)
    torch.manual_seed(0)
    model = model_class(config.model, config.spec).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainState.create(model, 0)
    trainer = Trainer(config, source, Path(), make_device("cpu"), state, quiet=True)
    return trainer.seconds_a_step


def _small(data: Path, name: str) -> Callable[[int], float]:
    """Least CPU seconds of a number of steps of a case, one thread: other work on the machine disturbs it little."""
    import importlib.util

    import torch

    from framecast.training.device import Device

    torch.set_num_threads(1)
    # the other checkout may lack this file
    spec = importlib.util.spec_from_file_location("small_cases", ROOT / "benchmarks" / "small_cases.py")
    assert spec is not None
    assert spec.loader is not None
    cases = sys.modules["small_cases"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    wanted, precision = name.rsplit("/", 1)
    case = next(case for case in cases.CASES if case.name == wanted)
    longer = data.parent / "small-cases"
    if not longer.exists():
        cases.make_data(longer)
    step = cases.Step(longer, Path(tempfile.mkdtemp(dir=data.parent)), case, Device(torch.device("cpu"), precision))

    def measure(count: int) -> float:
        found = []
        for _ in range(max(count, 2)):
            began = time.process_time()
            step()
            found.append(time.process_time() - began)
        return min(found)

    return measure


def small_cases() -> list[str]:
    """The cases of `small_cases.py` in both precisions."""
    from benchmarks.small_cases import CASES

    return [f"{case.name}/{precision}" for case in CASES for precision in ("bf16", "fp32")]


def _work(data: Path, video: Path, kind: str) -> Callable[[int], float]:
    """Mean seconds of a number of batches of 32 clips of 16 frames, or of readings of the video."""
    from framecast.core.types import ClipRequest
    from framecast.data.loader import Loader
    from framecast.data.store import Store
    from framecast.media.video import iter_frames

    source = Store(data)
    request = ClipRequest(context=8, future=8)
    loader = Loader(source, source.splits(request.source_length)["train"], request, batch_size=32)

    def measure(count: int) -> float:
        began = time.perf_counter()
        for step in range(count):
            if kind == "loading":
                loader.batch(step)
            else:
                assert sum(1 for _ in iter_frames(video, 128))
        return (time.perf_counter() - began) / count

    return measure


# ------------------------------------------------------------------------------------------------------- both of them


class Side:
    """The process of one checkout. tree: the checkout."""

    def __init__(self, tree: Path, data: Path, video: Path) -> None:
        command = [sys.executable, "-P", __file__, "--serve", str(data), str(video)]
        environment = {**os.environ, "PYTHONPATH": str(tree), "FRAMECAST_CACHE": str(data.parent / "cache")}
        self.process = subprocess.Popen(
            command, env=environment, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, kind: str, name: str, count: int) -> float:
        """One measurement, seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([kind, name, count]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{kind} {name}: the process of a checkout ended, see above")
        return float(json.loads(line))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measured(
    work: Sequence[tuple[str, str]], before: Side, after: Side, pairs: int
) -> Iterator[tuple[str, float, list[float]]]:
    """Name, seconds before, and the ratios after / before of all pairs, of every kind of work and model."""
    for kind, name in work:
        first = [side.seconds(kind, name, 1) for side in (before, after)]  # warm-up
        count = 1 if kind == "reading" else max(1, min(MOST, round(LENGTH / max(first[0], 1e-6))))
        ratios, seconds = [], []
        for number in range(3 if kind == "reading" else pairs):
            order = (before, after) if number % 2 else (after, before)
            found = {side: side.seconds(kind, name, count) for side in order}
            ratios.append(found[after] / found[before])
            seconds.append(found[before])
        yield f"{kind} {name}".strip(), statistics.median(seconds), ratios


def small_models() -> list[str]:
    """Models with a small profile in both checkouts: all but those that came later."""
    from framecast.training.presets import PRESETS

    return [name for name, (profiles, _) in PRESETS.items() if "small" in profiles and name not in LATER]


#: Models that the commits before the engine's work lack.
LATER = ("direct", "categorical")


def prepared(folder: Path, tiny: bool) -> tuple[Path, Path]:
    """Store and video that both checkouts read."""
    from benchmarks.recording import _generate

    data, video = folder / "data", folder / "phone.mp4"
    make = [sys.executable, "-m", "framecast", "data", "make", "bouncing", "--videos", "20", "--frames", "64"]
    subprocess.run([*make, "--seed", "3", "--out", str(data)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    _generate(video, *((72, 128, 1) if tiny else (1080, 1920, 30)))
    return data, video


def page(done: dict[str, Any]) -> str:
    """docs/results/paired.md."""
    from reproduction.pages import code, machine, table, text

    lines = ["# Speed against an earlier commit", "", "Written by `python -m benchmarks.paired --record`; figures in"]
    lines += ["[paired.json](paired.json). Both checkouts are measured in turns in one run; a ratio above 1 means that"]
    lines += ["the later one takes longer, and it counts as slower where all pairs say so."]
    for found in done["results"].values():
        lines += ["", f"## {found['commit']} against {found['against']}", ""]
        rows = [
            [name, f"{row['seconds']:.4f}", *(f"{row[key]:.3f}" for key in ("median", "least", "most"))]
            for name, row in found["rows"].items()
        ]
        lines += table(["work", "seconds before", "ratio, median", "least", "most"], rows)
        lines += [f"Slower in all pairs: {', '.join(found['slower']) or 'none'}.", "", *code(found["command"])]
        lines += machine(found)
    return text(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 1 where something is slower in all pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="9ded7df", help="commit to compare with")
    parser.add_argument(
        "--only", nargs="+", choices=[*KINDS, SMALL], default=KINDS, help="kinds of work; small: see small_cases.py"
    )
    parser.add_argument("--models", nargs="+", help="models; all with a small profile if not given")
    parser.add_argument("--pairs", type=int, default=7, help="pairs of measurements")
    parser.add_argument("--record", action="store_true", help="write docs/results/paired.json and paired.md")
    parser.add_argument("--tiny", action="store_true", help="a small video, for tests")
    given = parser.parse_args(arguments)
    models = given.models or small_models()
    named = {"steps": models, SMALL: given.models or (small_cases() if SMALL in given.only else [])}
    work = [(kind, name) for kind in given.only for name in named.get(kind, [""])]
    with tempfile.TemporaryDirectory(prefix="framecast-paired-") as place:
        folder, tree = Path(place), Path(place) / "tree"
        data, video = prepared(folder, given.tiny)
        subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(tree)], check=True)
        subprocess.run(["git", "checkout", "--quiet", given.against], check=True, cwd=tree)
        before, after = Side(tree, data, video), Side(ROOT, data, video)
        slower, rows = [], {}
        print(f"{'work':28} {'before, s':>10}   after / before: median (least…most of the pairs)")
        for name, seconds, ratios in measured(work, before, after, given.pairs):
            middle = statistics.median(ratios)
            print(f"{name:28} {seconds:10.4f}   {middle:.3f} ({min(ratios):.3f}…{max(ratios):.3f})", flush=True)
            slower += [name] if min(ratios) > 1 else []
            rows[name] = {"seconds": seconds, "median": middle, "least": min(ratios), "most": max(ratios)}
        before.close()
        after.close()
    print(f"slower in all pairs: {', '.join(slower) or 'none'}")
    if given.record:
        from reproduction.results import Results

        found = {
            "command": shlex.join(["python", "-m", "benchmarks.paired", *(arguments or sys.argv[1:])]),
            "against": given.against,
            "sentence": f"slower in all pairs: {', '.join(slower) or 'none'}",
            "rows": rows,
            "slower": slower,
        }
        Results("paired", page).part("-".join([*given.only, *(given.models or [])]), lambda: found, again=True)
    return int(bool(slower))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())
