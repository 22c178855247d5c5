"""A predictor that knows nothing of framecast: with NumPy and the written clips, moving content keeps its velocity.

    framecast data clips --data data/shapes --out clips
    python -m reproduction.constant_velocity clips forecasts
    framecast compare runs/mine forecasts --data data/shapes

Patches of one colour that changed are looked up in the frame before and carried on at the velocity found; what they
leave gets the frame's most common colour. Nothing bounces, nothing turns.
"""

import json
import sys
from pathlib import Path

import numpy as np

REACH = 8  # px that something may move in one frame
LARGEST = 600  # px of a patch that may move; what is larger is taken for the ground
ROUNDS = 100  # in which neighbours agree on the number of their patch; a long one falls into pieces
SPECK, MARGIN = 8, 2  # px of a patch that goes with what it touches (a blended edge, an eye), and how near that must be
SURE = 0.25  # of the error of standing still: what no velocity explains better than this stays where it is


def patches(codes):
    """Of every pixel the number of its patch: neighbours of one colour, from (h, w) colours as numbers."""
    numbers = np.arange(codes.size).reshape(codes.shape)
    down, right = codes[1:] == codes[:-1], codes[:, 1:] == codes[:, :-1]
    for _ in range(ROUNDS):
        before = numbers.copy()
        for same, a, b in ((down, numbers[1:], numbers[:-1]), (right, numbers[:, 1:], numbers[:, :-1])):
            most = np.maximum(a, b)
            a[same] = most[same]
            b[same] = np.maximum(b, most)[same]
        if (numbers == before).all():
            break
    return numbers


def moving(before, last):
    """[(rows, columns, down, right)]: the pixels of every patch that moves, with its specks, and whole px a frame."""
    numbers = patches(np.tensordot([65536, 256, 1], last[[0, len(last) // 2, -1]].astype(int), 1)).ravel()
    kinds, numbers = np.unique(numbers, return_inverse=True)
    padded = np.pad(before.astype(int), ((0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")
    reach = range(-REACH, REACH + 1)
    shifts = sorted(((y, x) for y in reach for x in reach), key=lambda s: s[0] ** 2 + s[1] ** 2)
    height, width = last.shape[1:]
    errors = []
    for y, x in shifts:
        came = padded[:, REACH - y : REACH - y + height, REACH - x : REACH - x + width]
        errors.append(np.bincount(numbers, weights=np.abs(last - came).sum(0).ravel(), minlength=len(kinds)))
    best, sizes = np.argmin(errors, axis=0), np.bincount(numbers)
    sure = (np.min(errors, axis=0) <= SURE * errors[0]) & (best > 0) & (sizes > SPECK) & (sizes <= LARGEST)
    specks = (sizes <= SPECK)[numbers].reshape(height, width)
    found = []
    for i in sure.nonzero()[0]:
        own = near = (numbers == i).reshape(height, width)
        for _ in range(MARGIN):
            edge = np.pad(near, 1)
            near = near | edge[2:, 1:-1] | edge[:-2, 1:-1] | edge[1:-1, 2:] | edge[1:-1, :-2]
        found.append((*(own | near & specks).nonzero(), *shifts[best[i]]))
    return found


def extrapolate(context, horizon):
    """uint8 (horizon, c, h, w) from uint8 (t, c, h, w): every moving patch at its constant velocity."""
    last = context[-1]
    colours, counts = np.unique(last.reshape(len(last), -1), axis=1, return_counts=True)
    found = moving(context[-2], last)
    ground = last.copy()
    for y, x, _, _ in found:
        ground[:, y, x] = colours[:, counts.argmax(), None]
    frames = np.repeat(ground[None], horizon, axis=0)
    for k in range(1, horizon + 1):
        for y, x, down, right in found:
            to_y, to_x = y + k * down, x + k * right
            inside = (to_y >= 0) & (to_y < last.shape[1]) & (to_x >= 0) & (to_x < last.shape[2])
            frames[k - 1][:, to_y[inside], to_x[inside]] = last[:, y[inside], x[inside]]
    return frames


def main(clips, out):
    """Forecasts of every clip in `clips` into `out`, with the manifest that names their source."""
    manifest = json.loads((clips / "manifest.json").read_text())
    manifest["predictor"] = {"name": "constant velocity", "parameters": 0}
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").write_text(json.dumps(manifest))
    for clip in manifest["clips"]:
        with np.load(clips / f"{clip['id']}.npz") as arrays:
            frames = extrapolate(arrays["context"], manifest["horizon"])
        np.savez_compressed(out / f"{clip['id']}.npz", prediction=frames)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
