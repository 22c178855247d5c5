"""Clips in TFRecords: what was written is read, in either schema, and what is wrong is named."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, ClipRequest
from framecast.data.base import SPLITS, RecordSettings
from framecast.data.loader import Loader, action_statistics
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.readers.tfrecord_format import feature, make_example, parse_example, read_record, scan, write_record
from framecast.data.readers.tfrecords import TFRecords
from framecast.data.store import DatasetWriter, Store, pack
from framecast.data.tfrecord_writer import write_records

FRAMES = 6


def smooth(rng, count=FRAMES, height=16, width=24):
    """Frames that JPEG keeps nearly as they are: a slope of colour that drifts."""
    y, x = np.mgrid[0:height, 0:width]
    slopes = rng.uniform(-3, 3, (3, 3))
    waves = [128 + a * y + b * x + 4 * c * t for t in range(count) for a, b, c in slopes]
    return np.clip(np.reshape(waves, (count, 3, height, width)), 0, 255).astype(np.uint8)


def robot_store(folder, videos=9):
    """Clips with all that a robot's have, their splits prescribed, the test in a seen and a novel part."""
    splits = [("train", None)] * (videos - 3) + [("val", None), ("test", "seen"), ("test", "novel")]
    with DatasetWriter(folder, fps=10, meta={"generator": "test", "version": 3, "parameters": {"seed": 5}}) as writer:
        for number, (split, subset) in enumerate(splits):
            rng = np.random.default_rng(number)
            writer.add(
                smooth(rng),
                actions=rng.normal(size=(FRAMES, 5)),
                states=rng.normal(size=(FRAMES, 5)),
                joints=rng.normal(size=(FRAMES, 7)).astype(np.float32),
                objects=rng.normal(size=(FRAMES, 3, 7)).astype(np.float32),
                masks=rng.integers(0, 4, (FRAMES, 16, 24), dtype=np.uint8),
                names=rng.integers(0, 9, FRAMES),
                meta={"subject": f"S{number}"},
                name=f"push-{number:03d}",
                split=split,
                subset=subset,
            )
    return Store(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return robot_store(tmp_path_factory.mktemp("robot") / "store")


@pytest.fixture(scope="module")
def published(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "records"
    write_records(store, folder, "published", per_file=4)
    return folder


@pytest.fixture(scope="module")
def robot_push(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("robot-push") / "records"
    write_records(store, folder, "robot-push")
    return folder


def features_of(folder, file=0, number=0):
    path = sorted(folder.glob("[!.]*"))[file]
    return parse_example(read_record(path, *scan(path)[number], number))


def test_file_names_hold_the_split(published):
    assert [f"{path.name}: {len(scan(path))}" for path in sorted(published.glob("[!.]*"))] == [
        "clips-testnovel-00000-of-00001.tfrecord: 1",
        "clips-testseen-00000-of-00001.tfrecord: 1",
        "clips-train-00000-of-00002.tfrecord: 4",
        "clips-train-00001-of-00002.tfrecord: 2",
        "clips-validation-00000-of-00001.tfrecord: 1",
    ]


def test_published_keys_are_written(published):
    features = features_of(published)
    per_frame = ["image", "action", "state", "joint_positions", "object_pose", "mask", "array_names"]
    wanted = {f"{name}_{i}" for name in per_frame for i in range(FRAMES)} | {"meta", "subject"}
    assert set(features) == wanted
    shapes = {name: feature(features[name]) for name in ("action_0", "state_5", "joint_positions_2", "object_pose_0")}
    assert {k: (v.dtype.name, v.shape) for k, v in shapes.items()} == {
        "action_0": ("float32", (5,)),
        "state_5": ("float32", (5,)),
        "joint_positions_2": ("float32", (7,)),
        "object_pose_0": ("float32", (21,)),
    }
    assert Image.open(io.BytesIO(feature(features["image_0"])[0])).format == "JPEG"
    assert Image.open(io.BytesIO(feature(features["mask_0"])[0])).format == "PNG"
    meta = json.loads(feature(features["meta"])[0])
    assert {k: meta[k] for k in ("fps", "seed", "generator", "version")} == {
        "fps": 10.0,
        "seed": 5,
        "generator": "test",
        "version": 3,
    }
    assert feature(features["subject"]) == [b"S8"]


def test_robot_push_keys_are_written(robot_push):
    suffixes = ["image/encoded", "commanded_pose/vec_pitch_yaw", "endeffector/vec_pitch_yaw", "joint/positions"]
    wanted = {f"move/{i}/{suffix}" for suffix in suffixes for i in range(FRAMES)} | {"meta"}
    assert set(features_of(robot_push)) - {"subject"} == wanted


def test_written_arrays_are_read_back(store, published):
    source = open_path(published)
    assert isinstance(source, TFRecords)
    assert source.spec.extras == store.spec.extras
    assert (source.spec.fps, source.spec.actions) == (10, store.spec.actions)
    assert source.lengths == [FRAMES] * 9
    by_name = {name: i for i, name in enumerate(store.names)}
    for video in range(len(source)):
        clip = source.clip(video, 1, 3, 2)
        original = store.clip(by_name[clip.meta["name"]], 1, 3, 2)
        assert np.abs(clip.frames.astype(int) - original.frames).max() <= 8, "JPEG of quality 95"
        assert set(clip.arrays) == set(original.arrays)
        for name, values in original.arrays.items():
            assert clip.arrays[name].dtype == values.dtype
            np.testing.assert_array_equal(clip.arrays[name], values, err_msg=name)


def test_splits_and_parts_follow_the_names_of_files(published, robot_push):
    for folder in (published, robot_push):
        source = open_path(folder)
        splits = source.splits(3)
        assert {name: len(splits[name]) for name in SPLITS} == {"train": 6, "val": 1, "test": 2}
        parts = {source.names[s.video].split("/")[0]: source.subsets[source.names[s.video]] for s in splits["test"]}
        assert parts == {
            "clips-testnovel-00000-of-00001": "novel",
            "clips-testseen-00000-of-00001": "seen",
        }
        assert "as prescribed" in source.split_rule(3)


def test_robot_push_gives_the_same_actions_states_and_joints(store, robot_push):
    source = open_path(robot_push)
    assert source.spec.extras == {"states": (5,), "joints": (7,)}
    assert source.spec.actions == ActionSpec(kind="continuous", size=5, names=())
    clip, original = source.clip(0, 0, FRAMES), store.clip(8, 0, FRAMES)
    for name in ("actions", "states", "joints"):
        np.testing.assert_array_equal(clip.arrays[name], original.arrays[name])


def rewritten(folder, target, change):
    """The records of `folder` in one file, each run through `change(features, number)`; None keeps it as it is."""
    target.mkdir()
    with (target / "push_train.tfrecord-00000-of-00264").open("wb") as file:
        number = 0
        for path in sorted(folder.glob("[!.]*")):
            for i, place in enumerate(scan(path)):
                found = {k: feature(v) for k, v in parse_example(read_record(path, *place, i)).items()}
                found = change(found, number) or found
                write_record(file, make_example({k: v for k, v in found.items() if v is not None}))
                number += 1
    return target


def without_meta(features, number):
    return {k: v for k, v in features.items() if k.startswith("move/")}


def test_original_files_without_suffix_and_meta_are_read(robot_push, tmp_path):
    folder = rewritten(robot_push, tmp_path / "original", without_meta)
    source = open_path(folder)
    assert source.spec.fps == 10
    assert source.spec.actions.names == ("x", "y", "z", "pitch", "yaw")
    assert source.names[0] == "push_train.tfrecord-00000-of-00264/00000"
    assert {name: len(s) for name, s in source.splits(3).items()} == {"train": 7, "val": 1, "test": 1}
    one = open_path(next(folder.glob("[!.]*")))
    assert isinstance(one, TFRecords)
    assert one.lengths == [FRAMES] * 9


def test_length_and_skip(published):
    source = open_path(published, ReadOptions(records=RecordSettings(length=5, skip=2)))
    whole = open_path(published)
    assert source.lengths == [3] * 9
    assert source.spec.fps == 5
    clip = source.clip(0, 1, 2)
    np.testing.assert_array_equal(clip.frames, whole.clip(0, 2, 2, 2).frames)
    np.testing.assert_array_equal(clip.arrays["actions"], whole.clip(0, 0, FRAMES).arrays["actions"][[2, 4]])
    with pytest.raises(IndexError):
        source.clip(0, 1, 3)


def test_patterns_select_files(published):
    settings = RecordSettings(train="*testseen*", validation="*testnovel*", test="*validation*")
    source = open_path(published, ReadOptions(records=settings))
    assert [name.split("-")[1] for name in source.names] == ["testnovel", "testseen", "validation"]
    assert [len(source.splits(3)[name]) for name in SPLITS] == [1, 1, 1]
    with pytest.raises(UserError, match=r"no file matches '\*novels\*' \(--records.test\); there is clips-testnovel"):
        open_path(published, ReadOptions(records=RecordSettings(test="*novels*")))


def test_batches_come_from_records_as_from_a_store(store, published):
    source = open_path(published)
    request = ClipRequest(context=2, future=3, extras=("states", "joints", "masks"))
    spec = action_statistics(source, source.splits(5)["train"])
    assert spec == action_statistics(store, store.splits(5)["train"])
    batch = Loader(source, source.splits(5)["train"], request, 4, seed=2, actions=spec).batch(0)
    assert batch.context.shape == (4, 2, 3, 16, 24)
    assert batch.actions.shape == (4, 4, 5)
    assert {k: v.shape[1:] for k, v in batch.extras.items()} == {
        "states": (5, 5),
        "joints": (5, 7),
        "masks": (5, 16, 24),
    }


def test_statistics_decode_no_frame(published, monkeypatch):
    source = open_path(published)
    monkeypatch.setattr(TFRecords, "clip", None)
    assert len(action_statistics(source, source.splits(5)["train"]).mean) == 5


def test_packing_records_keeps_everything(published, tmp_path):
    source = open_path(published)
    packed = pack(source, tmp_path / "packed", ReadOptions(size=(8, 12), fit="squash"))
    assert packed.spec.extras["masks"] == (8, 12)
    assert (packed.fixed, packed.subsets) == (source.fixed, source.subsets)
    scaled = open_path(published, ReadOptions(size=(8, 12), fit="squash")).clip(3, 0, FRAMES)
    clip = packed.clip(3, 0, FRAMES)
    assert np.abs(clip.frames.astype(int) - scaled.frames).max() <= 1
    for name in clip.arrays:
        np.testing.assert_array_equal(clip.arrays[name], scaled.arrays[name])


def test_large_images_are_decoded_at_reduced_size(tmp_path):
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "store") as writer:
        for _ in range(3):
            writer.add(smooth(rng, 3, 256, 320))
    write_records(Store(tmp_path / "store"), tmp_path / "records")
    whole = open_path(tmp_path / "records").clip(0, 0, 3)
    assert whole.frames.shape == (3, 3, 256, 320)
    small = open_path(tmp_path / "records", ReadOptions(size=(32, 32), fit="squash"))
    assert (small.spec.height, small.spec.width) == (32, 32)
    exact = pack(open_path(tmp_path / "records"), tmp_path / "packed", ReadOptions(size=(32, 32), fit="squash")).clip(
        0, 0, 3
    )
    assert np.abs(small.clip(0, 0, 3).frames.astype(int) - exact.frames).max() <= 3
    assert open_path(tmp_path / "records", ReadOptions(size=32)).clip(0, 0, 1).frames.shape == (1, 3, 32, 40)


def test_image_joints_and_discrete_actions(tmp_path):
    rng = np.random.default_rng(0)
    joints = rng.uniform(-1, 1, (FRAMES, 4, 2)).astype(np.float32)
    spec = ActionSpec(kind="discrete", size=3, names=("stay", "left", "right"))
    with DatasetWriter(tmp_path / "store", actions=spec) as writer:
        for _ in range(3):
            visible = rng.integers(0, 2, (FRAMES, 4)).astype(np.float32)
            writer.add(smooth(rng), actions=rng.integers(0, 3, FRAMES), joints=joints, visibility=visible)
    write_records(Store(tmp_path / "store"), tmp_path / "records")
    features = features_of(tmp_path / "records")
    np.testing.assert_array_equal(feature(features["joints2d_3"]), joints[3].ravel())
    np.testing.assert_array_equal(feature(features["joint_positions_3"]), joints[3].ravel())
    assert feature(features["joints2d_vis_0"]).shape == (4,)
    source = open_path(tmp_path / "records")
    assert source.spec.actions == spec
    assert source.spec.extras == {"joints": (4, 2), "visibility": (4,)}
    clip = source.clip(0, 0, FRAMES)
    np.testing.assert_array_equal(clip.arrays["joints"], joints)
    assert clip.arrays["actions"].shape == (FRAMES,)


def test_videos_are_cut_into_records(store, tmp_path):
    write_records(store, tmp_path / "records", length=3)
    source = open_path(tmp_path / "records")
    assert source.lengths == [3] * 18


def test_the_same_source_gives_the_same_bytes(store, published, tmp_path):
    write_records(store, tmp_path / "again", per_file=4)
    for path in published.glob("[!.]*"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


# -------------------------------------------------------------------------------------------------------------- faults


def drop(key):
    return lambda features, number: {**features, key: None} if number == 4 else None


def put(key, value):
    return lambda features, number: {**features, key: value} if number == 4 else None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (drop("move/2/commanded_pose/vec_pitch_yaw"), r"record 4 has no feature 'move/2/commanded_pose/vec_pitch_yaw'"),
        (
            put("move/2/commanded_pose/vec_pitch_yaw", np.zeros(4)),
            r"move/2/.* holds 4 numbers but the first record has 5",
        ),
        (put("move/2/joint/positions", [b"x"]), r"move/2/joint/positions holds no numbers but the first record has 7"),
        (put("move/2/endeffector/vec_pitch_yaw", np.full(5, np.nan)), r"holds numbers that are not finite"),
        (put("move/2/image/encoded", [b"not an image"]), r"record 4: move/2/image/encoded is no JPEG or other image"),
        (put("move/2/image/encoded", np.zeros(3)), r"move/2/image/encoded holds no encoded image"),
        (put("meta", [b"{"]), r"record 4: its feature 'meta' is not JSON"),
    ],
)
def test_damaged_record_is_reported_or_skipped(robot_push, tmp_path, change, sentence):
    folder = rewritten(robot_push, tmp_path / "faulty", change)
    source = open_path(folder)
    with pytest.raises(UserError, match=sentence) as message:
        source.clip(4, 0, FRAMES)
    assert "\n" not in str(message.value)
    if "meta" in sentence:
        return
    spared = open_path(folder, ReadOptions(skip_bad=True))
    assert len(spared) == 8
    assert spared.meta()["skipped"] == ["push_train.tfrecord-00000-of-00264/00004"]


def test_truncated_jpeg_is_refused(robot_push, tmp_path):
    def cut(features, number):
        key = "move/2/image/encoded"
        return {**features, key: [features[key][0][:-200]]} if number == 4 else None

    source = open_path(rewritten(robot_push, tmp_path / "cut", cut))
    with pytest.raises(UserError, match=r"record 4: move/2/image/encoded is a damaged image .* write it again"):
        source.clip(4, 0, FRAMES)


def test_wrong_checksum_is_reported_or_skipped(robot_push, tmp_path):
    folder = rewritten(robot_push, tmp_path / "damaged", lambda features, number: None)
    path = next(folder.glob("[!.]*"))
    offset, length = scan(path)[4]
    data = bytearray(path.read_bytes())
    data[offset + length // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"record 4 is damaged \(its checksum is wrong\).*--skip-bad"):
        open_path(folder).clip(4, 0, 2)
    assert len(open_path(folder, ReadOptions(skip_bad=True))) == 8


def test_too_short_record_is_reported(robot_push, tmp_path):
    def shorter(features, number):
        return {k: None if k.startswith("move/5/") else v for k, v in features.items()} if number == 4 else None

    folder = rewritten(robot_push, tmp_path / "short", shorter)
    assert open_path(folder).lengths[4] == 5
    source = open_path(folder, ReadOptions(records=RecordSettings(length=6)))
    with pytest.raises(UserError, match=r"record 4 has 5 frames, expected 6; use --records.length 5 or less"):
        source.clip(4, 0, 2)
    assert len(open_path(folder, ReadOptions(records=RecordSettings(length=6), skip_bad=True))) == 8
    with pytest.raises(UserError, match=r"record 0 has 6 frames, expected 7"):
        open_path(folder, ReadOptions(records=RecordSettings(length=7)))


def test_frames_of_two_sizes_are_refused(robot_push, tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (8, 4)).save(out, "JPEG")
    folder = rewritten(robot_push, tmp_path / "sizes", put("move/2/image/encoded", [out.getvalue()]))
    with pytest.raises(UserError, match=r"move/2/image/encoded is 8x4 px but the first record's frames are 24x16"):
        open_path(folder).clip(4, 0, FRAMES)


def test_unknown_records_and_empty_folders_are_refused(tmp_path):
    with (tmp_path / "a.tfrecord").open("wb") as file:
        write_record(file, make_example({"text": [b"x"], "label": np.array([1])}))
    with pytest.raises(
        UserError, match=r"record 0: expected a frame named image_0 or move/0/image/encoded, got label, text"
    ):
        open_path(tmp_path)
    with (tmp_path / "a.tfrecord").open("wb") as file:
        write_record(file, b"\xff\xff no example")
    with pytest.raises(UserError, match=r"record 0 is not a tf.Example"):
        open_path(tmp_path)
    (tmp_path / "a.tfrecord").write_bytes(b"")
    with pytest.raises(UserError, match=r"a.tfrecord is empty"):
        open_path(tmp_path)


def test_arrays_declared_in_meta_are_bounded(published, tmp_path):
    def huge(features, number):
        meta = json.loads(features["meta"][0])
        meta["arrays"]["joints"]["shape"] = [2**15, 2**15]
        return {**features, "meta": [json.dumps(meta).encode()]}

    source = open_path(rewritten(published, tmp_path / "huge", huge))
    assert source.spec.extras["joints"] == (7,)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"schema": "other"}, "schema 'other' is unknown; choose published or robot-push"),
        ({"quality": 0}, "quality must be in 1…100"),
        ({"length": 99}, "the longest video.*one clip spans 99"),
    ],
)
def test_invalid_writer_settings_are_refused(store, tmp_path, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        write_records(store, tmp_path / "records", **settings)
    assert not list(tmp_path.iterdir())


def test_writer_overwrites_only_on_request(store, tmp_path):
    folder = tmp_path / "records"
    write_records(store, folder, length=6)
    before = sorted(path.name for path in folder.glob("[!.]*"))
    with pytest.raises(UserError, match="already holds records"):
        write_records(store, folder)
    write_records(store, folder, per_file=1, overwrite=True)
    assert sorted(path.name for path in folder.glob("[!.]*")) != before
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        write_records(store, folder, overwrite=True)


def test_robot_push_needs_actions(tmp_path):
    with DatasetWriter(tmp_path / "store") as writer:
        for _ in range(3):
            writer.add(smooth(np.random.default_rng(0)))
    with pytest.raises(UserError, match="robot-push records need actions and states"):
        write_records(Store(tmp_path / "store"), tmp_path / "records", "robot-push")


def test_an_exception_leaves_nothing_behind(store, tmp_path, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("framecast.data.tfrecord_writer.write_record", fail)
    with pytest.raises(KeyboardInterrupt):
        write_records(store, tmp_path / "records")
    assert list(Path(tmp_path).iterdir()) == []
