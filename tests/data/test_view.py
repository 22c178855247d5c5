"""A view shows every frame that is read, in order."""

import numpy as np
import pytest
from films import film, numbers

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.view import write_view
from framecast.media.video import read_video


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
