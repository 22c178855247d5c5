"""Stores at an address: the same clips, few and checked requests, a bounded cache, and a sentence for every fault."""

import errno
import json
import os
import re
import threading

import fsspec
import numpy as np
import pytest
from cli_support import done, refused  # noqa: F401 - fixtures come by import

from benchmarks.slow_files import SlowFiles
from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data import shard_cache
from framecast.data.cache import open_data
from framecast.data.digest import data_digest
from framecast.data.loader import Loader
from framecast.data.open import open_path
from framecast.data.options import DataConfig
from framecast.data.shards import BLOCK
from framecast.data.store import DatasetWriter, Store

SMALL = 1 << 14  # bytes of a block in these tests
ADDRESS = "slow://bucket/store"


def video(t, seed):
    return np.random.default_rng(seed).integers(0, 256, (t, 3, 16, 16), dtype=np.uint8)


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """Folder of a store of six shards with blocks of 16 KiB, served at ADDRESS, with an empty cache."""
    for module in ("shards", "shard_writer", "shard_cache"):
        monkeypatch.setattr(f"framecast.data.{module}.BLOCK", SMALL)
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "files" / "bucket" / "store"
    with DatasetWriter(folder, shards=1 << 17) as w:
        for i in range(6):
            w.add(video(150, i), axes="tchw", actions=np.arange(150) % 3)
    SlowFiles.reset(tmp_path / "files")
    assert len(list(folder.glob("shard-*"))) == 6
    return folder


def held(tmp_path):
    return sum(p.stat().st_blocks * 512 for p in (tmp_path / "cache").rglob("shard-*"))


def wait_until_complete(store, *numbers):
    """The shards with these numbers, once all their blocks are there."""
    shards = [store._read.shard(number) for number in numbers]
    for shard in shards:
        with shard._condition:
            assert shard._condition.wait_for(lambda shard=shard: shard.complete, timeout=300)
    return shards


def test_clips_equal_those_of_the_folder(remote):
    near, far = Store(remote), Store(ADDRESS)
    assert (far.names, far.lengths, far.spec, far.meta()) == (near.names, near.lengths, near.spec, near.meta())
    assert data_digest(far) == data_digest(near)
    assert SlowFiles.requests == 2  # index.json and meta.json
    for v, start, length, stride in ((0, 0, 150, 1), (3, 20, 5, 7), (5, 149, 1, 1)):
        a, b = near.clip(v, start, length, stride), far.clip(v, start, length, stride)
        np.testing.assert_array_equal(a.frames, b.frames)
        np.testing.assert_array_equal(a.arrays["actions"], b.arrays["actions"])
        assert not b.frames.flags.writeable
    assert isinstance(open_path(ADDRESS), Store)
    assert open_data(DataConfig(path=ADDRESS))[0].folder == ADDRESS
    with pytest.raises(UserError, match="--size is for data on this machine"):
        open_data(DataConfig(path=ADDRESS, size="8"))
    assert BLOCK == 4 << 20


def test_only_what_is_read_is_fetched_and_once(remote):
    store = Store(ADDRESS)
    before = SlowFiles.requests
    store.clip(2, 44, 4)
    fetched = SlowFiles.log[before:]
    assert [name for name, _, _ in fetched] == ["shard-00002.npy"] * len(fetched)
    assert len(fetched) == 3  # index, one block of frames, one with the actions
    assert all(size <= SMALL for _, _, size in fetched)
    store.clip(2, 45, 3)
    store.rows(2, 0, 150)
    assert SlowFiles.requests == before + 3
    assert SlowFiles.seconds() < 0.11
    again = Store(ADDRESS)  # of another process: everything but index and meta is in the cache
    before = SlowFiles.requests
    again.clip(2, 44, 4)
    assert SlowFiles.requests == before


def test_blocks_that_changed_in_the_cache_are_fetched_again(remote, tmp_path):
    Store(ADDRESS).clip(1, 0, 150)
    path = next((tmp_path / "cache").rglob("shard-00001.npy"))
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(bytes(data))
    before = SlowFiles.requests
    np.testing.assert_array_equal(Store(ADDRESS).clip(1, 0, 150).frames, video(150, 1))
    assert SlowFiles.requests == before + 2 + 1


def test_the_cache_is_bounded_and_views_survive_it(remote, tmp_path, monkeypatch):
    monkeypatch.setenv("FRAMECAST_CACHE_SIZE", "300k")
    monkeypatch.setattr(shard_cache, "_RESCAN", 0.0)
    store = Store(ADDRESS)
    clips = [store.clip(v, 0, 150).frames for v in range(6)]
    assert held(tmp_path) <= 300_000
    for v, frames in enumerate(clips):
        np.testing.assert_array_equal(frames, video(150, v))
    np.testing.assert_array_equal(store.clip(0, 0, 150).frames, video(150, 0))  # fetched again
    monkeypatch.setenv("FRAMECAST_CACHE_SIZE", "200k")
    with pytest.raises(UserError, match=r"a cache of 200.0 kB is too small for shards of 117.* use --cache-size"):
        Store(ADDRESS)


