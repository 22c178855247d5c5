"""Windows: the movement score, the published draw, crops, and windows for evaluation."""

import itertools

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest, MotionFilter
from framecast.data.base import Segment
from framecast.data.store import DatasetWriter, Store
from framecast.data.windows import Windows, movement_score


def store_of(folder, videos):
    with DatasetWriter(folder) as w:
        for i, frames in enumerate(videos):
            w.add(frames, name=f"v{i}", axes="tchw")
    return Store(folder)


def whole(store):
    return [Segment(i, 0, n) for i, n in enumerate(store.lengths)]


def noise(t, h=8, w=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (t, 3, h, w), dtype=np.uint8)


# ------------------------------------------------------------------------------------------------------- movement score


def test_still_clip_scores_zero():
    assert movement_score(np.repeat(noise(1), 5, axis=0)) == 0


def test_one_pixel_on_and_off_scores_24():
    frames = np.zeros((5, 3, 32, 32), np.uint8)
    frames[2, :, 7, 9] = 255
    assert movement_score(frames) == 24


def test_a_sprite_that_leaves_its_place_scores_1536():
    frames = np.zeros((2, 3, 32, 32), np.uint8)
    frames[0, :, :8, :8] = 255
    frames[1, :, 16:24, 16:24] = 255
    assert movement_score(frames) == 1536


def test_score_equals_the_plain_sum():
    frames = noise(4, 5, 6)
    scaled = frames.astype(np.float64) / 255 * 2 - 1
    total = 0.0
    for k, c, y, x in itertools.product(range(3), range(3), range(5), range(6)):
        total += (scaled[k + 1, c, y, x] - scaled[k, c, y, x]) ** 2
    assert movement_score(frames) == pytest.approx(total, rel=1e-12)


# -------------------------------------------------------------------------------------------------------------- drawing


def test_every_admissible_window_counts_and_no_other(tmp_path):
    store = store_of(tmp_path / "s", [noise(10), noise(4), noise(25)])
    request = ClipRequest(context=2, future=1, stride=3)  # spans 7 source frames
    windows = Windows(store, whole(store), request)
    assert windows.count == 4 + 19
    assert windows.left_out == ["v1"]
    videos, starts = windows.at(np.arange(windows.count))
    assert list(zip(videos.tolist(), starts.tolist(), strict=True)) == [(0, i) for i in range(4)] + [
        (2, i) for i in range(19)
    ]


def test_videos_are_drawn_uniformly_regardless_of_length(tmp_path):
    store = store_of(tmp_path / "s", [noise(6), noise(60)])
    windows = Windows(store, whole(store), ClipRequest(context=4))
    rng = np.random.default_rng(0)
    draws = [windows.draw(rng) for _ in range(2000)]
    assert 900 < sum(video == 0 for video, _ in draws) < 1100
    assert {start for video, start in draws if video == 0} == {0, 1}
    assert {start for video, start in draws if video == 1} == set(range(56))


def test_two_segments_of_one_video_are_one_video(tmp_path):
    store = store_of(tmp_path / "s", [noise(30), noise(30)])
    segments = [Segment(0, 0, 6), Segment(0, 10, 20), Segment(1, 0, 30)]
    windows = Windows(store, segments, ClipRequest(context=4))
    rng = np.random.default_rng(0)
    draws = [windows.draw(rng) for _ in range(2000)]
    assert 900 < sum(video == 0 for video, _ in draws) < 1100
    assert {start for video, start in draws if video == 0} == {0, 1, *range(10, 16)}


def test_cut_returns_the_requested_frames(tmp_path):
    frames = noise(30)
    store = store_of(tmp_path / "s", [frames])
    windows = Windows(store, whole(store), ClipRequest(context=2, future=2, stride=3))
    np.testing.assert_array_equal(windows.cut(0, 5).frames, frames[5:15:3])


def test_frames_are_resized_before_they_are_cropped(tmp_path):
    store = store_of(tmp_path / "s", [noise(10, 20, 30)])
    windows = Windows(store, whole(store), ClipRequest(context=4, resize=(10, 12), crop=(6, 6)))
    rng = np.random.default_rng(0)
    assert windows.cut(0, 0).frames.shape == (5, 3, 10, 12)
    assert windows.cut(0, 0, rng).frames.shape == (5, 3, 6, 6)


