"""Shared by the tests of the command line: tiny data and runs, made once, and commands run in this process."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from small_models import Acting, small_config, write_store

from framecast.cli import run as command
from framecast.data.synthetic.shapes import Shapes, ShapesConfig
from framecast.media.write import write_video
from framecast.training.train import train

#: Beginnings of progress lines, which are no errors.
PROGRESS = ("reading ", "recording ", "importing ", "making ", "left out", "1 video,", "2 videos,", "3 videos,")

MINE = """
import dataclasses, torch
from torch import nn
from framecast.models.base import Predictor
from framecast.core.types import ClipRequest, Loss

@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    context: int = 2
    \"\"\"Number of context frames.\"\"\"

class Mine(Predictor):
    Config = Config
    actions = "ACTIONS"

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.gain = nn.Parameter(torch.ones(()))

    @classmethod
    def request(cls, config):
        return ClipRequest(context=config.context)

    def loss(self, batch, step=0):
        return Loss((self.gain * batch.context[:, -1:] - batch.future).square().mean())

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        return (self.gain * context[:, -1:]).expand(-1, horizon, -1, -1, -1).clamp(0, 1)[None]
"""


@functools.cache
def work() -> Path:
    """Folder for all data and runs below, deleted after the tests."""
    folder = Path(tempfile.mkdtemp(prefix="framecast-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def moving(frames=40, height=32, width=32, speed=1, seed=0):
    """A bright square that moves over a still pattern: uint8 (t, 3, h, w)."""
    rng = np.random.default_rng(seed)
    out = np.empty((frames, 3, height, width), np.uint8)
    out[:] = rng.integers(40, 80, size=(1, 3, height, width))
    side = max(1, min(height, width) // 4)
    for t in range(frames):
        left = (t * speed) % max(1, width - side)
        out[t, :, side : 2 * side, left : left + side] = np.array([230, 200, 40])[:, None, None]
    return out


@functools.cache
def store() -> Path:
    """Three videos of 24 frames of 32x32, without actions."""
    write_store(work() / "still", channels=3, side=32)
    return work() / "still"


@functools.cache
def acting_store() -> Path:
    """Three videos of 24 frames with three actions."""
    write_store(work() / "acting", actions=True)
    return work() / "acting"


@functools.cache
def tiny_run() -> Path:
    """The multi-scale model after two steps."""
    return train("multiscale-gan", store(), out=work() / "tiny", profile="tiny", steps=2, tensorboard=False, quiet=True)


@functools.cache
def pairs():
    """A dozen pairs of shapes, 32x32."""
    folder = work() / "pairs"
    Shapes(ShapesConfig(train=6, val=2, test=4, visualise=1, size=32)).prepare(folder)
    return folder


@functools.cache
def moving_run():
    """The tiny model after two steps, with four stored posteriors."""
    return train(
        "visual-dynamics", pairs(), out=work() / "moving", profile="tiny", steps=2, tensorboard=False, quiet=True
    )


@functools.cache
def copy_run() -> Path:
    """Copy-last as a run, whose forecast is known exactly."""
    return train("copy-last", store(), out=work() / "copy", steps=1, tensorboard=False, quiet=True)


@functools.cache
def acting_run() -> Path:
    """An outside model that predicts from actions."""
    config = small_config(Acting, steps=2)
    return train(Acting, acting_store(), config=config, out=work() / "led", quiet=True)


@functools.cache
def clip() -> Path:
    """A video of 40 frames of 32x32 at 15 fps."""
    return write_video(moving(), work() / "clip.mp4", 15)


@functools.cache
def frames() -> Path:
    """The same as a folder of PNGs."""
    return write_video(moving(), work() / "frames")


def mine(folder: Path, actions: str = "none") -> Path:
    """A model from outside the package, as a file."""
    path = folder / "mine.py"
    path.write_text(MINE.replace("ACTIONS", actions))
    return path


@pytest.fixture
def done(capsys):
    """Runs a command that must succeed; returns what it printed to standard output."""

    def run(*argv) -> str:
        capsys.readouterr()
        code = command([str(a) for a in argv])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return run


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused with one sentence and exit code 2; returns the sentence."""

    def run(*argv) -> str:
        capsys.readouterr()
        code = command([str(a) for a in argv])
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if not line.startswith(PROGRESS)]
        assert code == 2, err
        assert len(lines) == 1, err
        assert lines[0].startswith("framecast: ")
        assert "Traceback" not in err
        assert "wrote" not in out
        return lines[0].removeprefix("framecast: ")

    return run


@pytest.fixture
def asks_nobody():
    """(path) -> title of a page that Chromium opened: no request, dialog or console message, no wider than a phone."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs chromium: make setup-system")
    sync_api = pytest.importorskip("playwright.sync_api")

    def opened(path):
        with sync_api.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 390, "height": 800})
            page.set_default_timeout(300_000)
            requests, dialogs, complaints = [], [], []
            page.on("request", lambda request: requests.append(request.url))
            page.on("dialog", lambda dialog: dialogs.append(dialog.message))
            page.on("console", lambda message: complaints.append(message.text))
            page.goto(path.as_uri())
            page.wait_for_load_state("networkidle")
            assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
            assert not dialogs
            assert not complaints
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
            title = page.title()
            browser.close()
            return title

    return opened
