"""Bad input at the command line: one sentence naming file and remedy, exit code 2, nothing lost."""

# ruff: noqa: F401, F811 - fixtures come by import

import builtins
import errno
import json
import os
import pathlib
import shutil
import struct
import sys

import av
import numpy as np
import pytest
from cli_support import acting_run, acting_store, clip, done, frames, mine, moving, refused, store, tiny_run
from PIL import Image

from framecast import cli
from framecast.data.store import DatasetWriter
from framecast.media.video import read_video
from framecast.media.write import write_video

TRAIN = ("train", "multiscale-gan", "--profile", "tiny", "--steps", "2", "--train.no-tensorboard", "--quiet")


@pytest.fixture
def training_refused(refused, tmp_path):
    """Training on some data must be refused and leave no run behind; returns the sentence."""

    def run(data, *flags):
        message = refused(*TRAIN, "--data", data, "--out", tmp_path / "run", *flags)
        assert not (tmp_path / "run" / "config.json").exists()
        return message

    return run


def folder_of(path, *sizes):
    path.mkdir(parents=True)
    for i, (height, width) in enumerate(sizes):
        Image.fromarray(moving(1, height, width)[0].transpose(1, 2, 0)).save(path / f"{i:03d}.png")
    return path


# ---------------------------------------------------------------------------------------------------------- the input


def test_frames_of_two_sizes_in_one_video(training_refused, refused, tmp_path):
    folder = folder_of(tmp_path / "two", *[(32, 32)] * 3, (16, 20))
    for message in (training_refused(folder), refused("data", "inspect", folder)):
        assert "003.png is 20x16 but 000.png of the same video is 32x32; bring them to one size" in message


def test_odd_frame_sizes_are_accepted(done, tmp_path):
    folder = write_video(moving(30, 211, 160), tmp_path / "odd")
    done(*TRAIN, "--data", folder, "--out", tmp_path / "run")
    done("predict", tmp_path / "run", "--input", folder, "--horizon", "1", "--out", tmp_path / "f.mp4")
    video = read_video(tmp_path / "f.mp4").frames
    assert video.shape == (
        5,
        3,
        212 + 8,
        160 + 8,
    )  # 4 seen and 1 predicted; one row more for H.264; a border of 4


def test_frames_of_3x3_are_refused(training_refused, refused, tmp_path):
    folder = folder_of(tmp_path / "dots", *[(3, 3)] * 30)
    message = training_refused(folder)
    assert "3x3" in message
    message = refused("predict", tiny_run(), "--input", folder, "--out", tmp_path / "f.mp4")
    assert f"{folder}: frames of 3x3 are too small" in message
    assert not (tmp_path / "f.mp4").exists()


def test_single_frames_are_refused(training_refused, refused, tmp_path):
    still = write_video(moving(1), tmp_path / "still.mp4", 15)
    for data in (still, folder_of(tmp_path / "still", (32, 32))):
        assert "1 frame" in training_refused(data)
        assert "only 1 come" in refused("predict", tiny_run(), "--input", data, "--out", tmp_path / "f.gif")
    assert "single image, expected several frames" in training_refused(tmp_path / "still" / "000.png")


