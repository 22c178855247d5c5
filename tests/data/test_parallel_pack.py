"""Import into shards in parts: one store whatever the processes, resumed after a kill at any moment."""

import json

import numpy as np
import pytest
from cli_support import done, refused  # noqa: F401 - fixtures come by import

from framecast.core import jobs as jobs_module
from framecast.core.errors import UserError
from framecast.core.jobs import call
from framecast.data import parallel_pack
from framecast.data.digest import data_digest
from framecast.data.options import ReadOptions
from framecast.data.parallel_pack import pack_parallel
from framecast.data.store import DatasetWriter, Store, pack
from framecast.inference.check import check_folder

LIMIT = 1 << 16


@pytest.fixture
def source(tmp_path):
    """A store of format 1 with 12 videos, of which one is longer than a shard."""
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "in", meta={"lab": "x"}) as w:
        for i, n in enumerate((20, 30, 10, 150, 40, 25, 25, 60, 5, 5, 5, 70)):
            frames = rng.integers(0, 256, (n, 3, 16, 16), dtype=np.uint8)
            w.add(frames, axes="tchw", actions=np.arange(n) % 4, breaks=[2], split="test" if i % 3 else "train")
    return tmp_path / "in"


def run(source, out, **settings):
    return pack_parallel(str(source), out, settings.pop("options", ReadOptions()), LIMIT, **settings)


def bytes_of(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_the_store_equals_one_written_at_once(source, tmp_path):
    seen = []
    found = run(source, tmp_path / "out", progress=lambda d, total: seen.append((d, total)))
    whole = pack(Store(source), tmp_path / "whole", shards=LIMIT)
    assert (found.names, found.lengths, found.fixed, found.breaks) == (
        whole.names,
        whole.lengths,
        whole.fixed,
        whole.breaks,
    )
    assert (found.spec, found.meta()) == (whole.spec, whole.meta())
    assert data_digest(found) == data_digest(whole) == data_digest(Store(source))
    for v, n in enumerate(found.lengths):
        np.testing.assert_array_equal(found.clip(v, 0, n).frames, whole.clip(v, 0, n).frames)
        np.testing.assert_array_equal(found.rows(v, 0, n)["actions"], whole.rows(v, 0, n)["actions"])
    assert check_folder(tmp_path / "out")["damaged"] == []
    assert max(p.stat().st_size for p in (tmp_path / "out").glob("shard-*")) <= LIMIT
    assert seen[-1] == (445, 445)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "whole"]  # no work folder is left


class Killed(BaseException):
    """Stands for a signal that cannot be caught."""


@pytest.mark.parametrize("moment", ["part", "joining", "last file"])
def test_a_killed_import_is_resumed_to_the_same_bytes(source, tmp_path, monkeypatch, moment):
    run(source, tmp_path / "unbroken")
    begun = []

    def counted(*args, **kwargs):
        begun.append(args)
        if moment == "part" and len(begun) == 4:
            raise Killed
        return pack(*args, **kwargs)

    def killed(*args, **kwargs):
        raise Killed

    monkeypatch.setattr(parallel_pack, "pack", counted)
    with monkeypatch.context() as patch:
        if moment == "joining":
            patch.setattr(parallel_pack, "content_digest", killed)
        if moment == "last file":
            patch.setattr(parallel_pack, "install_folder", killed)
        with pytest.raises(Killed):
            run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    before, moment = len(begun), "none"
    run(source, tmp_path / "out")
    parts = len(parallel_pack.divide(Store(source), ReadOptions(), LIMIT))
    assert len(begun) - before == (parts - 3 if before == 4 else 0)  # finished parts are not written again
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "unbroken")


def test_parts_of_other_data_are_not_used(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(parallel_pack, "install_folder", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            run(source, tmp_path / "out", options=ReadOptions(size=(8, 8)))
    assert run(source, tmp_path / "out").shapes[0] == (3, 16, 16)
    with pytest.raises(UserError, match="already holds a store"):
        run(source, tmp_path / "out")
    assert run(source, tmp_path / "out", options=ReadOptions(size=(8, 8)), overwrite=True).shapes[0] == (3, 8, 8)


def test_unreadable_videos_are_skipped_and_listed(tmp_path, done, refused):  # noqa: F811
    (tmp_path / "in").mkdir()
    for i in range(6):
        np.save(tmp_path / "in" / f"v{i}.npy", np.full((40, 16, 16, 3), i, np.uint8))
    frames = np.load(tmp_path / "in" / "v3.npy")
    command = ("data", "import", tmp_path / "in", "--out", tmp_path / "out", "--shards", "64KiB", "--json", "-")
    summary = json.loads(done(*command))
    assert (summary["videos"], summary["frames"]) == (6, 240)
    assert json.loads((tmp_path / "out" / "index.json").read_text())["format"] == 2
    np.testing.assert_array_equal(Store(tmp_path / "out").clip(3, 0, 40).frames, frames.transpose(0, 3, 1, 2))
    assert "--workers must be at least 1" in refused(*command, "--workers", "0", "--overwrite")


def test_skipped_videos_of_parts_are_listed(source, tmp_path, monkeypatch):
    real = Store.clip

    def clip(self, index, start, length, stride=1):
        if self.folder == source and self.names[index] in ("video-00003", "video-00009") and start + length > 3:
            raise UserError(f"{self.names[index]}: cannot be read; repair it")
        return real(self, index, start, length, stride)

    monkeypatch.setattr(Store, "clip", clip)
    with pytest.raises(UserError, match="video-00003: cannot be read"):
        run(source, tmp_path / "out")
    found = run(source, tmp_path / "out", options=ReadOptions(skip_bad=True))
    assert found.meta()["skipped"] == ["video-00003", "video-00009"]
    assert len(found) == 10


def test_jobs_take_and_return_plain_data(source, tmp_path, monkeypatch):
    sent = []

    def send(jobs, workers, cluster, report):
        for number, job in enumerate(jobs):
            answer = json.loads(json.dumps(call(job.call, json.loads(json.dumps(dict(job.args))))))
            sent.append(answer["result"])
            report(number, answer["result"])

    monkeypatch.setattr(parallel_pack, "run_jobs", send)
    found = run(source, tmp_path / "out", workers=2)
    assert sum(sent) == len(found) == 12
    assert jobs_module.RETRIES > 0
