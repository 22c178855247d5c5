"""Data from any other program: frames with actions and states, written as a packed store and trained on.

python examples/your_own_data.py --out runs/example-data
framecast data inspect runs/example-data/data --sheet sheet.png
"""

import argparse
from pathlib import Path

import numpy as np

import framecast
from framecast.data.inspect import inspect
from framecast.data.store import Store
from framecast.evaluation.headline import describe

SIZE = 32


def episode(rng, length):
    """A disc pushed about by random forces: frames (t, h, w, c) uint8, pushes (t, 2), positions (t, 2)."""
    place, speed = rng.uniform(8, SIZE - 8, 2), np.zeros(2)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    frames, pushes, places = [], [], []
    for _ in range(length):
        inside = (columns - place[0]) ** 2 + (rows - place[1]) ** 2 < 16
        frames.append(np.where(inside[..., None], (240, 180, 40), (60, 60, 70)).astype(np.uint8))
        pushes.append(rng.normal(0, 0.6, 2))  # done at this frame, leads to the next
        places.append(place.copy())
        speed = 0.9 * speed + pushes[-1]
        hit = (place + speed < 5) | (place + speed > SIZE - 5)
        speed[hit] *= -1
        place = place + speed
    return np.stack(frames), np.stack(pushes), np.stack(places)


def main(out: Path, tiny: bool) -> None:
    data, rng = out / "data", np.random.default_rng(0)
    if not data.exists():
        with framecast.DatasetWriter(data, fps=20, meta={"generator": "pushed disc", "seed": 0}) as writer:
            for _ in range(4 if tiny else 40):
                frames, pushes, places = episode(rng, 20 if tiny else 100)
                writer.add(frames, actions=pushes, states=places)
    summary = inspect(Store(data))
    print(f"{summary['videos']} videos, {summary['frames']} frames in {data}")
    length = {"steps": 3} if tiny else {"budget": "60s"}
    run = framecast.train("multiscale-gan", data, out=out / "run", profile="tiny" if tiny else "small", **length)
    print(describe(framecast.evaluate(run, horizon=4, clips=2 if tiny else 16)[0]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/example-data"), help="folder for data and run")
    parser.add_argument("--tiny", action="store_true", help="a few steps on little data")
    main(**vars(parser.parse_args()))