def test_an_empty_folder(training_refused, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    for message in (
        training_refused(tmp_path / "empty"),
        refused("data", "import", tmp_path / "empty", "--out", tmp_path / "x"),
        refused("predict", tiny_run(), "--input", tmp_path / "empty", "--out", tmp_path / "f.gif"),
    ):
        assert "is an empty folder; give a packed store, a video" in message


def test_text_named_png_is_refused_or_skipped(training_refused, done, capsys, tmp_path):
    folder = write_video(moving(), tmp_path / "in")
    (folder / "000007.png").write_text("hello")
    assert "000007.png is not an image although it is named like one; remove it" in training_refused(folder)
    target = tmp_path / "store"
    assert cli.run(["data", "import", str(folder), "--out", str(target), "--skip-bad"]) == 0
    out, err = capsys.readouterr()
    assert "1 video, 39 frames" in out
    assert "left out, cannot be read: 1 file (000007.png)" in err


def truncated(folder):
    """A video whose second half is missing."""
    path = write_video(np.random.default_rng(0).integers(0, 256, (60, 3, 64, 64), np.uint8), folder / "cut.mkv", 15)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_truncated_video_is_refused_or_used_up_to_the_damage(training_refused, capsys, tmp_path):
    path = truncated(tmp_path)
    assert "cut.mkv" in training_refused(path)
    assert cli.run(["data", "import", str(path), "--out", str(tmp_path / "s"), "--skip-bad"]) == 0
    err = capsys.readouterr().err
    assert "left out" in err
    assert not list(tmp_path.glob(".*"))


def test_video_without_index_is_refused(training_refused, capsys, tmp_path):
    (tmp_path / "videos").mkdir()
    path = tmp_path / "videos" / "a.mp4"
    path.write_bytes(clip().read_bytes()[: clip().stat().st_size // 2])
    assert "a.mp4" in training_refused(path)
    shutil.copy(clip(), tmp_path / "videos" / "b.mp4")
    target = tmp_path / "s"
    assert cli.run(["data", "import", str(tmp_path / "videos"), "--out", str(target), "--skip-bad"]) == 0
    out, err = capsys.readouterr()
    assert "1 video, 40 frames" in out
    assert "left out, cannot be read: 1 file (a.mp4)" in err


def test_video_with_audio_only_is_refused(training_refused, tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    assert "song.mp4" in training_refused(path)


def test_unsupported_files_are_refused(training_refused, tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(struct.pack("<Q", 5))
    assert "a.tfrecord: ends in the middle of record 0; copy the file again" in training_refused(
        tmp_path / "a.tfrecord"
    )
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert "unpack it" in training_refused(tmp_path / "a.zip")
    (tmp_path / "notes.txt").write_text("not a video")
    assert "notes.txt" in training_refused(tmp_path / "notes.txt")


def test_pickled_arrays_are_never_opened(training_refused, tmp_path):
    class Evil:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "ran",))

    np.save(tmp_path / "evil.npy", np.array([Evil()], object), allow_pickle=True)
    assert "evil.npy" in training_refused(tmp_path / "evil.npy", "--axes", "nthwc")
    assert not (tmp_path / "ran").exists()


def test_index_with_foreign_paths_is_refused(training_refused, tmp_path):
    shutil.copytree(acting_store(), tmp_path / "s")
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    elsewhere = {**index, "arrays": {**index["arrays"], "../../actions": index["arrays"]["actions"]}}
    (tmp_path / "s" / "index.json").write_text(json.dumps(elsewhere))
    assert "names an array '../../actions'; make the store again" in training_refused(tmp_path / "s")
    index["videos"][0]["size"] = "../1x12x12"
    (tmp_path / "s" / "index.json").write_text(json.dumps(index))
    assert "is damaged (video 0); make the store again" in training_refused(tmp_path / "s")


def test_a_store_of_a_newer_version(training_refused, tmp_path):
    shutil.copytree(store(), tmp_path / "s")
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    (tmp_path / "s" / "index.json").write_text(json.dumps({**index, "format": 9}))
    assert "has format 9, this program reads up to 2; update framecast" in training_refused(tmp_path / "s")


def test_missing_actions_are_refused(training_refused, refused, tmp_path):
    name = f"{mine(tmp_path, actions='required')}:Mine"
    result = refused("train", name, "--data", store(), "--steps", "2", "--out", tmp_path / "run", "--quiet")
    assert f"{store()}: has no actions but Mine requires them; use data with actions" in result
    assert not (tmp_path / "run").exists()
    given = ("--model-class", f"{pathlib.Path(__file__).parent / 'small_models.py'}:Acting")
    source = write_video(moving(6, 12, 12), tmp_path / "in")
    message = refused("predict", acting_run(), *given, "--input", source, "--horizon", "3", "--out", tmp_path / "f.gif")
    assert "predicts from actions; give --actions FILE with 4 of them" in message


# -------------------------------------------------------------------------------------------------------- the words


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("trian x", "unknown command 'trian'; did you mean 'train'?"),
        ("data mak x", "unknown command 'data mak'; did you mean 'make'?"),
        ("data make bouncin", "unknown source 'bouncin'; did you mean 'bouncing'?"),
        ("train multiscale-gn", "unknown model 'multiscale-gn'; did you mean 'multiscale-gan'?"),
        ("models multiscale-gn", "unknown model 'multiscale-gn'; did you mean 'multiscale-gan'?"),
        ("models copy-last --profile x", "copy-last has no profile 'x'; known are default"),
        ("train multiscale-gan --data x --setps 3", "unknown flag --setps; did you mean '--steps'?"),
        ("train multiscale-gan --data x --steps few", "--steps: expected a whole number, got 'few'"),
        ("train --data x --from-scratch", "x"),
        ("evaluate", "RUN is missing"),
        ("predict nowhere --input a --out b.gif", "nowhere: no such run folder or packaged weights"),
        ("data import a.mp4", "--out is missing"),
        ("demo --budget soon", "duration 'soon': expected a positive duration"),
    ],
)
def test_invalid_arguments_are_refused(refused, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(*words.split())
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_game(refused, tmp_path):
    pytest.importorskip("ale_py")
    message = refused("data", "make", "atari", "--game", "pongg", "--out", tmp_path / "x")
    assert "unknown game 'pongg'; did you mean pong?" in message


def test_missing_emulator_is_reported(refused, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "ale_py":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    for name in [n for n in sys.modules if n.split(".")[0] == "ale_py"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    message = refused("data", "make", "atari", "--out", tmp_path / "x")
    assert 'pip install "framecast[atari]"' in message
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: {batch_size: many}", "train: batch_size: expected a whole number, got text 'many'"),
        ("train: {batch_siz: 3}", "unknown key 'batch_siz'; did you mean 'batch_size'?"),
        ("- 1", "expected a mapping of names to values"),
        ("a: [", "is not valid YAML"),
        ("train: !!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("format: 7", "is of format 7, this version knows up to 1"),
    ],
)
def test_invalid_config_files_are_refused(training_refused, tmp_path, text, sentence):
    (tmp_path / "my.yaml").write_text(text)
    message = training_refused(store(), "--config", tmp_path / "my.yaml")
    assert "my.yaml: " in message
    assert sentence in message


# -------------------------------------------------------------------------------------------------------- the places


def test_a_run_folder_without_its_config(refused, tmp_path):
    for words in (
        ("evaluate", tmp_path),
        ("report", tmp_path),
        ("export", tmp_path, "--out", tmp_path / "x"),
        ("predict", tmp_path, "--input", clip(), "--out", tmp_path / "f.gif"),
    ):
        result = refused(*words)
        assert f"{tmp_path}: has no config.json; expected a run folder written by framecast train" in result
    assert list(tmp_path.iterdir()) == []


def test_file_in_place_of_a_folder_is_refused(refused, tmp_path):
    place = tmp_path / "file"
    place.write_text("mine")
    (tmp_path / "folder.gif").mkdir()
    for words in (
        (*TRAIN, "--data", store(), "--out", place),
        ("data", "import", clip(), "--out", place),
        ("data", "make", "bouncing", "--out", place),
        ("export", tiny_run(), "--out", place),
        ("evaluate", tiny_run(), "--horizon", "2", "--clips", "1", "--out", place),
        ("report", tiny_run(), "--horizon", "2", "--clips", "1", "--out", place),
        ("predict", tiny_run(), "--input", clip(), "--out", place),
        ("predict", tiny_run(), "--input", clip(), "--out", place / "f.gif"),
        ("demo", "--tiny", "--out", place),
        ("data", "inspect", frames(), "--sheet", place / "x.png"),
        ("evaluate", tiny_run(), "--horizon", "2", "--clips", "1", "--out", tmp_path / "e", "--json", place / "x.json"),
    ):
        assert str(place) in refused(*words)
        assert place.read_text() == "mine"
    message = refused("predict", tiny_run(), "--input", clip(), "--out", tmp_path / "folder.gif")
    assert "is a folder, but a video was to be written there" in message


def test_run_with_another_config_is_refused(refused, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run(), run)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    message = refused(*TRAIN, "--data", store(), "--out", run, "--batch-size", "3")
    assert "train.batch_size was 4 and is now 3" in message
    assert "choose another --out, or give --overwrite" in message
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["scores.json", "f.gif", "f.mp4", "report.html", "config.json", "store"])
def test_full_disk_is_reported(refused, tmp_path, monkeypatch, name):
    """Whatever is being written, there is a sentence, and what was there before is there after."""
    old = tmp_path / "out" / name
    old.parent.mkdir()
    if name not in ("config.json", "store"):
        old.write_text("old")
    full = OSError(errno.ENOSPC, "No space left on device", str(old))

    def refuse(*_, **__):
        raise full

    run = ("--horizon", "2", "--clips", "1", "--out", old.parent)
    command = {
        "scores.json": ("evaluate", tiny_run(), *run),
        "report.html": ("report", tiny_run(), *run),
        "config.json": (*TRAIN, "--data", store(), "--out", old.parent),
        "store": ("data", "import", frames(), "--out", old),
    }.get(name, ("predict", tiny_run(), "--input", frames(), "--horizon", "1", "--out", old))
    if name == "report.html":
        monkeypatch.setattr(os, "replace", only(old, full))
    else:
        monkeypatch.setattr("os.replace", refuse)
    message = refused(*command)
    assert "space" in message
    monkeypatch.undo()
    assert not old.exists() if name in ("config.json", "store") else old.read_text() == "old"
    assert not [p for p in old.parent.iterdir() if p.name.startswith(".") or p.suffix == ".part"]


def only(path, error):
    """os.replace that fails for one target."""
    real = os.replace

    def replace(source, target):
        if pathlib.Path(target) == path:
            raise error
        return real(source, target)

    return replace


def test_names_in_the_report_are_escaped(done, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    with DatasetWriter(tmp_path / "s") as writer:
        for i in range(3):
            writer.add(moving(12, seed=i), name=f"{evil} {i}")
    out = tmp_path / "r"
    done("report", tiny_run(), "--data", tmp_path / "s", "--horizon", "2", "--clips", "2", "--out", out)
    page = (out / "report.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
