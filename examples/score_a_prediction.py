"""Measure predictions made by any program: arrays in, one number per clip and frame out.

python examples/score_a_prediction.py
"""

import argparse

import numpy as np
import torch

from framecast import metrics


def scene(clips, length, size):
    """Bright squares gliding over a fixed pattern: float32 (b, t, 1, h, w) in 0…1."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.uniform(0.2, 0.4, (clips, 1, 1, size, size)), length, axis=1)
    for b in range(clips):
        row, column, speed = rng.integers(2, size // 3), rng.integers(2, size // 3), rng.integers(1, 3)
        for t in range(length):
            frames[b, t, 0, row : row + 6, column + speed * t : column + speed * t + 6] = 0.9
    return torch.from_numpy(frames.astype(np.float32))


def main(tiny: bool) -> None:
    clips, horizon = (2, 4) if tiny else (16, 8)
    frames = scene(clips, 1 + horizon, 40)
    last, truth = frames[:, 0], frames[:, 1:]
    rows = {
        "copy-last": last[:, None].expand_as(truth),
        "one frame late": frames[:, :-1],
        "blurred truth": torch.nn.functional.avg_pool2d(truth.flatten(0, 1), 3, 1, 1).view_as(truth),
        "truth + noise": (truth + 0.02 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))),
    }
    # The moving area, not the static background, distinguishes predictors.
    moving = metrics.moving_mask(truth, last[:, None])
    print(f"{'':<16}{'PSNR':>8}{'moving PSNR':>14}{'SSIM':>8}{'sharpness':>12}   (mean over clips, last frame)")
    for name, prediction in rows.items():
        prediction = prediction.clamp(0, 1)
        values = [
            metrics.psnr(prediction, truth),
            metrics.masked_psnr(prediction, truth, moving),
            metrics.ssim(prediction, truth),
            metrics.sharpness_ratio(prediction, truth),
        ]
        psnr, moving_psnr, ssim, sharpness = (float(v[:, -1].mean()) for v in values)
        print(f"{name:<16}{psnr:>8.2f}{moving_psnr:>14.2f}{ssim:>8.3f}{sharpness:>12.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="fewer clips")
    main(**vars(parser.parse_args()))
