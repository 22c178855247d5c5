"""HDR frames become SDR by the stated rule: reference white stays white, mid-grey stays, highlights are compressed."""

import av
import numpy as np
import pytest
from films import film

from framecast.media.hdr import HLG, PQ, to_sdr
from framecast.media.video import read_video


def pq(nits):
    """Signal of ST 2084, 16 bits."""
    power = (np.asarray(nits) / 10_000) ** (2610 / 16384)
    return np.rint(65535 * ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)).astype(int)


def hlg(nits):
    """Signal of BT.2100 HLG of a grey on a display of 1000 cd/m², 16 bits."""
    scene = (np.asarray(nits) / 1000) ** (1 / 1.2)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.rint(65535 * np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)).astype(int)


@pytest.mark.parametrize(("transfer", "signal"), [(PQ, pq), (HLG, hlg)])
def test_greys(transfer, signal):
    nits = np.array([0.5, 5, 20, 100, 180, 203, 1000])
    grey = np.repeat(signal(nits)[:, None], 3, axis=1).astype(np.uint16)
    found = to_sdr(grey, transfer)
    assert np.abs(np.diff(found.astype(int), axis=1)).max() <= 1
    below = 255 * (nits / 203) ** (1 / 2.4)
    assert found[:5, 0] == pytest.approx(below[:5], abs=1.5)
    assert 245 < found[5, 0] < found[6, 0] <= 255


def test_colours_are_converted_to_narrower_primaries():
    red = np.array([[0.6274, 0.0691, 0.0164]]) * 100  # BT.709 red of 100 cd/m² in BT.2020 primaries
    found = to_sdr(pq(red).astype(np.uint16), PQ)[0]
    assert found[0] == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=2)
    assert found[1:].max() < 25


def test_film_with_hlg_colours(tmp_path):
    tags = {"colorprim": "bt2020", "transfer": "arib-std-b67", "colormatrix": "bt2020nc"}
    options = {"x265-params": ":".join(f"{k}={v}" for k, v in tags.items()) + ":lossless=1:log-level=none"}
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        for _ in range(2):
            frame = av.VideoFrame(64, 64, "yuv420p10le")
            for plane, value in zip(frame.planes, (round(64 + 876 * hlg(100) / 65535), 512, 512), strict=True):
                plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = read_video(path).frames
    assert found.mean() == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=2)
    assert read_video(film(tmp_path / "sdr.mp4", 2)).frames.shape == (2, 3, 32, 64)
