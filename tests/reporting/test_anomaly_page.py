"""Files of a detection: page, film, CSV and JSON agree with the scores."""

# ruff: noqa: F401, F811 - fixtures come by import

import csv
import json

import numpy as np
from cli_support import done, refused

from framecast.data.store import DatasetWriter
from framecast.media.video import read_video

NAME = "<img onerror=x>"


def stores(folder):
    rng = np.random.default_rng(0)
    with DatasetWriter(folder / "normal", fps=10) as writer:
        for _ in range(6):
            writer.add(rng.normal(100, 2, (33, 3, 24, 32)).round().astype(np.uint8))
    frames = rng.normal(100, 2, (30, 3, 24, 32)).round().astype(np.uint8)
    frames[12, :, 4:12, 20:28] = 255
    with DatasetWriter(folder / "days", fps=10) as writer:
        writer.add(frames, name=NAME)
    return folder / "normal", folder / "days" / NAME


def test_command_writes_scores_film_and_page(done, refused, tmp_path):
    normal, day = stores(tmp_path)
    words = ("anomaly", "copy-last", "--input", day, "--calibrate", normal, "--block", "8", "--quiet")
    text = done(*words, "--out", tmp_path / "out")
    assert "2 of 30 frames (3.0 s) are alarms: frames 12 to 13." in text
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [int(row["frame"]) for row in rows if row["alarm"] == "1"] == [12, 13]
    assert rows[0]["score"] == ""
    found = json.loads((tmp_path / "out" / "anomaly.json").read_text())
    assert found["intervals"][0]["start"] == 12
    assert found["scores"][12] == float(rows[12]["score"]) > found["threshold"]
    assert np.load(tmp_path / "out" / "regions.npy").shape == (30, 8, 11)
    film = read_video(tmp_path / "out" / "film.mp4").frames.astype(int)
    assert len(film) == 30
    red = film[:, 0] - film[:, 1]
    assert red[12].max() > 100 > red[5].max()
    page = (tmp_path / "out" / "anomaly.html").read_text()
    assert "mathdefault" not in page  # tick labels are plain numbers
    assert "frames 12 to 13" in page
    assert ">1 frame<" in page  # lead time
    assert ">1 frames<" not in page
    assert "<img onerror" not in page
    assert "&lt;img onerror=x&gt;" in page
    assert "no calibration data" in refused("anomaly", "direct-any", "--input", day)
    done(*words, "--out", tmp_path / "plain", "--no-film")
    assert not (tmp_path / "plain" / "film.mp4").exists()
