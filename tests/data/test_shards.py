"""Stores of format 2: the same clips as format 1, bounded shards, and a sentence for every fault."""

import json
import os

import numpy as np
import pytest
from small_models import forked

from benchmarks.memory import peak_memory
from framecast.core.checksums import checksum
from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data import shards as shards_module
from framecast.data.digest import data_digest
from framecast.data.loader import Loader
from framecast.data.store import DatasetWriter, Store, pack
from framecast.data.writer import SHARD_BYTES
from framecast.inference.check import check_folder

LIMIT = 1 << 17  # smallest shards of the tests: room for 39 frames of 3x32x32, less their arrays
LENGTHS = (20, 30, 5, 100, 12)


def video(t, seed=0, h=32, w=32):
    return np.random.default_rng(seed).integers(0, 256, (t, 3, h, w), dtype=np.uint8)


def write(folder, shards=LIMIT, lengths=LENGTHS, **settings):
    """Videos of which one is longer than a shard, and one of another size."""
    with DatasetWriter(folder, fps=25, meta={"lab": "x"}, shards=shards, **settings) as w:
        for i, n in enumerate(lengths):
            states = np.arange(2 * n, dtype=np.float32).reshape(n, 2) + 1000 * i
            w.add(video(n, i), actions=np.arange(n) % 3, states=states, axes="tchw", meta={"i": i}, breaks=[2])
        w.add(video(9, 99, 16, 16), actions=np.zeros(9, int), states=np.zeros((9, 2)), axes="tchw", name="small")
    return Store(folder)


