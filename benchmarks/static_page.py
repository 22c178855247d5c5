"""Pictures a second of the packaged worlds in a page without a server, single-threaded, in a headless browser.

    python -m benchmarks.static_page

Each world is exported as by `framecast export NAME --web --half`, served from a thread, and played as fast as it can.
Beside it stands the same graph through onnxruntime outside the browser, on one thread. Chromium and onnxruntime-web
(python -m framecast.web.runtime) are needed.
"""

from __future__ import annotations

import functools
import http.server
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ceiling import beside
from benchmarks.playing import find_chromium, slide, until
from benchmarks.row import CPU, Row, Settings, run_script
from framecast.inference.onnx_export import INIT, STEP, run_graph, session
from framecast.training.run_folder import open_run
from framecast.web.runtime import cached_folder, is_complete
from framecast.web.static import export_page

WORLDS = ("world-paddle", "world-maze")
_MOST = 61  # position of the speed slider: as fast as possible


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


def run(settings: Settings) -> Iterator[Row]:
    """A row for each world where there is a browser, else none."""
    chromium = find_chromium()
    if chromium is None:
        return
    if not is_complete(cached_folder()):
        print("no onnxruntime-web in the cache (python -m framecast.web.runtime): nothing is measured")
        return
    for name in WORLDS[: 1 if settings.tiny else None]:
        with tempfile.TemporaryDirectory(prefix="framecast-bench-") as place:
            folder = Path(place) / "page"
            export_page(open_run(name), folder, half=True)
            frames = 10 if settings.tiny else 300
            measured = functools.partial(_measure, folder, chromium, frames)
            (pictures, alone), machine = beside(measured, CPU, settings.tiny)
        yield Row(
            name=f"static page: pictures of {name} drawn, one thread",
            figure=pictures,
            unit="pictures/s",
            ceiling=alone,
            against="the same graph through onnxruntime outside the browser, one thread",
            better="more",
            goal=20,
            goal_is="figure",
            details={"frames": frames},
            machine=machine,
            precision="fp32",
        )


def _measure(folder: Path, chromium: str, frames: int) -> tuple[float, float]:
    """Pictures per second in the browser, and steps per second of the graph alone."""
    from playwright.sync_api import sync_playwright

    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder))) as server,
        sync_playwright() as play,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        until(page, "document.body.dataset.drawn >= 1")
        slide(page, "#speed", _MOST)
        page.click("#play")
        until(page, "document.body.dataset.drawn > 5")
        first, began = page.evaluate("Number(document.body.dataset.drawn)"), time.perf_counter()
        until(page, f"document.body.dataset.drawn >= {first + frames}")
        drawn = page.evaluate("Number(document.body.dataset.drawn)") - first
        seconds = time.perf_counter() - began
        browser.close()
        server.shutdown()
    return drawn / seconds, _alone(folder, frames)


def _alone(folder: Path, frames: int) -> float:
    """Steps per second of the graph through onnxruntime on one thread."""
    init, step = session(folder / INIT), session(folder / STEP)
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    given = {value.name: np.zeros(value.shape, types[value.type]) for value in init.get_inputs()}
    state = run_graph(init, given)
    action = {v.name: np.zeros(v.shape, np.float32) for v in step.get_inputs() if v.name == "action"}
    began = time.perf_counter()
    for _ in range(frames):
        new = run_graph(step, {**state, **action})
        state = {name.replace("next_", "state_"): value for name, value in new.items()}
    return frames / (time.perf_counter() - began)


if __name__ == "__main__":
    run_script(run, __doc__)
