"""Every reader of films against a plain sequential decoder, over containers, codecs, B-frames, rates and formats.

FRAMECAST_EXAMPLES sets the number of examples; `make acceptance` runs the long form.
"""

import os
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
from films import film, numbers, plain_decode
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.media.video import probe, read_video

PROFILE = settings(
    max_examples=int(os.environ.get("FRAMECAST_EXAMPLES", "12")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

#: Suffix -> codecs that it may hold, with their pixel formats.
H264 = ("libx264", ("yuv420p", "yuv444p", "yuv420p10le", "gray"))
MPEG4, MPEG2, MJPEG = ("mpeg4", ("yuv420p",)), ("mpeg2video", ("yuv420p",)), ("mjpeg", ("yuvj420p", "yuvj444p"))
HEVC, VP8, VP9 = ("libx265", ("yuv420p", "yuv420p10le")), ("libvpx", ("yuv420p",)), ("libvpx-vp9", ("yuv420p",))
CONTAINERS = {
    ".mp4": (H264, MPEG4, HEVC, VP9),
    ".mov": (H264, MPEG4, ("prores_ks", ("yuv422p10le",)), ("qtrle", ("rgb24",))),
    ".mkv": (H264, MPEG4, MPEG2, MJPEG, HEVC, VP8, VP9, ("ffv1", ("yuv420p", "bgr0", "gray16le"))),
    ".avi": (H264, MPEG4, MPEG2, MJPEG),
    ".ts": (H264, MPEG2, HEVC),
    ".mpg": (MPEG2,),
    ".flv": (H264,),
    ".webm": (VP8, VP9),
    ".3gp": (MPEG4,),
    ".wmv": (("wmv2", ("yuv420p",)),),
}
REORDERING = ("libx264", "mpeg4", "mpeg2video", "libx265")
CASES = [
    (suffix, codec, pixels)
    for suffix, codecs in CONTAINERS.items()
    for codec, formats in codecs
    for pixels in formats
    if not (suffix == ".wmv" and codec != "wmv2")
]


@PROFILE
@example(case=(".mpg", "mpeg2video", "yuv420p"), count=30, rate=24, reorder=0, group=1, start=0, stride=1)
@example(case=(".ts", "mpeg2video", "yuv420p"), count=5, rate=24, reorder=0, group=1, start=0, stride=1)
@given(
    case=st.sampled_from(CASES),
    count=st.integers(5, 40),
    rate=st.sampled_from((24, 25, 30, 50)),
    reorder=st.integers(0, 3),
    group=st.sampled_from((1, 5, 12, 250)),
    start=st.integers(0, 39),
    stride=st.integers(1, 3),
)
def test_reader_equals_sequential_decoder(case, count, rate, reorder, group, start, stride):
    suffix, codec, pixels = case
    options = {"bf": reorder, "g": group} if codec in REORDERING else {}
    if codec == "libx265":
        options = {"x265-params": f"log-level=none:bframes={reorder}:keyint={group}"}
    form = {".3gp": "3gp", ".wmv": "asf"}.get(suffix)
    with tempfile.TemporaryDirectory() as folder:
        path = film(Path(folder) / f"a{suffix}", count, codec, rate, pixels, format=form, **options)
        try:
            expected = plain_decode(path)
        except av.error.EOFError:  # a handful of tiny frames: too little for FFmpeg to know what the file holds
            with pytest.raises(UserError):
                read_video(path)
            return
        found = read_video(path)
        assert numbers(found.frames) == expected
        # a clock of 1 ms does not tell 24 from 23.976 within a few frames
        assert probe(path).fps == pytest.approx(rate, rel=1.1e-3 if suffix == ".wmv" and count < 40 else 1e-9)
        assert probe(path, skip_bad=True).lost == 0
        start = min(start, count - 1)
        length = min(3, len(range(start, count, stride)))
        part = numbers(read_video(path, start, length, stride=stride).frames)
        assert part == expected[start : start + (length - 1) * stride + 1 : stride]
        assert numbers(open_path(path).clip(0, start, length, stride).frames) == part


@PROFILE
@given(gaps=st.lists(st.integers(1, 3), min_size=3, max_size=25), suffix=st.sampled_from((".mkv", ".mp4", ".avi")))
def test_left_out_frames_show_the_one_before(gaps, suffix):
    times = [0, *np.cumsum(gaps).tolist()]
    with tempfile.TemporaryDirectory() as folder:
        path = film(Path(folder) / f"a{suffix}", len(times), rate=25, pts=times, bf=0)
        found, info = numbers(read_video(path).frames), probe(path)
        assert found == sorted(found)
        assert set(found) == set(range(len(times))) or info.unused > 0
        if 1 in gaps:
            assert found == [max(i for i, t in enumerate(times) if t <= tick) for tick in range(times[-1] + 1)]
