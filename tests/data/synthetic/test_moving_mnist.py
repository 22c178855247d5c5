"""Moving digits follow the published law; the published array is read with its axes and its split."""

from importlib.util import find_spec

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.synthetic.moving_mnist import MovingMnist, MovingMnistConfig, drawn, handwritten_digits, trajectory

pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")


def test_digits_move_straight_and_are_reflected():
    places = trajectory(2000, np.random.default_rng(3))
    assert places.min() == 0
    assert places.max() == 36
    steps = np.abs(np.diff(places, axis=0))
    inside = steps[1:][(np.abs(steps[1:] - steps[:-1]) <= 1).all(axis=1)]
    assert np.hypot(*inside.T).mean() == pytest.approx(3.6, abs=0.5)


def test_videos_show_their_digits_at_their_positions(tmp_path):
    source = MovingMnist(MovingMnistConfig(train=3, val=1, test=2))
    source.prepare(tmp_path / "store")
    store = open_path(tmp_path / "store")
    assert (store.spec.channels, store.spec.height, store.spec.width, store.lengths) == (1, 64, 64, [20] * 6)
    assert {split: len(parts) for split, parts in store.splits(20).items()} == {"train": 3, "val": 1, "test": 2}
    clip = store.clip(0, 0, 20)
    images = handwritten_digits()[0]
    assert images.shape == (1797, 28, 28)
    x, y = clip.arrays["positions"][5, 0].astype(int)
    assert clip.frames[5, 0, y : y + 28, x : x + 28].max() > 200
    assert len(clip.meta["digits"]) == 2
    assert drawn(images[:1], np.array([[[0, 36]]]))[0, 0, 36:, :28].tolist() == images[0].tolist()
    with pytest.raises(UserError, match="frames must be at least 2"):
        MovingMnistConfig(frames=1)


def test_published_array(tmp_path):
    videos = np.random.default_rng(0).integers(0, 256, (20, 5, 64, 64), np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", videos)
    source = open_path(tmp_path / "mnist_test_seq.npy")
    assert (len(source), source.lengths, source.spec.channels) == (5, [20] * 5, 1)
    assert np.array_equal(source.clip(3, 0, 20).frames[:, 0], videos[:, 3])
    assert set(source.fixed.values()) == {"test"}
    assert len(source.splits(20)["test"]) == 5
