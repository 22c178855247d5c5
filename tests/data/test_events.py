"""Windows near events, and the training videos that a model may read before it is built."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data.base import Segment
from framecast.data.events import EventWindows, TrainingVideos
from framecast.data.loader import Loader
from framecast.data.store import DatasetWriter, Store


@pytest.fixture
def store(tmp_path):
    with DatasetWriter(tmp_path / "s") as writer:
        for v in range(3):
            rewards = np.zeros(60, np.float32)
            rewards[30 + v] = 1
            states = np.zeros((60, 2), np.int16)
            states[40:, 1] = 1
            frames = np.full((60, 3, 8, 8), v, np.uint8)
            writer.add(frames, actions=np.zeros(60, np.int64), states=states, rewards=rewards)
    return Store(tmp_path / "s")


def segments():
    return [Segment(v, 0, 60) for v in range(3)]


def test_event_windows_have_the_event_among_their_targets(store):
    request = ClipRequest(context=5, future=4, events=("rewards", "states:1"), event_share=1.0)
    events = EventWindows(store, segments(), request)
    uniforms = np.random.default_rng(0).random((64, 4))
    videos, starts = events.replace(np.zeros(64, np.int64), np.zeros(64, np.int64), uniforms)
    inside = 0
    for video, start in zip(videos, starts, strict=True):
        targets = range(start + 5, start + 9)
        assert {30 + video, 31 + video, 40} & set(targets)
        inside += 40 in targets
    assert 16 <= inside <= 48  # each kind of event about equally often
    assert len(set(videos.tolist())) == 3


def test_without_a_share_no_window_changes_and_draws_without_events_stay_the_same(store):
    request = ClipRequest(context=5, future=4, events=("rewards",), event_share=0.0)
    plain = Loader(store, segments(), ClipRequest(context=5, future=4), 8, seed=3).batch(7)
    same = Loader(store, segments(), request, 8, seed=3).batch(7)
    assert (plain.context == same.context).all()


@pytest.mark.parametrize(
    ("name", "message"), [("score", "no per-frame array 'score'"), ("states:0", "no change of 'states:0'")]
)
def test_an_array_without_events_is_refused(store, name, message):
    with pytest.raises(UserError, match=message):
        EventWindows(store, segments(), ClipRequest(context=5, future=4, events=(name,)))


def test_training_videos_give_evenly_spaced_frames_and_whole_arrays(store):
    videos = TrainingVideos(store, [Segment(0, 10, 50), Segment(2, 0, 20)])
    assert len(videos.array("rewards")) == 60
    frames = list(videos.frames(12))
    assert len(frames) == 12
    assert [int(f[0, 0, 0]) for f in frames] == [0] * 8 + [2] * 4
    assert len(list(videos.frames(1000))) == 60
