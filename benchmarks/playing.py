"""Pictures a second, key to picture, and memory over 1,000 frames of `framecast play`, through a headless browser.

    python -m benchmarks.playing

The server is a process of its own, as people start it, with the default networks of dreams, untrained (they are as fast
as trained ones), on frames of 64x64 with nine actions. Pictures a second stand beside the model alone. The time from a
key to the picture it changed, measured by the page while it plays 30 pictures a second, stands beside the way of a
picture without any model: asked for, sent, drawn. Chromium is needed (make setup-system).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.ceiling import beside
from benchmarks.row import CPU, Row, Settings, run_script
from framecast.core.types import ActionSpec, ClipSpec
from framecast.data.options import DataConfig
from framecast.data.writer import DatasetWriter
from framecast.models.registry import find_model
from framecast.models.rollout import RolloutSession
from framecast.training.checkpoint import write_weights
from framecast.training.config import RunConfig, write_config
from framecast.training.presets import preset
from framecast.training.run_folder import open_run
from framecast.web.session import HISTORY

SIDE, PACE = 64, 30
MOVES = ("NOOP", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT")


def run(settings: Settings) -> Iterator[Row]:
    """Three rows where there is a browser, else none."""
    chromium = find_chromium()
    if chromium is None:
        return
    with tempfile.TemporaryDirectory(prefix="framecast-bench-") as folder:
        made = make_run(Path(folder), "tiny" if settings.tiny else "default")
        found, machine = beside(lambda: _measure(made, chromium, settings.tiny), CPU, settings.tiny)
    common: dict[str, Any] = {"machine": machine, "precision": "fp32"}
    yield Row(
        name=f"play: pictures of {SIDE}x{SIDE} drawn, as fast as it can",
        figure=found["fps"],
        unit="pictures/s",
        ceiling=found["alone"],
        against="the model alone, one thread",
        better="more",
        goal=30,
        goal_is="figure",
        details={"frames": found["frames"]},
        **common,
    )
    yield Row(
        name=f"play: key to picture, 95th percentile at {PACE} a second",
        figure=found["p95"],
        unit="ms",
        ceiling=found["bare_p50"],
        against="a picture of the past, asked for and drawn, without a model: median",
        goal=50,
        goal_is="figure",
        details={"median_ms": found["p50"], "bare_p95_ms": found["bare_p95"], "keys": found["keys"]},
        **common,
    )
    yield Row(
        name=f"play: memory growth of the server over {found['frames']} frames",
        figure=max(found["server_mb"], 0.0),
        unit="MB",
        ceiling=found["frames"] * 3 * SIDE**2 / 1e6,
        against="all pictures, if they were kept",
        goal=8,
        goal_is="figure",
        details={"page_mb": found["page_mb"], "frames_before": found["before"]},
        **common,
    )


def find_chromium() -> str | None:
    """The browser's program; None, with a line printed, where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        print("no chromium (make setup-system): nothing is measured")
    return found


