"""A view shows every frame that is read, in order."""

import numpy as np
import pytest
from films import film, numbers

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.view import write_view
from framecast.media.video import read_video
from framecast.media.write import write_video


def test_view_shows_the_frames_in_order(tmp_path):
    (tmp_path / "films").mkdir()
    for name in ("a", "b"):
        film(tmp_path / "films" / f"{name}.mp4", 12)
    source = open_path(tmp_path / "films")
    shown = read_video(write_view(source, tmp_path / "view.mp4", most=10)).frames
    assert len(shown) == 20
    pictures = shown[:, :, : shown.shape[3] // 2]  # twice as wide as high, with two lines of text below
    assert numbers(pictures[:, :, ::4, ::4]) == [*range(10), *range(10)]
    text = shown[:, :, shown.shape[3] // 2 :]
    assert all(np.abs(text[i].astype(int) - text[i + 1]).max() > 100 for i in range(9))
    assert len(read_video(write_view(source, tmp_path / "one.mp4", video="b")).frames) == 12
    with pytest.raises(UserError, match="--video 'c' is not in the data"):
        write_view(source, tmp_path / "none.mp4", video="c")


def test_flash_at_the_end_of_a_block_is_not_marked_as_a_new_shot(tmp_path):
    frames = np.full((40, 3, 48, 64), 40, np.uint8)
    frames[31], frames[36:] = 255, 220
    source = open_path(write_video(frames, tmp_path / "a.mp4", 25))
    shown = read_video(write_view(source, tmp_path / "view.mp4")).frames
    line = shown[:, :, -22:].astype(int)  # with the number, the time, and "new shot" at a cut
    writing = np.abs(line - np.median(line, axis=(1, 2, 3), keepdims=True)) > 60
    wide = writing.any(axis=(1, 2)).sum(axis=1)
    assert wide[36] > wide[31] + 20
    assert abs(int(wide[31]) - int(wide[30])) < 20
