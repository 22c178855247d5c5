"""Frames come out as a sequential decoder gives them, whatever the timestamps are; damage ends a film."""

import os
import pickle
from fractions import Fraction

import av
import numpy as np
import pytest
from films import film, numbered, numbers, plain_decode

from framecast.core.errors import UserError
from framecast.media.video import iter_frames, probe, read_video

B_FRAMES = {"bf": 3, "g": 12}


def read(path, **options):
    return numbers(read_video(path, **options).frames)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.avi", "libx264", B_FRAMES),  # AVI stores no presentation times
        ("b.avi", "mpeg4", {"bf": 2}),
        ("c.mkv", "libx264", B_FRAMES),
        ("d.mpg", "mpeg2video", {"bf": 2}),
        ("e.h264", "libx264", {**B_FRAMES, "format": "h264"}),
        ("f.flv", "libx264", B_FRAMES),
        ("g.webm", "libvpx", {"auto-alt-ref": 1, "lag-in-frames": 16}),
    ],
)
def test_frames_are_those_of_a_sequential_decoder(tmp_path, name, codec, options):
    path = film(tmp_path / name, 40, codec, **options)
    assert plain_decode(path) == list(range(40))
    assert read(path) == list(range(40))
    assert read(path, start=17, length=3, stride=5) == [17, 22, 27]
    assert read(path, start=-4) == [36, 37, 38, 39]


def test_timestamps_that_restart(tmp_path):
    parts = [film(tmp_path / f"{i}.ts", 20, **B_FRAMES).read_bytes() for i in range(2)]
    (tmp_path / "joined.ts").write_bytes(parts[0] + parts[1])
    assert read(tmp_path / "joined.ts") == list(range(20)) * 2


def test_timestamps_that_ascend_in_decoding_order(tmp_path):
    """Packets of B-frames whose presentation times were replaced by decoding times."""
    source, path = film(tmp_path / "a.mp4", 30, **B_FRAMES), tmp_path / "b.mkv"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for i, packet in enumerate(p for p in old.demux(video=0) if p.size):
            packet.pts = packet.dts = i
            packet.time_base, packet.stream = Fraction(1, 25), stream
            new.mux(packet)
    assert read(path) == list(range(30))


@pytest.mark.parametrize("name", ["a.avi", "a.wmv", "a.mxf"])
def test_reordering_that_begins_late_in_a_container_without_display_order(tmp_path, name):
    path, rate = tmp_path / name, Fraction(1, 25)
    with av.open(str(path), "w", format="asf" if name.endswith("wmv") else None) as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "b_strategy": "0", "g": "20"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for i, pixels in enumerate(numbered(70)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = i, rate
            if i < 52:
                frame.pict_type = av.video.frame.PictureType.P
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert numbers(read_video(path).frames) == plain_decode(path) == list(range(70))
    assert numbers(read_video(path, 60, 4).frames) == [60, 61, 62, 63]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("a.mpg", "mpeg2video", "yuv420p", {"bf": 2, "g": 15, "noise": 30}),  # times of most frames are interpolated
        ("a.vob", "mpeg1video", "yuv420p", {"bf": 2, "g": 15, "noise": 30}),
        ("a.ts", "mpeg4", "yuv420p", {"bf": 3, "g": 7}),
        ("a.mov", "rawvideo", "gray", {}),  # its palette comes with the first packet
    ],
)
def test_frames_after_a_seek_are_those_of_a_sequential_decoder(tmp_path, name, codec, pix_fmt, options):
    path = film(tmp_path / name, 60, codec, pix_fmt=pix_fmt, **options)
    expected = plain_decode(path)
    for start in (16, 29, 31, 44, 59):
        assert numbers(np.stack(list(iter_frames(path, start=start, length=1)))) == expected[start : start + 1]


def test_frames_with_exif_data(tmp_path):
    path = film(tmp_path / "a.mov", 5, "tiff", pix_fmt="rgb24")
    assert numbers(read_video(path).frames) == list(range(5))


