"""What is written can be read, keeps its rate, and appears whole or not at all."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from framecast.core.errors import UserError
from framecast.media.images import read_image
from framecast.media.video import probe, read_video
from framecast.media.write import SUFFIXES, write_video


def ramp(count=6, height=16, width=24):
    rng = np.random.default_rng(0)
    frames = (
        np.repeat(rng.integers(0, 256, (1, 3, 1, 1)), count, 0)
        + np.arange(width) * 3
        + np.arange(count)[:, None, None, None] * 8
    )
    return np.broadcast_to(np.clip(frames, 0, 255), (count, 3, height, width)).astype(np.uint8)


def test_folder_of_pngs_is_lossless_and_replaced(tmp_path):
    frames = ramp(12)
    folder = write_video(frames, tmp_path / "out" / "frames")
    assert sorted(p.name for p in folder.glob("[!.]*")) == [f"{i:06d}.png" for i in range(12)]
    assert all(np.array_equal(read_image(folder / f"{i:06d}.png"), frames[i]) for i in range(12))
    write_video(frames[:3], folder)
    assert len(list(folder.glob("[!.]*"))) == 3
    assert [p.name for p in folder.parent.iterdir()] == ["frames"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_frames_in_any_form(tmp_path, suffix):
    frames = ramp()
    tensor = torch.from_numpy(frames[:, :1].copy()).float() / 255
    path = write_video((frame for frame in tensor), tmp_path / f"grey{suffix}", 10)
    found = read_video(path).frames
    assert found.shape == frames.shape
    assert np.abs(found.astype(int) - frames[:, :1]).mean() < 4
    rgba = np.concatenate([frames, np.zeros_like(frames[:, :1])], axis=1)
    assert read_video(write_video(rgba, tmp_path / f"clear{suffix}")).frames.max() < 4
    assert not [p.name for p in tmp_path.iterdir() if "part" in p.name]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".mov"])
def test_odd_sizes_repeat_the_edge(tmp_path, suffix):
    frames = ramp(4, 15, 23)
    found = read_video(write_video(frames, tmp_path / f"odd{suffix}")).frames
    assert found.shape == (4, 3, 16, 24)
    assert np.abs(found[:, :, :15, :23].astype(int) - frames).mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 50)])
@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_tiny_frames(tmp_path, size, suffix):
    assert probe(write_video(np.full((3, 3, *size), 90, np.uint8), tmp_path / f"t{suffix}")).stored >= 1


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), 29.97, 24, 7.5, 1, 59.94])
def test_containers_keep_the_rate(tmp_path, fps):
    exact = {29.97: 30000 / 1001, 59.94: 60000 / 1001}.get(fps, float(fps))
    for suffix in (".mp4", ".mkv", ".avi"):
        assert probe(write_video(ramp(), tmp_path / f"r{suffix}", fps)).fps == pytest.approx(exact, rel=1e-9)


def test_gif_counts_hundredths(tmp_path):
    with Image.open(write_video(ramp(10), tmp_path / "g.gif", 30)) as image:
        delays = []
        for i in range(image.n_frames):
            image.seek(i)
            delays.append(image.info["duration"])
    assert set(delays) <= {30, 40}
    assert sum(delays) == 330
    assert probe(write_video(ramp(10), tmp_path / "fast.gif", 120)).fps == pytest.approx(50)


def test_gif_has_one_palette_and_keeps_few_colours(tmp_path):
    frames = np.random.default_rng(0).choice(np.array([0, 90, 255], np.uint8), (5, 3, 20, 20))
    path = write_video(frames, tmp_path / "few.gif")
    assert np.array_equal(read_video(path).frames, frames)
    noise = np.random.default_rng(0).integers(0, 256, (5, 3, 40, 40), np.uint8)
    many = write_video(noise, tmp_path / "many.gif")
    assert many.stat().st_size < 5 * 40 * 40 * 2 + 768 + 200
    assert np.abs(read_video(many).frames.astype(int) - noise).mean() < 20


def test_mpeg4_stands_in_for_a_missing_x264(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    path = write_video(ramp(), tmp_path / "a.mp4", 29.97)
    assert probe(path).codec == "mpeg4"
    assert np.abs(read_video(path).frames.astype(int) - ramp()).mean() < 4


def test_invalid_frames_and_paths_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for place, sentence in (
        (tmp_path / "a.mpx", r"cannot be written as \.mpx; use \.gif"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "folder.mp4", "is a folder, but a video"),
        (tmp_path / "full", "holds other files, so it is not replaced"),
        (tmp_path / "file" / "a.mp4", "is a file, so .* cannot be written below it"),
    ):
        with pytest.raises(UserError, match=sentence):
            write_video(ramp(), place)
    for frames, sentence in (
        (iter(()), "no frames to write"),
        (np.zeros((3, 4, 4), np.uint8), "needs frames"),
        (np.zeros((2, 5, 4, 4), np.uint8), "1, 3 or 4 channels"),
        ([np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 6), np.uint8)], "frame 1 is 6x4, those before are 4x4"),
    ):
        with pytest.raises(UserError, match=sentence):
            write_video(frames, tmp_path / "a.mp4")
    with pytest.raises(UserError, match="fps must be above 0"):
        write_video(ramp(), tmp_path / "a.mp4", 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.mp4", "full"]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a"])
def test_failed_write_keeps_the_existing_file(tmp_path, name):
    path = write_video(ramp(), tmp_path / name)
    before = read_video(path).frames if path.is_file() else read_image(path / "000005.png")

    def failing():
        yield from ramp()[:2]
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError):
        write_video(failing(), path)
    after = read_video(path).frames if path.is_file() else read_image(path / "000005.png")
    assert np.array_equal(before, after)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(UserError, match=r"a\.mp4 could not be written \(No space left on device\); free some space"):
        write_video(ramp(), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []
