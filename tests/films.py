"""Films that carry their frame number in pixels, so that order, loss and repeats of frames can be read off."""

from fractions import Fraction

import av
import numpy as np

HEIGHT, WIDTH = 32, 64


def numbered(count, noise=0):
    """Frames (count, 3, h, w), uint8: eight bars show the bits of the number."""
    frames = np.zeros((count, 3, HEIGHT, WIDTH), np.uint8)
    for i in range(count):
        for bit in range(8):
            if i >> bit & 1:
                frames[i, :, 4:28, 8 * bit : 8 * bit + 8] = 220
    if noise:
        shift = np.random.default_rng(0).integers(-noise, noise + 1, frames.shape)
        frames = np.clip(frames + shift, 0, 255).astype(np.uint8)
    return frames


def numbers(frames):
    """The numbers that frames (t, c, h, w) carry."""
    bars = frames[:, :, 12:20].mean(axis=(1, 2)).reshape(len(frames), 8, -1)[:, :, 2:6].mean(axis=2)
    return [int(((row > 110) << np.arange(8)).sum()) for row in bars]


def film(path, count=30, codec="libx264", rate=25, pix_fmt="yuv420p", pts=None, noise=0, format=None, **options):
    """A film of numbered frames; pts in units of 1 / rate."""
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, options={k: str(v) for k, v in options.items()})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for i, pixels in enumerate(numbered(count, noise)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = (i if pts is None else pts[i]), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def plain_decode(path):
    """The numbers of all frames as a sequential decoder gives them."""
    with av.open(str(path)) as container:
        return numbers(np.stack([f.to_ndarray(format="rgb24").transpose(2, 0, 1) for f in container.decode(video=0)]))