def test_last_frames_of_a_transport_stream(tmp_path):
    path = film(tmp_path / "a.ts", 50, **B_FRAMES)
    for start in (10, 37, 46, 49):
        assert read(path, start=start, length=1) == [start]
    assert read(path, start=-4) == [46, 47, 48, 49]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.mp4", "libx264", B_FRAMES), ("b.mkv", "libx264", B_FRAMES), ("c.ts", "libx264", B_FRAMES),
     ("d.webm", "libvpx", {})],
)  # fmt: skip
def test_film_ends_at_the_first_damage(tmp_path, name, codec, options):
    path = film(tmp_path / name, 60, codec, noise=25, **options)
    content = bytearray(path.read_bytes())
    at = len(content) * 45 // 100
    if name.endswith(".ts"):  # within a picture, not in a table of the file
        with av.open(str(path)) as container:
            at = max((packet.size, packet.pos) for packet in [*container.demux(video=0)][15:40])[1] + 100
    content[at : at + 300] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        read_video(path)
    info = probe(path, skip_bad=True)
    assert 5 < info.frames < 50
    assert info.frames + info.lost == 60
    assert read(path, skip_bad=True) == list(range(info.frames))
    assert read(path, start=info.frames - 3, skip_bad=True) == list(range(info.frames - 3, info.frames))


def test_intact_films_lose_nothing_with_skip_bad(tmp_path):
    for name in ("a.mp4", "b.ts", "c.avi", "d.mkv"):
        info = probe(film(tmp_path / name, 30, **B_FRAMES), skip_bad=True)
        assert (info.frames, info.lost) == (30, 0)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_pause_breaks_the_film_instead_of_dropping_pictures(tmp_path, name):
    times = [*range(40), *range(640, 680)]  # 60 s at 10 frames a second
    path = film(tmp_path / name, 80, rate=10, pts=times, bf=0)
    info = probe(path)
    assert (info.fps, info.frames, info.breaks, info.unused) == (10, 80, (40,), 0)
    assert read(path) == list(range(80))
    assert info.breaks_at(5) == (20,)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("mjpeg", "yuvj420p"), ("libx264", "yuv420p")])
def test_empty_chunks_of_avi_repeat_the_frame_before(tmp_path, codec, pix_fmt):
    times = [0, 1, 2, 5, 6, *range(10, 25)]
    options = {"bf": 0} if codec == "libx264" else {}
    path = film(tmp_path / "a.avi", 20, codec, pix_fmt=pix_fmt, pts=times, **options)
    assert read(path) == [0, 1, 2, 2, 2, 3, 4, 4, 4, 4, *range(5, 20)]


def with_sound(path, frames, seconds):
    """A film of numbered frames with a tone of so many seconds."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 32, "yuv420p"
        sound = container.add_stream("aac", rate=8000)
        for i, pixels in enumerate(numbered(frames)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(video.encode(frame.reformat(format="yuv420p")))
        container.mux(video.encode())
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * seconds), np.float32), format="fltp", layout="mono")
        tone.sample_rate, tone.pts = 8000, 0
        container.mux(sound.encode(tone))
        container.mux(sound.encode())
    return path


def test_sound_longer_than_the_picture_is_no_loss(tmp_path):
    path = with_sound(tmp_path / "a.mkv", 25, 12)
    assert read(path) == list(range(25))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"is cut short|is damaged"):
        read_video(path)


def test_default_track_is_read(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        streams[0].disposition, streams[1].disposition = av.stream.Disposition(0), av.stream.Disposition.default
        for i, pixels in enumerate(numbered(10)):
            for stream, shown in zip(streams, (pixels * 0, pixels), strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown.transpose(1, 2, 0)), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
        for stream in streams:
            container.mux(stream.encode())
    assert read(path) == list(range(10))


def test_pipes_addresses_and_names_that_are_no_text(tmp_path):
    os.mkfifo(tmp_path / "p.mp4")
    with pytest.raises(UserError, match="is a pipe or device"):
        probe(tmp_path / "p.mp4")
    with pytest.raises(UserError, match="is an address; download it"):
        probe("https://example.invalid/a.mp4")
    name = os.fsencode(tmp_path) + b"/\xff.mp4"
    os.rename(film(tmp_path / "a.mp4", 3), name)
    with pytest.raises(UserError, match="name that is not UTF-8; rename it"):
        probe(os.fsdecode(name))


def test_index_can_be_pickled(tmp_path):
    info = probe(film(tmp_path / "a.avi", 5, **B_FRAMES))
    assert pickle.loads(pickle.dumps(info)) == info
    assert len(list(iter_frames(info.path))) == 5
