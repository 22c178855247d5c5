"""Places where a video does not continue are those recorded, and in a video file also the cuts of its pictures."""

import numpy as np

from framecast.data.breaks import breaks_of, shot_cuts
from framecast.data.open import open_path
from framecast.data.store import DatasetWriter, Store
from framecast.media.write import write_video

SHOTS = np.concatenate(
    [
        np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (20, 3, 32, 32))
        for colour in ((200, 40, 40), (20, 60, 190))
    ]
)


def test_a_video_file_is_searched_and_a_store_is_not(tmp_path):
    film = open_path(write_video(SHOTS, tmp_path / "film.mp4", 10))
    assert shot_cuts(film, 0) == breaks_of(film, 0) == [20]
    with DatasetWriter(tmp_path / "store", fps=10) as writer:
        writer.add(SHOTS, name="none")
        writer.add(SHOTS, name="pause", breaks=[7])
    store = Store(tmp_path / "store")
    assert {name: breaks_of(store, i) for i, name in enumerate(store.names)} == {"none": [], "pause": [7]}


def test_recorded_breaks_and_found_cuts_are_joined_once(tmp_path):
    film = open_path(write_video(SHOTS, tmp_path / "film.mp4", 10))
    film.breaks = {film.names[0]: [20, 5]}
    assert breaks_of(film, 0) == [5, 20]


def test_frames_from_a_stop_on_are_not_looked_at(tmp_path):
    film = open_path(write_video(SHOTS, tmp_path / "film.mp4", 10))
    assert shot_cuts(film, 0, 19) == []
    assert shot_cuts(film, 0, 1000) == [20]