def test_crops_cover_all_positions(tmp_path):
    frames = np.zeros((6, 3, 5, 6), np.uint8)
    frames[:, 0], frames[:, 1] = np.arange(5)[:, None], np.arange(6)
    store = store_of(tmp_path / "s", [frames])
    windows = Windows(store, whole(store), ClipRequest(context=4, crop=(3, 4)))
    rng = np.random.default_rng(0)
    corners = {tuple(windows.cut(0, 0, rng).frames[0, :2, 0, 0].tolist()) for _ in range(300)}
    assert corners == set(itertools.product(range(3), range(3)))


# -------------------------------------------------------------------------------------------------------- motion filter


def moving(h=20, w=20):
    """Something moves in the top-left corner only."""
    frames = np.zeros((5, 3, h, w), np.uint8)
    for i in range(5):
        frames[i, :, 2 * i : 2 * i + 4, :4] = 255
    return frames


def test_about_five_per_cent_bypass_the_filter(tmp_path):
    frames = moving()
    store = store_of(tmp_path / "s", [frames])
    request = ClipRequest(context=4, crop=(8, 8), motion_filter=MotionFilter())
    windows = Windows(store, whole(store), request)
    rng = np.random.default_rng(0)
    still = sum(movement_score(windows.cut(0, 0, rng).frames) <= 100 for _ in range(2000))
    # One crop in five shows the motion, so about 4 % of clips are still ones let through.
    assert 50 < still < 120
    strict = Windows(store, whole(store), ClipRequest(context=4, crop=(8, 8), motion_filter=MotionFilter(bypass=0)))
    assert all(movement_score(strict.cut(0, 0, rng).frames) > 100 for _ in range(200))


def test_still_video_stops_after_the_given_tries(tmp_path, monkeypatch):
    store = store_of(tmp_path / "s", [np.repeat(noise(1, 40, 40), 5, axis=0)])
    tries = []
    monkeypatch.setattr("framecast.data.windows.movement_score", lambda frames: tries.append(frames) or 0.0)
    windows = Windows(store, whole(store), ClipRequest(context=4, crop=(8, 8), motion_filter=MotionFilter(bypass=0)))
    clip = windows.cut(0, 0, np.random.default_rng(0))
    assert len(tries) == 100
    assert np.shares_memory(clip.frames, tries[-1])
    np.testing.assert_array_equal(clip.frames, tries[-1])


def test_score_must_exceed_the_threshold(tmp_path):
    frames = np.zeros((2, 1, 2, 2), np.uint8)
    frames[1, 0, 0, 0] = 255  # scores exactly 4
    store = store_of(tmp_path / "s", [frames])
    for threshold, taken in ((4.0, False), (3.999, True)):
        motion = MotionFilter(threshold=threshold, bypass=0, tries=50)
        windows = Windows(store, whole(store), ClipRequest(context=1, crop=(1, 1), motion_filter=motion))
        found = [movement_score(windows.cut(0, 0, np.random.default_rng(i)).frames) == 4 for i in range(40)]
        assert all(found) is taken


# ----------------------------------------------------------------------------------------------------------- evaluation


def test_fixed_windows_are_spread_sorted_and_disjoint(tmp_path):
    store = store_of(tmp_path / "s", [noise(100), noise(60), noise(20)])
    windows = Windows(store, whole(store), ClipRequest(context=4, future=6))
    pairs = windows.fixed(9)
    assert pairs == sorted(pairs) == windows.fixed(9)
    assert len(set(pairs)) == 9
    by_video = {v: [s for w, s in pairs if w == v] for v in range(3)}
    assert [len(by_video[v]) for v in range(3)] in ([3, 4, 2], [4, 3, 2])
    for starts in by_video.values():
        assert all(b - a >= 10 for a, b in itertools.pairwise(starts))
    assert by_video[2] == [0, 10]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 18, 19, 50, 147, 500])
def test_fixed_returns_n_distinct_windows_or_all(tmp_path, n):
    store = store_of(tmp_path / "s", [noise(100), noise(60), noise(20)])
    windows = Windows(store, whole(store), ClipRequest(context=4, future=6))
    pairs = windows.fixed(n)
    assert len(set(pairs)) == len(pairs) == min(n, windows.count)
    assert all(0 <= s <= store.lengths[v] - 10 for v, s in pairs)
    if n <= 18:
        apart = [b - a for (u, a), (v, b) in itertools.pairwise(pairs) if u == v]
        assert all(gap >= 10 for gap in apart)


