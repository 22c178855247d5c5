"""Splits: counts, gaps, stability, and the sentences for too little data."""

import itertools

import pytest

from framecast.core.errors import UserError
from framecast.data.base import SPLITS
from framecast.data.splits import choose, split_rule, split_videos


def names_of(n):
    return [f"video-{i:03d}" for i in range(n)]


def assert_disjoint(splits):
    segments = [(split, s) for split in SPLITS for s in splits[split]]
    for (_, a), (_, b) in itertools.combinations(segments, 2):
        assert a.video != b.video or a.stop <= b.start or b.stop <= a.start


@pytest.mark.parametrize(
    ("n", "counts"), [(3, (1, 1, 1)), (10, (8, 1, 1)), (14, (12, 1, 1)), (15, (11, 2, 2)), (100, (80, 10, 10))]
)
def test_whole_videos_are_split_80_10_10(n, counts):
    splits = split_videos(names_of(n), [50] * n, window=5)
    assert tuple(len(splits[s]) for s in SPLITS) == counts
    assert_disjoint(splits)
    assert sorted(s.video for part in splits.values() for s in part) == list(range(n))
    assert all((s.start, s.stop) == (0, 50) for part in splits.values() for s in part)
    assert "seeded hash" in split_rule(names_of(n), [50] * n, window=5)


def test_one_video_is_cut_in_time_with_a_gap_of_one_window():
    splits = split_videos(["only"], [100], window=5)
    (train,), (val,), (test,) = (splits[s] for s in SPLITS)
    assert (test.start, test.stop) == (80, 100)
    assert (val.start, val.stop) == (65, 75)
    assert (train.start, train.stop) == (0, 60)
    assert "cut in time" in split_rule(["only"], [100], window=5)
    assert "5 frames of gap" in split_rule(["only"], [100], window=5)


def test_two_videos_are_each_cut_in_time():
    splits = split_videos(["a", "b"], [100, 200], window=6)
    assert [len(splits[s]) for s in SPLITS] == [2, 2, 2]
    assert_disjoint(splits)
    for v in range(2):
        train, val, test = (next(s for s in splits[name] if s.video == v) for name in SPLITS)
        assert val.start - train.stop == 6
        assert test.start - val.stop == 6


def test_the_shortest_video_that_can_be_cut_holds_five_windows():
    splits = split_videos(["v"], [25], window=5)
    assert [(s.start, s.stop) for name in SPLITS for s in splits[name]] == [(0, 5), (10, 15), (20, 25)]
    with pytest.raises(UserError, match=r"'v' has 24 frames.*at least 25 frames"):
        split_videos(["v"], [24], window=5)


def test_a_short_second_video_goes_to_train():
    splits = split_videos(["long", "short"], [100, 7], window=5)
    assert [s.video for s in splits["train"]] == [0, 1]
    assert [s.video for s in splits["test"]] == [0]


def test_short_videos_do_not_fill_a_split():
    for k in range(3):  # whichever of three is too short, two usable ones remain and are cut in time
        lengths = [100, 100, 100]
        lengths[k] = 1
        splits = split_videos(names_of(3), lengths, window=5)
        assert all(any(s.stop - s.start >= 5 for s in splits[name]) for name in SPLITS)
        assert_disjoint(splits)


def test_empty_source_cannot_be_split():
    with pytest.raises(UserError, match="no video to split"):
        split_videos([], [], window=5)
    with pytest.raises(UserError, match="'b', has 4 frames but one clip spans 5"):
        split_videos(["a", "b", "c"], [1, 4, 2], window=5)


def test_splits_depend_on_seed_and_names_not_order():
    names = names_of(30)
    first = split_videos(names, [20] * 30, window=4)
    test_names = {names[s.video] for s in first["test"]}
    turned = names[::-1]
    again = split_videos(turned, [20] * 30, window=4)
    assert {turned[s.video] for s in again["test"]} == test_names
    other = split_videos(names, [20] * 30, window=4, seed=1)
    assert {names[s.video] for s in other["test"]} != test_names


def test_test_videos_do_not_depend_on_the_window():
    names, lengths = names_of(20), [30 + 7 * i for i in range(20)]
    assert split_videos(names, lengths, window=2)["test"] == split_videos(names, lengths, window=20)["test"]
    assert split_videos(["v"], [300], window=5)["test"] == split_videos(["v"], [300], window=40)["test"]


