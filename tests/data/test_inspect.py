"""The facts facts about a source are those of its files."""

import json

import numpy as np
import pytest

from framecast.data.inspect import inspect
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.store import pack
from framecast.media.images import read_image
from framecast.media.video import write_video


def video(count, height=16, width=24):
    return np.random.default_rng(count).integers(0, 256, (count, 3, height, width), np.uint8)


def test_videos(tmp_path):
    write_video(video(10), tmp_path / "v" / "a.mp4", 10)
    write_video(video(6), tmp_path / "v" / "b.mp4", 10)
    write_video(video(8, 32, 20), tmp_path / "v" / "c.mp4", 20)
    facts = inspect(open_path(tmp_path / "v"), tmp_path / "sheet.png")
    assert (facts["videos"], facts["frames"], facts["shortest"], facts["longest"]) == (3, 24, 6, 10)
    assert facts["sizes"] == {"16x24": 2, "32x20": 1}
    assert facts["fps"] == {"10": 2, "20": 1}
    assert facts["duration"] == pytest.approx(1.6 + 0.4)
    assert facts["bytes"] == 3 * (16 * 16 * 24 + 8 * 32 * 20)
    assert facts["disk_bytes"] == sum(p.stat().st_size for p in (tmp_path / "v").iterdir())
    assert facts["actions"] is None
    assert sum(part["frames"] for part in facts["splits"].values()) == 24
    assert "seeded hash" in facts["split_rule"]
    assert json.loads(json.dumps(facts)) == facts
    sheet = read_image(tmp_path / "sheet.png")
    assert facts["sheet"] == str(tmp_path / "sheet.png")
    assert sheet.shape[1] > 3 * 60
    assert sheet.shape[2] > 8 * 90


def test_arrays_with_actions(tmp_path):
    np.savez(tmp_path / "e.npz", frames=video(9), actions=np.zeros((9, 2)), rewards=np.zeros(9))
    facts = inspect(open_path(tmp_path / "e.npz"))
    assert facts["actions"] == {"kind": "continuous", "size": 2, "names": [], "low": [0, 0], "high": [0, 0]}
    assert facts["extras"] == {"rewards": []}
    assert facts["sheet"] is None


def test_packed_store(tmp_path):
    write_video(video(10), tmp_path / "a.mp4", 10)
    pack(open_path(tmp_path / "a.mp4"), tmp_path / "store")
    facts = inspect(open_path(tmp_path / "store"), tmp_path / "s.png")
    assert (facts["frames"], facts["sizes"], facts["fps"]) == (10, {"16x24": 1}, {"10": 1})


def test_source_too_short_to_split_is_summarised(tmp_path):
    write_video(video(1), tmp_path / "one.mp4")
    facts = inspect(open_path(tmp_path / "one.mp4"), tmp_path / "s.png")
    assert facts["frames"] == 1
    assert facts["splits"] is None
    assert "one" in facts["split_rule"]
    assert (tmp_path / "s.png").is_file()


@pytest.mark.parametrize("channels", [1, 5])
def test_any_channel_count_has_a_sheet(tmp_path, channels):
    np.save(tmp_path / "a.npy", np.zeros((6, channels, 300, 200), np.uint8))
    facts = inspect(open_path(tmp_path / "a.npy", ReadOptions(axes="tchw")), tmp_path / "s.png")
    assert facts["channels"] == channels
    assert read_image(tmp_path / "s.png").shape[1] >= 160