def test_fixed_windows_stay_within_their_segment(tmp_path):
    store = store_of(tmp_path / "s", [noise(100)])
    windows = Windows(store, [Segment(0, 80, 100)], ClipRequest(context=4, future=1))
    for seed in range(20):
        (_, first), (_, second) = windows.fixed(2, seed)
        assert 80 <= first <= 85 < 90 <= second <= 95
    assert len(windows.fixed(16)) == 16 == windows.count


def test_fixed_windows_of_equally_long_videos_start_in_every_phase(tmp_path):
    """Where something blinks in step with all videos, evenly spread starts would meet one phase of it alone."""
    store = store_of(tmp_path / "s", [noise(100) for _ in range(60)])
    pairs = Windows(store, whole(store), ClipRequest(context=4, future=6)).fixed(60)
    assert [v for v, _ in pairs] == list(range(60))
    for period in (2, 4, 8):
        counts = np.bincount([start % period for _, start in pairs], minlength=period)
        assert counts.min() > 0.25 * 60 / period
    assert abs(np.mean([start for _, start in pairs]) - 45) < 12


def test_seed_determines_positions_and_remainders(tmp_path):
    store = store_of(tmp_path / "s", [noise(50) for _ in range(8)])
    windows = Windows(store, whole(store), ClipRequest(context=4))
    assert len({tuple(v for v, _ in windows.fixed(3, seed=s)) for s in range(10)}) > 1
    zero, one = windows.fixed(8, seed=0), windows.fixed(8, seed=1)
    assert [v for v, _ in zero] == [v for v, _ in one] == list(range(8))
    assert zero != one


# ------------------------------------------------------------------------------------------------------------ bad input


def test_too_short_source_error_names_the_longest_video(tmp_path):
    store = store_of(tmp_path / "s", [noise(1), noise(3)])
    with pytest.raises(
        UserError, match="'v1' is the longest and has 3 frames but one clip spans 5; give a longer clip"
    ):
        Windows(store, whole(store), ClipRequest(context=4))
    with pytest.raises(UserError, match="2 frames in this split"):
        Windows(store, [Segment(1, 0, 2)], ClipRequest(context=4))
    with pytest.raises(UserError, match="holds no video"):
        Windows(store, [], ClipRequest(context=4))


def test_too_small_image_error_names_a_size(tmp_path):
    store = store_of(tmp_path / "s", [noise(9, 3, 3)])
    with pytest.raises(UserError, match=r"'v0' is 3x3, smaller than the 32x32 crops.*--size 32x32"):
        Windows(store, whole(store), ClipRequest(context=4, crop=(32, 32)))
    Windows(store, whole(store), ClipRequest(context=4, crop=(32, 32), resize=(40, 40)))


def test_two_sizes_need_a_size_or_a_crop(tmp_path):
    store = store_of(tmp_path / "s", [noise(9), noise(9), noise(9, 10, 12)])
    with pytest.raises(UserError, match=r"'v2' is 10x12 but others are 8x8; .*--size 8x8"):
        Windows(store, whole(store), ClipRequest(context=4))
    for request in (ClipRequest(context=4, crop=(8, 8)), ClipRequest(context=4, resize=(8, 8))):
        windows = Windows(store, whole(store), request)
        assert windows.cut(2, 0, np.random.default_rng(0)).frames.shape == (5, 3, 8, 8)


def test_channels_must_agree(tmp_path):
    store = store_of(tmp_path / "s", [noise(9), noise(9), noise(9)[:, :1]])
    with pytest.raises(UserError, match="'v2' has 1 channels but the others 3"):
        Windows(store, whole(store), ClipRequest(context=4))


def test_sources_without_shapes_are_checked_on_reading(tmp_path):
    class WithoutShapes:  # the store without its list of shapes, as readers of files
        def __init__(self, store):
            self.spec, self.names, self.lengths, self.clip = store.spec, store.names, store.lengths, store.clip

    source = WithoutShapes(store_of(tmp_path / "s", [noise(9), noise(9), noise(9, 3, 3)]))
    windows = Windows(source, whole(source), ClipRequest(context=4, crop=(6, 6)))
    assert windows.cut(0, 0, np.random.default_rng(0)).frames.shape == (5, 3, 6, 6)
    with pytest.raises(UserError, match="'v2' is 3x3, smaller than the 6x6 crops"):
        windows.cut(2, 0, np.random.default_rng(0))
