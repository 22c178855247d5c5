"""Train a predictor on bouncing shapes, score it on held-out videos and write a video of one forecast.

python examples/train_and_predict.py            # about two minutes on two cores
python examples/train_and_predict.py --tiny     # seconds, to check that everything runs
"""

import argparse
from pathlib import Path

import framecast
from framecast.data.store import Store
from framecast.data.synthetic.bouncing import Bouncing, BouncingConfig
from framecast.evaluation.headline import describe
from framecast.media.grid import side_by_side


def main(out: Path, tiny: bool) -> None:
    data, run, horizon = out / "data", out / "run", 4 if tiny else 24

    # 1. Data: a packed store. A video file, a folder of frames or an .npy file would do as well.
    if not data.exists():
        Bouncing(BouncingConfig(videos=4 if tiny else 60, frames=24 if tiny else 64)).prepare(data)

    # 2. Train. The same call again resumes.
    length = {"steps": 3} if tiny else {"budget": "90s"}
    framecast.train("direct", data, out=run, profile="tiny" if tiny else "small", **length)

    # 3. Score on held-out videos, beside the baselines.
    scores, _ = framecast.evaluate(run, horizon=horizon, clips=2 if tiny else 16)
    print(describe(scores))

    # 4. Predict: context in, futures out, (samples, batch, time, channels, height, width).
    model, store = framecast.load(run), Store(data)
    test = store.splits(model.num_context + horizon)["test"][0]
    frames = store.clip(test.video, test.start, model.num_context + horizon).frames.copy()
    context, truth = frames[: model.num_context], frames[model.num_context :]
    future = model.predict(context, horizon)
    film = framecast.write_video(side_by_side({"truth": truth, "prediction": future[0, 0]}), out / "forecast.gif", 15)
    print(f"film: {film}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/example-train"), help="folder for data, run and film")
    parser.add_argument("--tiny", action="store_true", help="a few steps on little data")
    main(**vars(parser.parse_args()))