def test_fixed_folders_stay_and_val_is_cut_from_train():
    names = names_of(24)
    fixed = {name: "Test" if i >= 20 else "Train" for i, name in enumerate(names)}
    splits = split_videos(names, [30] * 24, window=5, fixed=fixed)
    assert [s.video for s in splits["test"]] == [20, 21, 22, 23]
    assert len(splits["val"]) == 2
    assert len(splits["train"]) == 18
    assert_disjoint(splits)
    assert "val (2) cut from train" in split_rule(names, [30] * 24, window=5, fixed=fixed)


def test_fixed_with_one_training_video_cuts_it_in_time():
    splits = split_videos(["a", "b"], [100, 40], window=5, fixed={"a": "train", "b": "test"})
    assert [(s.video, s.start, s.stop) for name in SPLITS for s in splits[name]] == [
        (0, 0, 85),
        (0, 90, 100),
        (1, 0, 40),
    ]


def test_fixed_val_is_kept():
    names = names_of(4)
    fixed = dict(zip(names, ["train", "train", "val", "test"], strict=True))
    splits = split_videos(names, [30] * 4, window=5, fixed=fixed)
    assert [[s.video for s in splits[name]] for name in SPLITS] == [[0, 1], [2], [3]]


def test_train_and_val_prescribed_test_is_cut_from_train():
    names = names_of(24)
    fixed = {name: "val" if i >= 20 else "train" for i, name in enumerate(names)}
    splits = split_videos(names, [30] * 24, window=5, fixed=fixed)
    assert [s.video for s in splits["val"]] == [20, 21, 22, 23]
    assert (len(splits["train"]), len(splits["test"])) == (18, 2)
    assert_disjoint(splits)
    assert "train and val as prescribed, test (2) cut from train" in split_rule(names, [30] * 24, 5, fixed=fixed)


def test_single_training_video_with_prescribed_val_is_cut_for_test():
    splits = split_videos(["a", "b"], [100, 40], window=5, fixed={"a": "train", "b": "val"})
    assert [(s.video, s.start, s.stop) for name in SPLITS for s in splits[name]] == [
        (0, 0, 75),
        (1, 0, 40),
        (0, 80, 100),
    ]


def test_prescribed_splits_without_train_are_kept():
    splits = split_videos(names_of(3), [30] * 3, window=5, fixed=dict.fromkeys(names_of(3), "test"))
    assert [len(splits[name]) for name in SPLITS] == [0, 0, 3]


def test_named_parts_of_a_split():
    class Source:
        names = names_of(6)
        subsets = {"video-003": "seen", "video-004": "novel", "video-005": "novel"}

        def splits(self, window):
            parts = ("train", "train", "val", "test", "test", "test")
            return split_videos(self.names, [30] * 6, window, fixed=dict(zip(self.names, parts, strict=True)))

    chosen = {split: [s.video for s in choose(Source(), split, 5)] for split in ("test", "test/seen", "test/novel")}
    assert chosen == {"test": [3, 4, 5], "test/seen": [3], "test/novel": [4, 5]}
    with pytest.raises(UserError, match="the test split has no part 'nvel'; use test/novel or test/seen"):
        choose(Source(), "test/nvel", 5)
    with pytest.raises(UserError, match="the train split has no part 'novel'; it has no parts, so use train"):
        choose(Source(), "train/novel", 5)
    with pytest.raises(UserError, match="--split 'tset' is not known"):
        choose(Source(), "tset", 5)


def test_video_outside_prescribed_folders_is_refused():
    with pytest.raises(UserError, match="'c' is in no split"):
        split_videos(["a", "b", "c"], [30] * 3, window=5, fixed={"a": "train", "b": "test"})


def test_cameras_of_one_episode_stay_in_one_split():
    names = [f"episode{e}-camera{c}" for e in range(12) for c in range(3)]
    groups = {name: name.split("-")[0] for name in names}
    for seed in range(5):
        splits = split_videos(names, [20] * 36, window=4, seed=seed, groups=groups)
        where = {}
        for split, segments in splits.items():
            for s in segments:
                assert where.setdefault(groups[names[s.video]], split) == split
        assert [len(splits[s]) for s in SPLITS] == [30, 3, 3]


def test_cameras_of_few_episodes_are_cut_at_equal_frames():
    names = ["left", "right"]
    splits = split_videos(names, [100, 98], window=4, groups=dict.fromkeys(names, "episode"))
    for name in SPLITS:
        left, right = splits[name]
        assert left.start == right.start
    assert_disjoint(splits)


def test_cameras_in_two_fixed_splits_are_refused():
    with pytest.raises(UserError, match="cameras of episode 'e'"):
        split_videos(["l", "r"], [50, 50], 5, fixed={"l": "train", "r": "test"}, groups={"l": "e", "r": "e"})