def test_shards_are_read_ahead_in_the_background(remote):
    store = Store(ADDRESS)
    store.readahead([4, 1])
    shards = wait_until_complete(store, 4, 1)
    before = SlowFiles.requests
    assert before == 2 + 2 + sum(len(s._state) for s in shards)  # every block once
    np.testing.assert_array_equal(store.clip(4, 0, 150).frames, video(150, 4))
    assert SlowFiles.requests == before


def test_threads_fetch_a_block_once(remote):
    store = Store(ADDRESS)
    shard = store._read.shard(0)
    before = SlowFiles.requests
    threads = [threading.Thread(target=shard.need, args=(0, 150)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shard.complete
    assert SlowFiles.requests == before + len(shard._state)


def test_a_shard_that_is_read_now_outlives_those_written_after_it(remote, monkeypatch):
    monkeypatch.setenv("FRAMECAST_CACHE_SIZE", "300k")  # of two shards
    monkeypatch.setattr(shard_cache, "_RESCAN", 0.0)
    store = Store(ADDRESS)
    store.readahead([1])
    wait_until_complete(store, 1)
    store.clip(0, 0, 150)
    files = [store._read.folder.folder / f"shard-0000{number}.npy" for number in (0, 1)]
    for file, second in zip(files, (20, 10), strict=True):
        os.utime(file, (second, second))
    store.readahead([1, 2])
    wait_until_complete(store, 2)
    assert [file.exists() for file in files] == [False, True]


def test_training_order_reads_every_byte_once(remote, tmp_path, monkeypatch):
    """An epoch in the order of shards fetches the store once, although the cache holds only a part of it."""
    monkeypatch.setenv("FRAMECAST_CACHE_SIZE", "300k")
    monkeypatch.setattr(shard_cache, "_RESCAN", 0.0)
    store = Store(ADDRESS)
    with pytest.raises(UserError, match=r"4 shards are read at a time, which are 468.8 kB, but the cache is 300.0 kB"):
        Loader(store, store.splits(4)["train"], ClipRequest(context=2, future=2), 8, order="shards", lanes=2)
    segments = store.splits(4)["train"]
    loader = Loader(store, segments, ClipRequest(context=2, future=2), 8, order="shards", lanes=1)
    near = Loader(Store(remote), segments, ClipRequest(context=2, future=2), 8, order="shards", lanes=1)
    for step in range(loader.steps_per_epoch * 3 // 4):  # then the next epoch's first shard is fetched
        assert np.array_equal(loader.batch(step).context, near.batch(step).context)
    sizes = {name: 0 for name, _, _ in SlowFiles.log if name.startswith("shard")}
    for name, _, size in SlowFiles.log:
        if name in sizes:
            sizes[name] += size
    assert len(sizes) in (3, 4)  # three are read; the fourth is requested ahead
    # a thread that fetches ahead may repeat a block of a shard that was deleted meanwhile
    assert sum(sizes.values()) <= 1.25 * sum((remote / name).stat().st_size for name in sizes)
    assert held(tmp_path) <= 300_000


def test_room_for_bytes_that_are_not_written_yet_counts(remote, tmp_path, monkeypatch):
    monkeypatch.setenv("FRAMECAST_CACHE_SIZE", "300k")
    monkeypatch.setattr(shard_cache, "_RESCAN", 0.0)
    cache = Store(ADDRESS)._read.folder
    wanted = tmp_path / "cache" / "shard-wanted.npy"
    with cache.room(200_000, wanted):
        with pytest.raises(UserError, match="is full"), cache.room(200_000, wanted):
            pass
        with cache.room(90_000, wanted):
            pass
    with cache.room(200_000, wanted):  # nothing was written
        pass


# -------------------------------------------------------------------------------------------------------------- faults


def test_a_missing_store_or_shard_is_named(remote, refused):  # noqa: F811
    message = refused("data", "inspect", "slow://bucket/other")
    assert "slow://bucket/other/index.json does not exist; check the address" in message
    (remote / "shard-00003.npy").unlink()
    store = Store(ADDRESS)
    with pytest.raises(UserError, match=r"slow://bucket/store/shard-00003.npy does not exist; check the address"):
        store.clip(3, 0, 1)
    store.clip(2, 0, 1)


def test_a_wrong_checksum_is_named_and_nothing_kept(remote, tmp_path):
    path = remote / "shard-00000.npy"
    good = path.read_bytes()
    path.write_bytes(good[:20_000] + bytes([good[20_000] ^ 1]) + good[20_001:])
    store = Store(ADDRESS)
    with pytest.raises(UserError, match=r"shard-00000.npy: checksum mismatch in bytes 16384 to 32767; copy"):
        store.clip(0, 0, 150)
    path.write_bytes(good)  # repaired: the same store continues
    np.testing.assert_array_equal(store.clip(0, 0, 150).frames, video(150, 0))


def test_an_index_of_another_shard_is_refused(remote):
    os.replace(remote / "shard-00004.npy", remote / "shard-00003.npy")
    with pytest.raises(UserError, match=r"shard-00003.npy: its index does not fit its file"):
        Store(ADDRESS).clip(3, 0, 1)


def test_a_short_shard_is_refused(remote):
    path = remote / "shard-00000.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"shard-00000.npy: got 0 of \d+ bytes from \d+; it is cut short"):
        Store(ADDRESS).clip(0, 0, 1)


class NoCredentialsError(Exception):
    """Named like that of the S3 client."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NoCredentialsError("Unable to locate credentials"), "access was refused or credentials are missing"),
        (PermissionError("The AWS Access Key Id you provided does not exist"), "credentials are missing"),
        (RuntimeError("403, message='Forbidden'"), "credentials are missing"),
        (
            ConnectionResetError("reset by peer"),
            r"cannot be reached \(ConnectionResetError: reset by peer\); check the",
        ),
        (ImportError("Install s3fs to access S3"), "a package is missing .* install framecast"),
    ],
)
def test_storage_errors_are_one_sentence(remote, refused, error, sentence):  # noqa: F811
    def fail(path):
        raise error

    SlowFiles.fault = fail
    message = refused("data", "inspect", ADDRESS)
    assert re.search(sentence, message), message


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (RuntimeError("403, message='Forbidden', url='https://x'"), "access was refused or credentials are missing"),
        (ConnectionRefusedError("Connect call failed"), r"cannot be reached \(ConnectionRefusedError: Connect call"),
        (FileNotFoundError("https://x"), "does not exist; check the address"),
        (None, "does not exist; check the address"),
    ],
)
def test_a_file_that_the_client_of_https_calls_missing_has_its_true_reason(remote, refused, reason, sentence):  # noqa: F811
    def fail(path):
        raise FileNotFoundError(path) from reason

    SlowFiles.fault = fail
    message = refused("data", "inspect", ADDRESS)
    assert re.search(sentence, message), message


def test_a_missing_extra_is_named(monkeypatch, refused):  # noqa: F811
    def missing(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    message = refused("train", "copy-last", "--data", "s3://bucket/store", "--steps", "1")
    assert "s3://bucket/store: s3:// needs a package that is missing (Install s3fs" in message
    assert 'pip install "framecast[remote]"' in message


def test_unknown_addresses_are_refused(refused):  # noqa: F811
    assert "nfs2://a/b: nfs2:// is not supported" in refused("data", "inspect", "nfs2://a/b")
    assert "https://host/a.mp4 is an address; download it" in refused("data", "inspect", "https://host/a.mp4")


def test_a_full_disk_of_the_cache_is_named(remote, monkeypatch):
    store = Store(ADDRESS)
    shard = store._read.shard(0)

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name):
            return getattr(real, name)

    real, shard._file = shard._file, Full()
    with pytest.raises(UserError, match=r"the cache .*shards: the disk is full; free some space, lower --cache-size"):
        store.clip(0, 0, 1)
    shard._file = real
    np.testing.assert_array_equal(store.clip(0, 0, 150).frames, video(150, 0))


def test_a_store_of_format_1_is_not_read_from_an_address(tmp_path):
    with DatasetWriter(tmp_path / "b" / "one") as w:
        w.add(video(5, 0), axes="tchw")
    SlowFiles.reset(tmp_path)
    with pytest.raises(UserError, match=r"format 1, which is not read from an address; .* data import --shards 512MiB"):
        Store("slow://b/one")


def test_cache_size_is_a_flag_of_every_command(remote, done, refused, monkeypatch):  # noqa: F811
    monkeypatch.setenv("FRAMECAST_CACHE_SIZE", "")
    done("data", "inspect", ADDRESS, "--cache-size", "300kB")
    assert "too small" in refused("data", "inspect", ADDRESS, "--cache-size=100kB")
    assert "--cache-size 'much': expected bytes such as 512MiB" in refused(
        "data", "inspect", ADDRESS, "--cache-size", "much"
    )


def test_index_entries_of_the_fixture_are_complete(remote):
    index = json.loads((remote / "index.json").read_text())
    assert sum(entry["rows"] for entry in index["shards"]) == 900