def test_clips_equal_those_of_format_1(tmp_path):
    one, two = write(tmp_path / "one", None), write(tmp_path / "two")
    assert (two.names, two.lengths, two.shapes, two.breaks) == (one.names, one.lengths, one.shapes, one.breaks)
    assert two.spec == one.spec
    rng = np.random.default_rng(0)
    for _ in range(200):
        v = int(rng.integers(len(two)))
        stride = int(rng.integers(1, 6))
        length = int(rng.integers(1, (two.lengths[v] - 1) // stride + 2))
        start = int(rng.integers(two.lengths[v] - (length - 1) * stride))
        a, b = one.clip(v, start, length, stride), two.clip(v, start, length, stride)
        np.testing.assert_array_equal(a.frames, b.frames)
        assert (a.name, a.fps, a.meta, set(a.arrays)) == (b.name, b.fps, b.meta, set(b.arrays))
        for name, array in a.arrays.items():
            assert array.dtype == b.arrays[name].dtype
            np.testing.assert_array_equal(array, b.arrays[name])
            np.testing.assert_array_equal(array, two.rows(v, start, length, stride)[name])
    assert data_digest(one) == data_digest(two)  # a run may be resumed on the other
    two.content = None
    assert data_digest(one) == data_digest(two)


def test_shards_are_bounded_and_only_longer_videos_are_divided(tmp_path):
    store = write(tmp_path / "s")
    files = sorted(tmp_path.glob("s/shard-*.npy"))
    assert len(files) == 6
    assert all(f.stat().st_size <= LIMIT for f in files)
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    assert [len(v["parts"]) for v in index["videos"]] == [1, 1, 1, 4, 1, 1]
    assert np.shares_memory(store.clip(0, 0, 20).frames, store.clip(0, 5, 2).frames)  # of the mapped file
    assert not store.clip(0, 0, 20).frames.flags.writeable
    frames = np.load(files[0])  # any program can read the frames of a shard
    np.testing.assert_array_equal(frames, video(20, 0))
    assert SHARD_BYTES == 512 << 20
    with pytest.raises(UserError, match="too small; use at least 64 KiB"):
        DatasetWriter(tmp_path / "t", shards=1000)


def test_the_same_videos_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name)
    a, b = ({p.name: p.read_bytes() for p in sorted((tmp_path / n).iterdir())} for n in ("a", "b"))
    assert a == b
    assert json.loads(a["checksums.json"])["files"]["shard-00001.npy"] == checksum(tmp_path / "a" / "shard-00001.npy")


def test_failed_videos_leave_no_frames(tmp_path):
    with DatasetWriter(tmp_path / "a", shards=LIMIT) as w:
        w.add(video(30), axes="tchw")
        for bad in (video(200, 7), video(5, 7), video(9, 7, 16, 16)):  # several shards, one, and one of a new size
            with pytest.raises(UserError, match="breaks must ascend"):
                w.add(bad, axes="tchw", breaks=[5000])
        w.add(video(100, 1), axes="tchw")
        w.add(video(3, 2), axes="tchw")
    with DatasetWriter(tmp_path / "b", shards=LIMIT) as w:
        w.add(video(30), axes="tchw")
        w.add(video(100, 1), axes="tchw")
        w.add(video(3, 2), axes="tchw")
    a, b = ({p.name: p.read_bytes() for p in sorted((tmp_path / n).glob("shard-*"))} for n in ("a", "b"))
    assert a == b
    np.testing.assert_array_equal(Store(tmp_path / "a").clip(1, 0, 100).frames, video(100, 1))


def test_stores_are_packed_into_the_other_format(tmp_path):
    one = write(tmp_path / "one", None)
    two = pack(one, tmp_path / "two", shards=LIMIT)
    back = pack(two, tmp_path / "back")
    for name in ("frames-3x32x32.npy", "states-3x32x32.npy", "frames-3x16x16.npy", "actions-3x16x16.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "back" / name).read_bytes()
    assert back.names == one.names


def test_few_shards_are_mapped_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "MOST_OPEN", 2)
    store = write(tmp_path / "s")
    for _ in range(2):
        for v, n in enumerate(LENGTHS):
            np.testing.assert_array_equal(store.clip(v, 0, n).frames, video(n, v))
    assert len(store._read._open) == 2


def test_50_gb_are_sampled_in_300_mb_of_memory(tmp_path):
    """Of the store, one shard is written; the others are sparse copies of its index under other names."""
    rows, videos = 42_000, 20
    with DatasetWriter(tmp_path / "s", shards=SHARD_BYTES) as w:
        w.add(np.zeros((1, 3, 64, 64), np.uint8), axes="tchw")
    folder = tmp_path / "s"
    path, entry = folder / "shard-00000.npy", json.loads((folder / "index.json").read_text())["shards"][0]
    index = json.loads(path.read_bytes()[entry["index"] : -16])
    end = shards_module.ALIGNMENT * -(-(256 + rows * 3 * 64 * 64) // shards_module.ALIGNMENT)
    index |= {"rows": rows, "arrays": {"frames": [256, "|u1", [rows, 3, 64, 64]]}, "videos": []}
    index["checksums"] = ["00000000"] * -(-end // shards_module.BLOCK)
    text = json.dumps(index).encode()
    tail = text + len(text).to_bytes(8, "little") + shards_module.MAGIC
    count = -(-50_000_000_000 // (rows * 3 * 64 * 64))
    crc = shards_module.Checksum().update(tail).text
    entries = []
    for i in range(count):
        name = shards_module.shard_name(i)
        with open(folder / name, "wb") as file:
            file.seek(end)
            file.write(tail)
        entries.append(entry | {"file": name, "rows": rows, "bytes": end + len(tail), "index": end, "crc32c": crc})
    each = rows // videos
    found = [
        {"name": f"v{i}-{k}", "fps": 30.0, "frames": each, "size": "3x64x64", "parts": [[i, k * each, each]]}
        for i in range(count)
        for k in range(videos)
    ]
    (folder / "index.json").write_text(json.dumps({"format": 2, "arrays": {}, "shards": entries, "videos": found}))
    assert sum(os.stat(folder / e["file"]).st_blocks * 512 for e in entries) < 100e6  # sparse
    process = forked(_sample, folder, tmp_path / "grown")
    process.join()
    assert process.exitcode == 0
    assert float((tmp_path / "grown").read_text()) < 300  # MB


def _sample(folder, result):
    """Open the store and read two batches; the growth of memory of this process, where nothing else is at work."""

    def work():
        store = Store(folder)
        assert sum(store.lengths) * 3 * 64 * 64 >= 50e9
        loader = Loader(store, store.splits(16)["train"], ClipRequest(context=8, future=8), 32)
        assert not any(loader.batch(step).context.any() for step in range(2))

    result.write_text(str(peak_memory(work)[1]))


# -------------------------------------------------------------------------------------------------------------- damage


def edit_index(folder, change):
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "shard-00001.npy").unlink(), "shard-00001.npy is missing; copy the store again"),
        (lambda f: (f / "shard-00001.npy").write_bytes(b"x"), "has 1 bytes but index.json has"),
        (lambda f: (f / "frames-3x32x32.npy").write_bytes(b"x"), "mixes store formats: index.json has format 2"),
        (lambda f: flip(f / "shard-00000.npy", -30), "its index does not fit its file"),
        (lambda f: flip(f / "shard-00000.npy", -1), "its index does not fit its file"),
        (lambda f: os.replace(f / "shard-00003.npy", f / "shard-00004.npy"), "is missing"),
        (lambda f: edit_index(f, lambda i: i["shards"][0].update(file="../x.npy")), r"is damaged \(shard 0\)"),
        (lambda f: edit_index(f, lambda i: i["shards"][0].update(index=10**9)), r"is damaged \(shard 0\)"),
        (lambda f: edit_index(f, lambda i: i.update(shards=[])), "lists no shards"),
        (lambda f: edit_index(f, lambda i: i["videos"][1].update(parts=[[9, 0, 30]])), "parts of video 'video-00001'"),
        (lambda f: edit_index(f, lambda i: i["videos"][1].update(parts=[[0, 20, 30]])), "parts of video 'video-00001'"),
        (lambda f: edit_index(f, lambda i: i["videos"][1].update(parts=[[0, -1, 30]])), "parts of video 'video-00001'"),
        (lambda f: edit_index(f, lambda i: i["videos"][1].pop("parts")), "parts of video 'video-00001'"),
        (lambda f: edit_index(f, lambda i: i.update(arrays={"a": ["<f4", -1]})), r"is damaged \(array 'a'\)"),
    ],
)
def test_damage_is_one_sentence(tmp_path, damage, sentence):
    write(tmp_path / "s")
    damage(tmp_path / "s")

    def read():
        store = Store(tmp_path / "s")
        for v, n in enumerate(store.lengths):
            store.clip(v, 0, n)

    with pytest.raises(UserError, match=sentence):
        read()


def test_a_store_of_format_1_with_a_shard_is_refused(tmp_path):
    write(tmp_path / "s", None)
    (tmp_path / "s" / "shard-00000.npy").write_bytes(b"x")
    with pytest.raises(UserError, match=r"index.json has format 1 but shard-00000.npy is of format 2"):
        Store(tmp_path / "s")


def test_check_verifies_every_shard(tmp_path):
    write(tmp_path / "s")
    found = check_folder(tmp_path / "s")
    assert (found["kind"], found["verified"], found["damaged"]) == ("store", 8, [])
    flip(tmp_path / "s" / "shard-00002.npy", 5000)
    assert check_folder(tmp_path / "s")["damaged"] == [f"{tmp_path / 's' / 'shard-00002.npy'}: its checksum is wrong"]
