"""Real frames to begin with, from the run's own data, examples beside it, or the user's file."""

import dataclasses

import numpy as np
import pytest
import torch
from small_models import Acting, Plain, small_config, write_store

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest, ClipSpec
from framecast.data.options import DataConfig
from framecast.inference.starts import Starts, noise, open_starts
from framecast.media.write import write_video
from framecast.models.multiscale_gan.config import tiny
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.training.config import RunConfig
from framecast.training.run_folder import Run, open_run


def opened(folder, model_class=Plain, path="", spec=None, **model):
    config = small_config(model_class, **model)
    spec = spec or ClipSpec(channels=1, height=12, width=12)
    return Run(folder, dataclasses.replace(config, data=DataConfig(path=str(path)), spec=spec), model_class)


def test_starts_are_held_out_frames_of_the_runs_own_data(tmp_path):
    store = write_store(tmp_path / "data", videos=5, frames=60)
    starts = open_starts(opened(tmp_path, path=tmp_path / "data"))
    test = {store.names[s.video] for s in store.splits(3)["test"]}
    assert {name.split(",")[0] for name in starts.names} <= test
    assert 1 < len(starts) <= 12
    start = starts[0]
    assert start.seen.shape == (3, 1, 12, 12)
    first = start.last - 2
    assert np.array_equal(start.seen, store.clip(start.video, first, 3).frames)
    frame, action = start.after(1)
    assert np.array_equal(frame, store.clip(start.video, first + 3, 1).frames[0])
    assert action is None
    assert start.after(0) is None
    assert start.after(start.length) is not None
    assert start.after(start.length + 1) is None


def test_stride_and_actions_follow_the_model(tmp_path):
    store = write_store(tmp_path / "data", videos=3, frames=60, actions=True)
    segments = store.splits(9)["test"]
    starts = Starts(store, segments, ClipRequest(context=2, future=1, stride=3), 2, store.spec.actions)
    start = starts[1]
    clip = store.clip(start.video, start.last - 3, 10)
    assert np.array_equal(start.seen, clip.frames[[0, 3]])
    assert torch.equal(start.actions.argmax(-1), torch.tensor(clip.arrays["actions"][[0]]))
    frame, action = start.after(2)
    assert np.array_equal(frame, clip.frames[9])
    assert int(action.argmax()) == clip.arrays["actions"][6]
    assert starts.fps == pytest.approx(10 / 3)


def test_examples_beside_the_weights_come_before_the_data(tmp_path):
    write_store(tmp_path / "run" / "examples", videos=2, frames=20, seed=5)
    run = opened(tmp_path / "run", path=tmp_path / "nowhere")
    assert len(open_starts(run)) > 0


def test_user_video_is_a_start(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 24), np.uint8)
    path = write_video(frames, tmp_path / "mine.mp4", 10)
    spec = ClipSpec(channels=3, height=16, width=24)
    config = RunConfig(name="multiscale-gan", model=tiny(), data=DataConfig(path="gone"), spec=spec)
    starts = open_starts(Run(tmp_path, config, MultiscaleGAN), str(path), size="16x16")
    assert starts[0].seen.shape[1:] == (3, 16, 16)
    assert "mine" in starts.names[0]


def test_missing_data_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"its training data 'gone' are not here; name real frames with --data PATH"):
        open_starts(opened(tmp_path, path="gone"))
    with pytest.raises(UserError, match=r"^direct-any: its training data 'mixed-wide' are not here"):  # not a path
        open_starts(open_run("direct-any"))
    write_store(tmp_path / "data", videos=3, frames=20)
    with pytest.raises(UserError, match="has no actions but Acting requires them"):
        open_starts(opened(tmp_path, Acting, path=tmp_path / "data"))
    write_store(tmp_path / "colour", videos=3, frames=20, channels=3)
    with pytest.raises(UserError, match="its frames have 3 channels"):
        open_starts(opened(tmp_path, path=tmp_path / "colour"))
    write_store(tmp_path / "short", videos=3, frames=1)
    with pytest.raises(UserError, match="has 1 frames but one clip spans 2"):
        open_starts(opened(tmp_path), str(tmp_path / "short"))


def test_noise_is_uniform():
    frames = noise((4, 3, 16, 16), torch.Generator().manual_seed(0))
    assert frames.dtype == np.uint8
    assert (frames.min(), frames.max()) == (0, 255)
    assert abs(frames.mean() - 127.5) < 5


def test_restored_game_continues_under_given_actions(tmp_path):
    """Beside the dream stands the game itself: as recorded under the recorded actions, another way under others."""
    pytest.importorskip("ale_py")
    from framecast.data.store import Store
    from framecast.data.synthetic.atari import Atari, AtariConfig

    Atari(AtariConfig(episodes=3, max_frames=40, frame_skip=4)).prepare(tmp_path / "game")
    store = Store(tmp_path / "game")
    request = ClipRequest(context=2, future=1, resize=(32, 24))
    starts = Starts(store, store.splits(3)["test"], request, 3, store.spec.actions)
    start = starts[0]
    assert start.world is not None
    assert starts[0].world is start.world  # brought back once
    clip = store.clip(start.video, start.last, 9)
    state = start.before
    for number in range(1, 9):
        frame, state, _, _ = start.simulated(state, clip.arrays["actions"][number - 1])
        assert np.array_equal(frame, start.after(number)[0])
    other = start.before
    for _ in range(8):
        opposite = 3 if clip.arrays["actions"][0] != 3 else 2  # left, or right
        seen, other, _, _ = start.simulated(other, opposite)
    assert seen.shape == (3, 32, 24)
    assert not np.array_equal(seen, start.after(8)[0])


def test_game_that_replays_differently_is_not_restored(tmp_path, monkeypatch):
    pytest.importorskip("ale_py")
    from framecast.data.registry import replay
    from framecast.data.store import Store
    from framecast.data.synthetic.atari import Atari, AtariConfig, Console

    Atari(AtariConfig(episodes=1, max_frames=12)).prepare(tmp_path / "game")
    store = Store(tmp_path / "game")
    assert replay(store, 0, 5) is not None
    monkeypatch.setattr(Console, "frame", lambda self: np.zeros((3, 210, 160), np.uint8))
    assert replay(store, 0, 5) is None  # another emulator shows something else
    assert replay(write_store(tmp_path / "data", actions=True), 0, 5) is None  # nobody knows how it was made
