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


def test_frames_after_a_cut_are_named_in_every_file(done, tmp_path):
    normal, _ = stores(tmp_path)
    rng = np.random.default_rng(1)
    with DatasetWriter(tmp_path / "edited", fps=10) as writer:
        writer.add(rng.normal(100, 2, (40, 3, 24, 32)).round().astype(np.uint8), name="day", breaks=[20])
    words = (
        "anomaly",
        "copy-last",
        "--input",
        tmp_path / "edited" / "day",
        "--block",
        "8",
        "--quiet",
        "--no-film",
        "--rate",
        "0.1",
    )
    cuts = ("--lead", "3", "--at-cuts", "skip")
    text = done(*words, "--calibrate", normal, *cuts, "--out", tmp_path / "out")
    assert "Not scored, since their forecast crosses a shot cut or a pause: frames 20 to 22." in text
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [int(row["frame"]) for row in rows if row["break"] == "1"] == [20]
    assert [int(row["frame"]) for row in rows if not row["score"]] == [0, 1, 2, 20, 21, 22]
    found = json.loads((tmp_path / "out" / "anomaly.json").read_text())
    assert found["breaks"] == [20]
    assert found["not_scored"] == [[0, 3], [20, 23]]
    assert found["scores"][21] is None
    page = (tmp_path / "out" / "anomaly.html").read_text()
    assert "frames 20 to 22" in page
    assert "frame 20; forecasts across one are not scored" in page
    assert "dotted: shot cuts and pauses" in page
    text = done(*words, "--calibrate", normal, "--lead", "3", "--out", tmp_path / "all")
    assert "Not scored" not in text
    assert "forecasts across one are scored" in (tmp_path / "all" / "anomaly.html").read_text()
    with DatasetWriter(tmp_path / "cut", fps=10) as writer:
        for seed in range(6):
            frames = np.random.default_rng(seed).normal(100, 2, (40, 3, 24, 32)).round().astype(np.uint8)
            writer.add(frames, breaks=[20])
    text = done(*words, "--calibrate", tmp_path / "cut", "--out", tmp_path / "third")
    assert "no block crosses a shot cut or a pause (6 in it)" in text
