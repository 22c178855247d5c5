"""The cache of decoded data: what is in it is used without reading the originals."""

import dataclasses

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.cache import open_data
from framecast.data.options import DataConfig
from framecast.data.readers import videos
from framecast.media.video import write_video


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b"):
        write_video(np.zeros((4, 3, 16, 24), np.uint8), tmp_path / "videos" / f"{name}.mp4", 10)
    return tmp_path / "videos"


def test_no_video_is_opened_when_all_are_in_the_cache(folder, monkeypatch):
    first, used = open_data(DataConfig(path=str(folder), size="8"))
    opened = []
    monkeypatch.setattr(videos, "probe", lambda path, *rest: opened.append(path))
    again, config = open_data(DataConfig(path=str(folder), size="8"))
    assert opened == []
    assert (again.folder, again.names, config) == (first.folder, ["a", "b"], used)
    with pytest.raises(AttributeError):  # another size is not in the cache: it is opened
        open_data(DataConfig(path=str(folder), size="12"))
    assert opened


def test_what_was_cached_without_damaged_files_is_not_used_where_they_count(folder):
    (folder / "c.mp4").write_bytes(b"\0" * 100)
    lenient = DataConfig(path=str(folder), size="8", skip_bad=True)
    assert open_data(lenient)[0].names == ["a", "b"]
    with pytest.raises(UserError, match=r"c\.mp4"):
        open_data(dataclasses.replace(lenient, skip_bad=False))
