"""Every container, rotation, rate and pixel format is read as documented; every error names file and remedy."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

from framecast.core.errors import UserError
from framecast.media.resize import resize_frames
from framecast.media.video import iter_frames, probe, read_video, write_video

TURNS = {  # clockwise degrees -> a, b, c, d of the display matrix
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


def moving(count=12, height=48, width=64):
    """A bright block that moves over a smooth ramp; easy on every codec."""
    frames = np.empty((count, 3, height, width), np.uint8)
    frames[:] = np.linspace(20, 160, width).astype(np.uint8)
    for i in range(count):
        frames[i, 0, 8:24, 2 * i : 2 * i + 16] = 230
    return frames


def encode(path, frames, codec="libx264", pix_fmt="yuv420p", rate=30, pts=None, **options):
    """Frames through a codec with given timestamps (in units of 1 / rate)."""
    with av.open(str(path), "w", options=options.pop("container", {})) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[2:], pix_fmt
        if pix_fmt.startswith("gray"):
            stream.codec_context.color_range = 2  # what the conversion below makes: 0 is black, 255 white
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = (i if pts is None else pts[i]), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_matrix(path, matrix):
    """The same mp4 with another matrix in its track header: what a phone held upright writes."""
    content = path.read_bytes()
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (65536 * value for value in matrix)
    turned = path.with_name("turned.mp4")
    turned.write_bytes(content[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + content[at + 36 :])
    return turned


def close_to(found, expected, limit=6.0):
    assert found.shape == expected.shape
    assert np.abs(found.astype(float) - expected).mean() < limit


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif", ".webp"])
@pytest.mark.parametrize("fps", [30, 12.5])
def test_round_trip(tmp_path, suffix, fps):
    frames = moving()
    path = write_video(frames, tmp_path / f"clip{suffix}", fps)
    info = probe(path)
    assert (info.height, info.width, info.frames, info.stored, info.lost) == (48, 64, 12, 12, 0)
    assert info.fps == pytest.approx(fps)
    assert info.duration == pytest.approx(12 / fps)
    clip = read_video(path)
    close_to(clip.frames, frames)
    assert (clip.name, clip.fps) == ("clip", info.fps)
    part = read_video(path, start=4, length=3, stride=2)
    assert np.array_equal(part.frames, clip.frames[4:9:2])
    assert part.fps == pytest.approx(fps / 2)


@pytest.mark.parametrize("degrees", TURNS)
def test_rotation_flags(tmp_path, degrees):
    frames = moving(4, 32, 64)
    upright = np.rot90(frames, -degrees // 90, axes=(2, 3))
    path = with_matrix(write_video(frames, tmp_path / "plain.mp4"), TURNS[degrees])
    info = probe(path)
    assert info.rotation == degrees
    assert (info.height, info.width) == upright.shape[2:]
    close_to(read_video(path).frames, upright)
    for size, fit in (((20, 24), "crop"), ((20, 24), "pad"), ((16, 50), "squash"), (16, "crop")):
        close_to(
            read_video(path, size=size, fit=fit).frames, resize_frames(np.ascontiguousarray(upright), size, fit), 9
        )


def test_mirror_flag(tmp_path):
    frames = moving(3)
    path = with_matrix(write_video(frames, tmp_path / "plain.mp4"), (-1, 0, 0, 1))
    close_to(read_video(path).frames, frames[..., ::-1])


def test_variable_rate_shows_the_nearest_earlier_frame(tmp_path):
    frames = moving(10)
    pts = np.array([0, 31, 60, 112, 129, 342, 375, 466, 486, 500])
    path = encode(tmp_path / "vfr.mkv", frames, rate=1000, pts=pts.tolist(), crf="10")
    info = probe(path)
    assert not info.constant
    assert info.stored == 10
    plain = [max(i for i in range(10) if pts[i] / 1000 <= k / info.fps + 1e-3) for k in range(info.frames)]
    close_to(read_video(path).frames, frames[plain])


def test_dropped_frames_are_shown_again(tmp_path):
    frames = moving(8)
    path = encode(tmp_path / "drop.mp4", frames, rate=30, pts=[0, 1, 2, 3, 6, 7, 8, 9], crf="10")
    assert probe(path).fps == 30
    close_to(read_video(path).frames, frames[[0, 1, 2, 3, 3, 3, 4, 5, 6, 7]])


def test_requested_rate(tmp_path):
    frames = moving(12)
    path = write_video(frames, tmp_path / "a.mp4", 30)
    whole = read_video(path).frames
    assert np.array_equal(read_video(path, fps=10).frames, whole[::3])
    assert np.array_equal(read_video(path, fps=60, length=6).frames, whole[[0, 0, 1, 1, 2, 2]])
    assert probe(path).frames_at(10) == 4


def test_gif_with_durations_of_its_own(tmp_path):
    images = [Image.new("RGB", (6, 4), (40 * i, 0, 0)) for i in range(4)]
    images[0].save(tmp_path / "v.gif", save_all=True, append_images=images[1:], duration=[100, 300, 100, 200])
    clip = read_video(tmp_path / "v.gif")
    assert clip.fps == 10
    assert clip.frames[:, 0, 0, 0].tolist() == [0, 40, 40, 40, 80, 120, 120]


def test_still_stretches_of_a_webp_keep_their_length(tmp_path):
    frames = np.repeat(moving(4), [1, 3, 2, 2], axis=0)
    clip = read_video(write_video(frames, tmp_path / "s.webp", 20))
    assert clip.fps == pytest.approx(20)
    close_to(clip.frames, frames)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx264", "gray", ".mkv"),
        ("ffv1", "gray16le", ".mkv"),
        ("ffv1", "bgra", ".mkv"),
    ],
)
def test_depth_grey_and_alpha(tmp_path, codec, pix_fmt, suffix):
    frames = moving(3)
    path = encode(tmp_path / f"p{suffix}", frames, codec, pix_fmt)
    found = read_video(path).frames
    if pix_fmt.startswith("gray"):
        assert (found == found[:, :1]).all()
        expected = frames.transpose(0, 2, 3, 1) @ np.array([0.299, 0.587, 0.114])
        close_to(found[:, 0], expected)
    else:
        close_to(found, frames)


def test_alpha_is_composited_on_black(tmp_path):
    rgba = np.full((4, 6, 4), 200, np.uint8)
    rgba[:, 3:, 3] = 0
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 4, 6, "bgra"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="bgra")))
        container.mux(stream.encode())
    found = read_video(tmp_path / "a.mkv").frames
    assert (found[..., :3] == round(200 * 200 / 255)).all()
    assert (found[..., 3:] == 0).all()


def test_odd_sizes_are_kept(tmp_path):
    frames = moving(3, 33, 47)
    path = encode(tmp_path / "odd.mkv", frames, "ffv1", "bgr0")
    assert np.array_equal(read_video(path).frames, frames)
    gif = write_video(np.where(frames > 128, 255, 0).astype(np.uint8), tmp_path / "odd.gif")
    assert np.array_equal(read_video(gif).frames, np.where(frames > 128, 255, 0))


def test_scaled_while_decoding_equals_scaled_afterwards(tmp_path):
    path = write_video(moving(4, 90, 120), tmp_path / "a.mp4")
    full = read_video(path).frames
    for size, fit in ((32, "crop"), ((40, 40), "crop"), ((40, 40), "pad"), ((20, 60), "squash")):
        close_to(read_video(path, size=size, fit=fit).frames, resize_frames(full, size, fit), 2.0)


def test_seeking_equals_reading_through(tmp_path):
    frames = moving(24)
    path = encode(tmp_path / "k.mp4", frames, g="5", bf="2", crf="12")
    whole = list(iter_frames(path))
    assert len(whole) == 24
    for start in (0, 4, 5, 11, 23):
        assert np.array_equal(read_video(path, start, 1).frames[0], whole[start])
    assert np.array_equal(read_video(path, -3).frames, np.stack(whole[-3:]))


def test_iter_frames_streams(tmp_path):
    path = write_video(moving(5), tmp_path / "a.mp4")
    stream = iter_frames(path, start=1, length=2)
    assert next(stream).shape == (3, 48, 64)
    assert len(list(stream)) == 1
    assert list(iter_frames(path, start=5)) == []


def fault(tmp_path, name):
    """A broken file of the given kind."""
    path = tmp_path / name
    if name == "empty.mp4":
        path.write_bytes(b"")
    elif name == "text.mp4":
        path.write_text("#EXTM3U\nhttp://example.invalid/a.ts\n" * 9)
    elif name == "noise.avi":
        path.write_bytes(np.random.default_rng(0).bytes(4000))
    elif name == "sound.mp4":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
            sound.sample_rate = 44100
            container.mux(stream.encode(sound))
            container.mux(stream.encode())
    elif name == "noindex.mp4":
        content = write_video(moving(20), tmp_path / "whole.mp4").read_bytes()
        path.write_bytes(content[: content.index(b"moov") - 4])
    elif name == "folder.mp4":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("empty.mp4", r"empty\.mp4 is empty \(0 bytes\); copy"),
        ("text.mp4", r"text\.mp4 is text, not a video, whatever its name; give a video"),
        ("noise.avi", r"noise\.avi is not a video that can be read .*; give mp4"),
        ("sound.mp4", r"sound\.mp4 has sound but no picture; give a file with a video track"),
        ("noindex.mp4", r"noindex\.mp4 is cut short.*its index is missing; copy or export it again"),
        ("missing.mp4", r"missing\.mp4 does not exist; check the path"),
        ("folder.mp4", r"folder\.mp4 is a folder, not a video"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, name, sentence):
    with pytest.raises(UserError, match=sentence):
        read_video(fault(tmp_path, name))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".gif", ".webp"])
def test_truncated_video_is_refused_or_decoded_up_to_the_damage(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 48), np.uint8)
    if suffix == ".mp4":
        whole = encode(tmp_path / "whole.mp4", noise, container={"movflags": "faststart"}, bf="0")
    else:
        whole = write_video(noise, tmp_path / f"whole{suffix}")
    before = read_video(whole).frames
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(UserError, match=rf"cut\{suffix} is .*copy"):
        read_video(path)
    if suffix == ".webp":
        return  # its header announces a size that is not there: nothing of it can be decoded
    info = probe(path, skip_bad=True)
    assert 0 < info.frames < 40
    assert info.lost > 0 or suffix == ".gif"
    clip = read_video(path, skip_bad=True)
    assert np.array_equal(clip.frames[:10], before[:10])
    assert len(clip.frames) == info.frames


def test_damage_in_the_middle(tmp_path):
    path = encode(tmp_path / "d.avi", moving(30, 64, 64), "mjpeg", "yuvj420p")
    content = bytearray(path.read_bytes())
    marks = [i for i in range(len(content) - 1) if content[i : i + 2] == b"\xff\xd8"]
    content[marks[20] : marks[21] - 8] = bytes(marks[21] - 8 - marks[20])
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"d\.avi is damaged .*skip-bad"):
        read_video(path)
    assert len(read_video(path, length=18).frames) == 18


def test_frames_of_two_sizes(tmp_path):
    path = tmp_path / "two.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        for i, size in enumerate([(64, 48)] * 3 + [(32, 24)] * 2):
            context = av.CodecContext.create("mjpeg", "w")
            context.width, context.height, context.pix_fmt, context.time_base = *size, "yuvj420p", Fraction(1, 10)
            frame = av.VideoFrame(*size, "yuvj420p")
            frame.pts = i
            for packet in [*context.encode(frame), *context.encode(None)]:
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, Fraction(1, 10)
                container.mux(packet)
    with pytest.raises(UserError, match=r"two\.avi has frames of two sizes: 64x48 at first, 32x24 at frame 3; export"):
        read_video(path)
    assert read_video(path, length=3).frames.shape == (3, 3, 48, 64)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_one_frame(tmp_path, suffix):
    path = write_video(moving(1), tmp_path / f"one{suffix}")
    assert read_video(path).frames.shape == (1, 3, 48, 64)
    with pytest.raises(UserError, match="holds a single frame, so nothing moves; give"):
        read_video(path, length=4)


def test_clips_beyond_the_end_and_beyond_memory(tmp_path, monkeypatch):
    path = write_video(moving(5), tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"a\.mp4 has 5 frames, but frames 3 to 6 were asked for"):
        read_video(path, 3, 4)
    monkeypatch.setattr("framecast.media.video.MAX_CLIP_BYTES", 1000)
    with pytest.raises(UserError, match="exceed 8 GiB; give a smaller size"):
        read_video(path)


def test_claimed_size_is_bounded(tmp_path, monkeypatch):
    path = write_video(moving(2), tmp_path / "a.mp4")
    monkeypatch.setattr("framecast.media.packets.MAX_PIXELS", 100)
    with pytest.raises(UserError, match="has frames of 64x48, more than 100 pixels"):
        probe(Path(path))


def test_full_range_and_matrix_are_honoured(tmp_path):
    grey = np.full((2, 3, 16, 16), 250, np.uint8)
    path = encode(tmp_path / "full.mkv", grey, "mjpeg", "yuvj420p")
    close_to(read_video(path).frames, grey, 2.0)
    red = np.zeros((2, 3, 32, 32), np.uint8)
    red[:, 0] = 220
    close_to(read_video(write_video(red, tmp_path / "red.mp4")).frames, red, 3.0)


@pytest.mark.parametrize(("version", "taken"), [("18.1.0", {"metadata_errors": "replace"}), ("19.0.2", {})])
def test_only_arguments_of_the_installed_pyav_are_passed(version, taken, tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    write_video(np.zeros((3, 3, 16, 16), np.uint8), path, 10)
    given, real = [], av.open

    def opening(file, options, **arguments):
        given.append(arguments)
        return real(file, options=options)

    monkeypatch.setattr("av.open", opening)
    monkeypatch.setattr("av.__version__", version)
    assert probe(path).frames == 3
    assert given
    assert all(arguments == taken for arguments in given)


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt"), [("libvpx-vp9", ".webm", "yuva420p"), ("qtrle", ".mov", "argb")]
)
def test_hidden_colours_of_alpha_do_not_show(tmp_path, codec, suffix, pix_fmt):
    rgba = np.full((32, 48, 4), 200, np.uint8)
    rgba[:, :24, 3], rgba[:, 24:, 3] = 255, 0
    with av.open(str(tmp_path / f"a{suffix}"), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, pix_fmt
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt)))
        container.mux(stream.encode())
    found = read_video(tmp_path / f"a{suffix}").frames
    assert len(found) == 3
    assert (found[..., 26:] < 8).all()
    assert abs(found[..., :20].mean() - 200) < 8
    assert (read_video(tmp_path / f"a{suffix}", size=(8, 12)).frames[..., 7:] < 8).all()


def test_scaled_film_is_as_bright_as_its_images(tmp_path):
    """4:2:0 at a third of its size against full-size images of the same film, scaled as images are."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 3, 12, 20), np.uint8)
    frames = resize_frames(noise, (216, 384))
    path = encode(tmp_path / "a.mp4", frames, qp="0")
    with av.open(str(path)) as container:
        decoded = [f.to_ndarray(format="yuv444p") for f in container.decode(video=0)]
    planes = np.stack(decoded).astype(float)
    y, u, v = (planes[:, i] - (16, 128, 128)[i] for i in range(3))
    y, u, v = y * 255 / 219, u * 255 / 224, v * 255 / 224
    images = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], axis=1)
    images = np.rint(np.clip(images, 0, 255)).astype(np.uint8)
    for size in (72, None):
        found, expected = read_video(path, size=size).frames, resize_frames(images, size)
        assert abs(found.astype(float).mean() - expected.mean()) < 0.3
        assert np.abs(found.astype(float) - expected).mean() < 0.5 if size else 1.0


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow reads no AVIF")
def test_animated_avif_that_is_cut_short_is_not_read_as_one_frame(tmp_path):
    first, *others = (Image.fromarray(frame.transpose(1, 2, 0)) for frame in moving(8))
    path = tmp_path / "a.avif"
    first.save(path, save_all=True, append_images=others, duration=40)
    assert probe(path).frames == 8
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    for skip_bad in (False, True):
        with pytest.raises(UserError, match="is damaged"):
            probe(path, skip_bad=skip_bad)