def make_run(folder: Path, profile: str) -> Path:
    """A run folder of dreams that were not trained, with frames to begin with."""
    rng = np.random.default_rng(0)
    actions = ActionSpec(kind="discrete", size=len(MOVES), names=MOVES)
    with DatasetWriter(folder / "data", fps=PACE, actions=actions) as writer:
        for _ in range(3):
            coarse = rng.integers(0, 256, (60, 3, SIDE // 8, SIDE // 8), np.uint8)
            writer.add(coarse.repeat(8, 2).repeat(8, 3), actions=rng.integers(len(MOVES), size=60))
    config = preset("dreams", profile)
    spec = ClipSpec(channels=3, height=SIDE, width=SIDE, fps=PACE, actions=actions)
    config = RunConfig(
        name="dreams", profile=profile, model=config.model, data=DataConfig(path=str(folder / "data")), spec=spec
    )
    weights = folder / "run" / "weights" / "step-0"
    weights.mkdir(parents=True)
    write_config(folder / "run", config)
    torch.manual_seed(0)
    write_weights(weights, find_model("dreams")(config.model, spec), config.to_json())
    return folder / "run"


def _measure(made: Path, chromium: str, tiny: bool) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    frames, before, keys = (30, 10, 4) if tiny else (1000, HISTORY + 50, 120)  # keys: as many as the page remembers
    with _served(made) as (process, url), sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--enable-precise-memory-info"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        page.goto(url)
        until(page, "document.body.dataset.drawn >= 1")
        found = _pace(page, process, frames, before)
        found |= _keys(page, keys)
        browser.close()
    return {**found, "alone": _alone(made, 20 if tiny else 300), "frames": frames, "before": before, "keys": keys}


@contextlib.contextmanager
def _served(made: Path) -> Iterator[tuple[psutil.Process, str]]:
    """The server's process and its address."""
    address = made / "address.json"
    command = [sys.executable, "-m", "framecast", "play", str(made), "--port", "0", "--device", "cpu"]
    with subprocess.Popen([*command, "--json", str(address)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            while "Ctrl-C" not in (line := process.stdout.readline()):
                assert line or process.poll() is None, "the server did not start"
            while not address.is_file():  # written after the printed line
                assert process.poll() is None, "the server did not stay"
                time.sleep(0.05)
            yield psutil.Process(process.pid), json.loads(address.read_text())["url"]
        finally:
            process.terminate()


def until(page: Any, expression: str, seconds: float = 1800) -> None:
    """The page's policy forbids code from strings, so it is asked again and again; seldom, not to be in its way."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def slide(page: Any, selector: str, value: int) -> None:
    page.locator(selector).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')) }", value
    )


def _pace(page: Any, process: psutil.Process, frames: int, before: int) -> dict[str, float]:
    """Pictures a second over `frames`, and how far memory grew, once the past is full."""
    slide(page, "#speed", 61)
    page.click("#play")
    until(page, f"document.body.dataset.number > {before}")
    number, held = "[Number(document.body.dataset.number), performance.now()]", _held(page, process)
    first, began = page.evaluate(number)
    until(page, f"document.body.dataset.number > {first + frames}")
    last, ended = page.evaluate(number)
    page.click("#play")
    grown = [(after - then) / 1e6 for after, then in zip(_held(page, process), held, strict=True)]
    return {"fps": 1000 * (last - first) / (ended - began), "server_mb": grown[0], "page_mb": grown[1]}


def _held(page: Any, process: psutil.Process) -> tuple[int, int]:
    page.request_gc()
    return process.memory_info().rss, page.evaluate("performance.memory.usedJSHeapSize")


def _keys(page: Any, keys: int) -> dict[str, float]:
    """Median and 95th percentile, ms, of the latencies reported by the page: first of past images, then of keys."""
    read = "[Number(document.body.dataset.p50), Number(document.body.dataset.p95)]"
    page.click("#reset")
    slide(page, "#speed", PACE)
    for _ in range(keys):
        drawn = page.evaluate("Number(document.body.dataset.drawn)")
        page.keyboard.press(".")
        until(page, f"document.body.dataset.drawn > {drawn}")
    for i in range(keys):
        drawn = page.evaluate("Number(document.body.dataset.drawn)")
        slide(page, "#scrub", i % keys)
        until(page, f"document.body.dataset.drawn > {drawn}")
    time.sleep(0.5)
    bare = page.evaluate(read)
    page.locator("#scrub").blur()
    page.click("#play")
    rng = np.random.default_rng(0)
    for i in range(keys):
        key = ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown")[i % 4]
        page.keyboard.down(key)
        time.sleep(float(rng.uniform(0.05, 0.15)))
        page.keyboard.up(key)
        time.sleep(float(rng.uniform(0.05, 0.15)))
    time.sleep(0.5)
    p50, p95 = page.evaluate(read)
    return {"bare_p50": bare[0], "bare_p95": bare[1], "p50": p50, "p95": p95}


def _alone(made: Path, frames: int) -> float:
    """Frames a second of the model alone, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = open_run(made).model()
        context = torch.rand(1, model.num_context, 3, SIDE, SIDE)
        action = torch.eye(len(MOVES))[:1]
        dream = RolloutSession(model, context, action.expand(1, model.num_context - 1, -1))
        for _ in range(10):
            dream.step(action)
        began = time.perf_counter()
        for _ in range(frames):
            dream.step(action)
        return frames / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    run_script(run, __doc__)
