"""A roll-out of any length: one frame per call, as a game or a robot needs it.

python examples/frame_by_frame.py                        # trains a small model first
python examples/frame_by_frame.py --run runs/demo/run    # uses an existing run
"""

import argparse
from pathlib import Path

import torch

import framecast
from framecast.data.cache import open_data
from framecast.evaluation.clips import held_out_clips
from framecast.models.rollout import RolloutSession
from framecast.training.run_folder import open_run


def main(run: Path | None, out: Path, frames: int, tiny: bool) -> None:
    if run is None:
        length = {"steps": 3} if tiny else {"budget": "60s"}
        run = out / "run"
        framecast.train("multiscale-gan", "bouncing", out=run, profile="tiny" if tiny else "small", **length)
    opened = open_run(run)
    model = opened.model()

    # A context from the held-out videos of the run's data.
    source, _ = open_data(opened.config.data)
    request = type(model).request(model.config)
    batch = next(iter(held_out_clips(source, request, "test", model.num_context, 4, 1, seed=0))).to("cpu")

    # `rollout_init` makes the state, each `rollout_step` one frame; the session keeps the state and sets eval mode.
    session = RolloutSession(model, batch.context)
    future = torch.stack([session.step() for _ in range(4 if tiny else frames)], dim=1)

    # The same numbers as predicting all frames at once.
    at_once = framecast.rollout(model, batch.context, future.shape[1])[0]
    print(f"largest difference to predicting at once: {(future - at_once).abs().max():.1e}")
    film = torch.cat([batch.context, future], dim=1)[0]
    print(f"film: {framecast.write_video(film, out / 'dream.gif', 15)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=None, help="a run folder; one is trained if not given")
    parser.add_argument("--out", type=Path, default=Path("runs/example-dream"), help="folder for run and film")
    parser.add_argument("--frames", type=int, default=64, help="frames to predict")
    parser.add_argument("--tiny", action="store_true", help="a few steps, a few frames")
    main(**vars(parser.parse_args()))
