"""Synthetic source `moving-mnist`: two handwritten digits that move and bounce in 64x64, grey on black.

Digits are those that scikit-learn ships (1,797 of 8x8 pixels, enlarged to 28x28), so that nothing is downloaded; the
first nine in ten are drawn in training and validation, the rest in test videos. The law of motion is the published one.

Source: Srivastava, Mansimov, Salakhutdinov 2015, arXiv 1502.04681, and the generator of its release: canvas 64, digits
of 28, 20 frames, step length 0.1, 10 frames in and 10 out.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import imported
from framecast.data.synthetic.generator import Plan, SyntheticSource
from framecast.media.resize import resize_frames

SIDE, DIGIT, STEP, FRAMES = 64, 28, 0.1, 20


@dataclass(frozen=True, kw_only=True)
class MovingMnistConfig:
    """Settings of the moving digits; the published test set has 10,000 videos."""

    train: int = 10_000
    """Number of training videos."""
    val: int = 1_000
    """Number of validation videos."""
    test: int = 1_000
    """Number of test videos, of digits that no training video shows."""
    frames: int = FRAMES
    """Frames per video; the published protocol predicts the last 10 of 20 from the first 10."""
    digits: int = 2
    """Number of digits in a video."""
    seed: int = 0
    """Random seed of digits, places and directions."""

    def __post_init__(self) -> None:
        require_least(self, "moving-mnist: ", train=1, val=1, test=1, frames=2, digits=1, seed=0)


class MovingMnist(SyntheticSource):
    """Moving handwritten digits as a packed store, one channel.

    Per frame: `positions` (digits, 2): x and y of the upper left corner of each digit, px.
    """

    Config: ClassVar[type] = MovingMnistConfig
    name = "moving-mnist"
    report_every = 100

    def plan(self, folder: Path) -> Plan:
        config: MovingMnistConfig = self.config
        total = config.train + config.val + config.test
        size = total * config.frames * (SIDE**2 + 8 * config.digits)
        meta = {"protocol": {"context": 10, "horizon": 10}}
        return Plan(total=total, size=size, fps=10.0, videos=self._videos(), meta=meta)

    def _videos(self) -> Generator[dict[str, Any], None, None]:
        config: MovingMnistConfig = self.config
        images, labels = handwritten_digits()
        border = len(images) * 9 // 10
        for number, (split, count) in enumerate((("test", config.test), ("train", config.train), ("val", config.val))):
            for video in range(count):
                rng = np.random.default_rng([config.seed, number, video])
                chosen = rng.integers(border, len(images), config.digits) if split == "test" else None
                chosen = rng.integers(0, border, config.digits) if chosen is None else chosen
                places = np.stack([trajectory(config.frames, rng) for _ in chosen], axis=1)
                yield {
                    "frames": drawn(images[chosen], places),
                    "name": f"moving-mnist-{split}-{video:05d}",
                    "axes": "tchw",
                    "split": split,
                    "meta": {"digits": labels[chosen].tolist()},
                    "positions": places.astype(np.float32),
                }


def handwritten_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (1797, 28, 28), and labels 0…9 (1797,).

    Raises:
        UserError: scikit-learn is not installed.
    """
    missing = "moving-mnist needs the digits of scikit-learn: pip install 'framecast[digits]'"
    found = imported("sklearn.datasets", missing).load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    return resize_frames(pixels[:, None], (DIGIT, DIGIT))[:, 0], found.target


def trajectory(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Places of the upper left corner of one digit, px, integers (frames, 2) as x and y.

    Source: the published generator: a uniform start and direction, steps of 0.1 of the free range, reflected at its
    borders.
    """
    place, angle = rng.random(2), rng.random() * 2 * np.pi
    speed = np.array([np.cos(angle), np.sin(angle)])
    found = np.empty((frames, 2), np.int64)
    for i in range(frames):
        place = place + STEP * speed
        speed = np.where((place <= 0) | (place >= 1), -speed, speed)
        place = np.clip(place, 0, 1)
        found[i] = np.floor((SIDE - DIGIT) * place)
    return found


def drawn(digits: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Video of digits at places, uint8 (t, 1, 64, 64); the brighter pixel shows where digits overlap.

    Args:
        digits: uint8 (n, 28, 28).
        places: x and y of the upper left corners, px, (t, n, 2).
    """
    out = np.zeros((len(places), 1, SIDE, SIDE), np.uint8)
    for frame, corners in zip(out[:, 0], places, strict=True):
        for digit, (x, y) in zip(digits, corners, strict=True):
            part = frame[y : y + DIGIT, x : x + DIGIT]
            np.maximum(part, digit, out=part)
    return out
