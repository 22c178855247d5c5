"""Contract of every source: shapes, dtypes, order, splits, and a loader that resumes at any step."""

import importlib
import importlib.util
import itertools
import json

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data import SOURCES
from framecast.data.base import SPLITS
from framecast.data.loader import Loader
from framecast.data.store import DatasetWriter, Store, pack

#: Smallest settings that suffice for every test below.
TINY = {
    "atari": {"episodes": 3, "max_frames": 12},
    "ball": {"videos": 3, "frames": 12},
    "bouncing": {"videos": 3, "frames": 12, "size": 24, "size_min": 4, "size_max": 8},
    "crossroads": {"videos": 3, "crossings": 1},
    "paddle": {"episodes": 3, "frames": 60},
    "maze": {"episodes": 3, "frames": 40},
    "pushing": {"train": 2, "val": 1, "test": 1, "novel": 1, "frames": 12, "size": 24},
    "walking": {"subjects": 3, "takes": 1, "cameras": 1, "frames": 12, "size": 24},
    "moving-mnist": {"train": 3, "val": 1, "test": 1},
    "moving-objects": {"pairs": 30},
    "shapes": {"train": 4, "val": 1, "test": 2, "visualise": 1, "size": 32},
}


def make(name, folder):
    """A tiny set of source `name` (or of the writer itself) in `folder`."""
    if name == "store":
        rng = np.random.default_rng(0)
        with DatasetWriter(folder, meta={"generator": "test", "version": 1}) as writer:
            for n in (12, 15, 13):
                frames = rng.integers(0, 256, (n, 1, 9, 7), dtype=np.uint8)
                writer.add(frames, actions=rng.normal(size=(n, 2)), states=rng.normal(size=(n, 3)))
        return
    module, attribute = SOURCES[name]
    maker = getattr(importlib.import_module(module), attribute)
    maker(maker.Config(**TINY[name])).prepare(folder)


@pytest.fixture(params=[*SOURCES, "store"], scope="module")
def made(request, tmp_path_factory):
    needs = {"atari": "ale_py", "pushing": "mujoco", "walking": "mujoco", "moving-mnist": "sklearn"}
    if importlib.util.find_spec(needs.get(request.param, "numpy")) is None:
        pytest.skip(f"needs {needs[request.param]}")
    folder = tmp_path_factory.mktemp("source") / request.param
    make(request.param, folder)
    return request.param, folder


@pytest.fixture(scope="module")
def source(made):
    return Store(made[1])


def test_every_source_has_tiny_settings_and_a_file():
    assert set(TINY) == set(SOURCES)
    for module, attribute in SOURCES.values():
        assert isinstance(getattr(importlib.import_module(module), attribute), type)


def test_same_seed_gives_the_same_bytes(made, tmp_path):
    name, folder = made
    make(name, tmp_path / "again")
    files = sorted(p.name for p in folder.iterdir())
    assert files == sorted(p.name for p in (tmp_path / "again").iterdir())
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_meta_holds_the_origin(source):
    meta = source.meta()
    assert {"generator", "version"} <= set(meta)
    assert json.loads(json.dumps(meta)) == meta


def test_meta_holds_no_path_of_this_machine(made):
    folder = made[1]
    for file in ("meta.json", "index.json"):
        assert str(folder.parent) not in (folder / file).read_text(encoding="utf-8")


def test_names_and_lengths_are_one_per_video(source):
    assert len(source) == len(source.names) == len(source.lengths) >= 3
    assert len(set(source.names)) == len(source)
    assert list(source.names) == sorted(source.names)


def test_clips_match_the_spec(source):
    spec = source.spec
    for video, length in enumerate(source.lengths):
        inside = [(1, 3, 2)] if length >= 6 else []  # pairs have two frames
        for start, count, stride in ((0, length, 1), *inside, (length - 1, 1, 5)):
            clip = source.clip(video, start, count, stride)
            assert clip.frames.dtype == np.uint8
            assert clip.frames.shape == (count, spec.channels, spec.height, spec.width)
            assert (clip.name, clip.fps) == (source.names[video], spec.fps / stride)
            wanted = set(spec.extras) | ({"actions"} if spec.actions else set())
            assert set(clip.arrays) == wanted
            for name, shape in spec.extras.items():
                assert clip.arrays[name].shape == (count, *shape)
            whole = source.clip(video, 0, length)
            cut = slice(start, start + (count - 1) * stride + 1, stride)
            np.testing.assert_array_equal(clip.frames, whole.frames[cut])
            for name in wanted:
                np.testing.assert_array_equal(clip.arrays[name], whole.arrays[name][cut])
    with pytest.raises(IndexError):
        source.clip(0, source.lengths[0], 1)


def test_frames_are_not_blank_and_change(source):
    for video, length in enumerate(source.lengths):
        frames = source.clip(video, 0, length).frames
        assert frames.std() > 1
        assert (frames[1:] != frames[:-1]).any()


def test_actions_are_in_range(source):
    if source.spec.actions is None:
        with pytest.raises(KeyError):
            source.clip(0, 0, 2).arrays["actions"]
        return
    spec = source.spec.actions
    for video, length in enumerate(source.lengths):
        actions = source.clip(video, 0, length).arrays["actions"]
        if spec.kind == "discrete":
            assert actions.shape == (length,)
            assert actions.min() >= 0
            assert actions.max() < spec.size
        else:
            assert actions.shape == (length, spec.size)
            assert np.isfinite(actions).all()


def test_splits_are_disjoint_and_none_is_empty(source):
    window = min(3, *source.lengths)
    splits = source.splits(window)
    assert tuple(splits) == SPLITS
    assert all(splits.values())
    segments = [s for split in SPLITS for s in splits[split]]
    for a, b in itertools.combinations(segments, 2):
        assert a.video != b.video or a.stop <= b.start or b.stop <= a.start
    assert splits == source.splits(window)


@pytest.mark.parametrize("order", ["random", "epoch"])
def test_loader_resumes_at_any_step(source, order):
    context = min(2, min(source.lengths) - 1)
    request = ClipRequest(context=context, future=1, extras=tuple(source.spec.extras))
    segments = source.splits(request.source_length)["train"]
    unbroken = Loader(source, segments, request, 4, seed=1, order=order)
    batches = [unbroken.batch(step) for step in range(6)]
    resumed = Loader(source, segments, request, 4, seed=1, order=order)
    for step in (4, 5, 3):
        batch = resumed.batch(step)
        assert torch.equal(batch.context, batches[step].context)
        assert torch.equal(batch.future, batches[step].future)
        assert all(torch.equal(batch.extras[k], batches[step].extras[k]) for k in source.spec.extras)
        assert batch.context.shape == (4, context, source.spec.channels, source.spec.height, source.spec.width)
        if source.spec.actions is None:
            assert batch.actions is None
        else:
            assert batch.actions.shape == (4, context, source.spec.action_size)


def test_packing_again_keeps_every_frame(source, tmp_path):
    copy = pack(source, tmp_path / "copy")
    assert (copy.names, copy.lengths, copy.spec) == (source.names, source.lengths, source.spec)
    for video, length in enumerate(source.lengths):
        np.testing.assert_array_equal(copy.clip(video, 0, length).frames, source.clip(video, 0, length).frames)


def test_existing_store_is_not_overwritten(made):
    name, folder = made
    with pytest.raises(UserError, match="already holds a store"):
        make(name, folder)
