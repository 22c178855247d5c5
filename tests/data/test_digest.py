"""Digests of data: content counts, names and order do not; digests of older versions are compared by what they hold."""

import numpy as np
import pytest
from small_models import Plain, small_config

from framecast.core.errors import UserError
from framecast.core.io import read_file, write_json
from framecast.data import digest
from framecast.data.digest import data_digest, same_content, same_data
from framecast.data.open import open_path
from framecast.data.store import DatasetWriter, Store
from framecast.evaluation.clips import refuse_trained
from framecast.training.run_folder import open_run
from framecast.training.train import train


def frames(seed, count=9):
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 12, 12), np.uint8)


def store(folder, seeds, names=None, moves=0):
    with DatasetWriter(folder) as writer:
        for i, seed in enumerate(seeds):
            actions = np.full(9, moves) if moves is not None else None
            writer.add(frames(seed), name=names[i] if names else f"v{i}", actions=actions)
    return Store(folder)


def test_other_frames_or_actions_of_the_same_length_change_the_digest(tmp_path):
    first = data_digest(store(tmp_path / "a", (0, 1)))
    assert first == data_digest(store(tmp_path / "b", (0, 1)))
    for other in (store(tmp_path / "c", (0, 2)), store(tmp_path / "d", (0, 1), moves=1)):
        assert data_digest(other).split("-")[0] == first.split("-")[0]
        assert not same_data(first, data_digest(other))
        assert not same_content(first, data_digest(other))


def test_renamed_and_reordered_videos_have_the_same_content(tmp_path):
    first = data_digest(store(tmp_path / "a", (0, 1, 2)))
    other = data_digest(store(tmp_path / "b", (2, 0, 1), names=("x", "y", "z")))
    assert same_content(first, other)
    assert not same_data(first, other)
    assert not same_content(first, data_digest(store(tmp_path / "c", (0, 1))))


def test_files_of_arrays_are_read_too(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "v.npy", frames(seed))
    one, two = (data_digest(open_path(tmp_path / name)) for name in "ab")
    assert not same_data(one, two)


def test_digests_of_older_versions_are_compared_by_origin(tmp_path):
    new = data_digest(store(tmp_path / "a", (0, 1)))
    old = new.split("-")[0]
    assert len(old) == 16
    for same in (same_data, same_content):
        assert same(old, new)
        assert same(new, old)
        assert not same("0" * 16, new)


def test_of_many_videos_some_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "VIDEOS", 2)
    source, read = store(tmp_path / "a", range(5)), []
    clip = source.clip
    monkeypatch.setattr(source, "clip", lambda video, *rest: read.append(video) or clip(video, *rest))
    data_digest(source)
    assert sorted(set(read)) == [0, 2]


def run(data, folder, steps):
    config = small_config(Plain, steps=steps)
    return train(Plain, data, out=folder, config=config, device="cpu", quiet=True)


def test_a_run_is_not_resumed_on_another_export_of_equal_length(tmp_path):
    folder = run(store(tmp_path / "a", range(4), moves=None), tmp_path / "run", 2)
    with pytest.raises(UserError, match=r"data\.digest was"):
        run(store(tmp_path / "b", range(10, 14), moves=None), folder, 4)


def test_a_run_of_an_older_version_is_resumed(tmp_path):
    data = store(tmp_path / "a", range(4), moves=None)
    folder = run(data, tmp_path / "run", 2)
    config = read_file(folder / "config.json")
    config["data"]["digest"] = config["data"]["digest"].split("-")[0]
    write_json(folder / "config.json", config)
    run(data, folder, 4)
    assert read_file(folder / "config.json")["data"]["digest"] == data_digest(data)


def test_renamed_training_data_are_not_scored_as_a_whole(tmp_path):
    folder = run(store(tmp_path / "a", range(4), moves=None), tmp_path / "run", 2)
    trained = open_run(folder, Plain)
    renamed = store(tmp_path / "b", range(4), names=("k", "l", "m", "n"), moves=None)
    with pytest.raises(UserError, match="was trained on these data"):
        refuse_trained(trained, renamed, "all")
    refuse_trained(trained, store(tmp_path / "c", range(5, 9), moves=None), "all")
