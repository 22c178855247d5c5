"""Clips for other programs and their forecasts: written, read and checked."""

import json
import shutil

import numpy as np
import pytest
from cli_support import acting_store, moving, store, tiny_run
from small_models import write_store

from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.evaluation.compare import compare
from framecast.evaluation.external import Forecasts, make_clips, read_manifest
from framecast.inference.load import load
from framecast.media.write import write_video
from framecast.models.rollout import rollout


@pytest.fixture
def clips(tmp_path):
    """Three clips of four frames, five to forecast."""
    make_clips(store(), tmp_path / "clips", context=4, horizon=5, clips=3)
    return tmp_path / "clips"


def answer(clips, folder, make, **predictor):
    """A folder of forecasts: `make` of every clip's context, as an array or PNGs."""
    folder.mkdir()
    manifest = json.loads((clips / "manifest.json").read_text())
    manifest["predictor"] = predictor
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for clip in manifest["clips"]:
        with np.load(clips / f"{clip['id']}.npz") as arrays:
            np.savez(folder / f"{clip['id']}.npz", prediction=make(arrays["context"]))
    return folder


def repeated(context):
    return np.repeat(context[-1:], 5, 0)


def test_written_clips_equal_those_of_compare(clips):
    manifest, source = read_manifest(clips), Store(store())
    assert (manifest.context, manifest.horizon, manifest.split, len(manifest.clips)) == (4, 5, "test", 3)
    assert sorted(p.name for p in clips.iterdir()) == ["0.npz", "1.npz", "2.npz", "manifest.json"]
    for clip in manifest.clips:
        with np.load(clips / f"{clip.id}.npz") as arrays:
            assert arrays.files == ["context"]
            video = source.names.index(clip.video)
            assert np.array_equal(arrays["context"], source.clip(video, clip.frame - 3, 4).frames)


def test_true_frames_on_request_and_actions_where_the_data_have_them(tmp_path):
    make_clips(acting_store(), tmp_path / "c", context=2, horizon=3, clips=2, with_truth=True)
    manifest, source = read_manifest(tmp_path / "c"), Store(acting_store())
    assert manifest.actions.size == 3
    clip = manifest.clips[1]
    with np.load(tmp_path / "c" / f"{clip.id}.npz") as arrays:
        whole = source.clip(source.names.index(clip.video), clip.frame - 1, 5)
        assert np.array_equal(arrays["truth"], whole.frames[2:])
        assert np.array_equal(arrays["actions"], whole.arrays["actions"][:4])


@pytest.mark.parametrize("settings", [{"horizon": 0}, {"context": 0}, {"clips": 0}])
def test_zero_context_horizon_or_clips_are_refused(settings, tmp_path):
    with pytest.raises(UserError, match="--context, --horizon and --clips must be at least 1"):
        make_clips(store(), tmp_path / "c", **settings)


def test_full_disk_is_a_user_error_and_older_clips_stay(clips, monkeypatch):
    before = {p.name: p.read_bytes() for p in clips.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(UserError, match=r"clips: cannot be written \(No space left on device\); free some space"):
        make_clips(store(), clips, context=4, horizon=5, clips=2, overwrite=True)
    assert {p.name: p.read_bytes() for p in clips.iterdir()} == before
    assert [p.name for p in clips.parent.iterdir()] == ["clips"]


def test_folder_of_repeated_last_frames_scores_like_copy_last(clips, tmp_path):
    folder = answer(clips, tmp_path / "theirs", repeated, name="theirs", parameters=7, training_steps=3)
    found, _ = compare([folder, tiny_run()], store(), show=0)
    assert found.means["theirs"] == found.means["copy-last"]
    assert found.difference("psnr", "theirs", "copy-last")["mean"] == 0
    assert (found.protocol.clips, found.protocol.horizon) == (3, 5)
    assert (found.rows["theirs"]["parameters"], found.rows["theirs"]["model"]) == (7, "theirs")


def test_run_and_its_forecasts_in_a_folder_score_equally(clips, tmp_path):
    model = load(tiny_run())

    def make(context):
        return rollout(model, context, 5)[0, 0].numpy()

    found, _ = compare([answer(clips, tmp_path / "same", make), tiny_run()], store(), show=0, precision="fp32")
    for metric, value in found.means["tiny"].items():
        assert found.means["same"][metric]["mean"] == pytest.approx(value["mean"], rel=1e-5), metric


def test_data_are_opened_by_the_manifest(tmp_path):
    video = write_video(moving(40, 32, 48), tmp_path / "video", 15)
    make_clips(video, tmp_path / "clips", context=2, horizon=3, clips=2, size="16x16", fit="squash")
    found, _ = compare([answer(tmp_path / "clips", tmp_path / "theirs", lambda c: c[-1:].repeat(3, 0))], video, show=0)
    assert (found.protocol.height, found.protocol.width) == (16, 16)
    assert found.means["theirs"] == found.means["copy-last"]


@pytest.mark.parametrize("samples", [1, 2])
def test_images_score_like_arrays(clips, tmp_path, samples):
    folder = answer(clips, tmp_path / "pictures", repeated)
    for path in folder.glob("*.npz"):
        with np.load(path) as arrays:
            frames = arrays["prediction"]
        for k in range(samples):
            write_video(frames, folder / path.stem / str(k) if samples > 1 else folder / path.stem)
        path.unlink()
    forecasts = Forecasts(folder)
    assert forecasts.samples == samples
    with np.load(clips / "1.npz") as arrays:
        want = repeated(arrays["context"]).astype(np.float32) / 255
    assert np.array_equal(forecasts.read(1), np.stack([want] * samples))


def test_samples_strides_channels_last_and_floats(clips, tmp_path):
    def make(context):
        last = context[-1].astype(np.float32) / 255
        return np.stack([np.stack([last, last]), np.stack([last / 2, last])]).transpose(0, 1, 3, 4, 2)

    forecasts = Forecasts(answer(clips, tmp_path / "f", make, stride=2))
    assert (forecasts.samples, forecasts.stride) == (2, 2)
    assert forecasts.read(0).shape == (2, 2, 3, 32, 32)
    found, _ = compare([forecasts.folder], store(), samples=2, show=0)
    assert found.frames == (2, 4)
    assert set(found.scores.samples) == {"f"}
    assert compare([forecasts.folder], store(), show=0)[0].rows["f"]["samples"] == 1


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda c: repeated(c)[:3], r"0.npz: holds an array of shape \(3, 3, 32, 32\); expected 5 frames"),
        (lambda c: repeated(c)[..., :16], r"expected 5 frames as \(5, 3, 32, 32\) or \(5, 32, 32, 3\)"),
        (lambda c: repeated(c).astype(np.float32), "holds floats from .* to .*; scale them to 0…1 or save uint8"),
        (lambda c: repeated(c) * np.nan, "holds values that are not finite"),
        (lambda c: repeated(c).astype(np.int64), "holds int64; expected frames as uint8, or as floats"),
    ],
)
def test_invalid_forecasts_are_refused(clips, tmp_path, make, sentence):
    with pytest.raises(UserError, match=sentence):
        compare([answer(clips, tmp_path / "bad", make)], store(), show=0)


def test_missing_forecasts_and_damaged_files_are_refused(clips, tmp_path):
    folder = answer(clips, tmp_path / "f", repeated)
    (folder / "1.npz").unlink()
    with pytest.raises(UserError, match=r"holds no forecast of clip 1; every clip of manifest.json needs 1.npz or a"):
        compare([folder], store())
    np.savez(folder / "1.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(UserError, match=r"1.npz: holds no array called prediction, but a, b; rename it"):
        compare([folder], store(), show=0)
    (folder / "1.npz").write_bytes((folder / "0.npz").read_bytes()[:200])
    with pytest.raises(UserError, match=r"1.npz is damaged"):
        compare([folder], store(), show=0)


def changed(folder, **values):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_manifests_that_contradict_data_or_flags_are_refused(clips, tmp_path):
    folder = answer(clips, tmp_path / "f", repeated)
    with pytest.raises(UserError, match="its forecasts are for --split test, got val; leave the flag out"):
        compare([folder], store(), split="val")
    with pytest.raises(UserError, match="holds 5 frames per clip; give --horizon 5 or less"):
        compare([folder], store(), horizon=6)
    with pytest.raises(UserError, match=r"are of frames .* \(3, 32, 32\) but these data have \(1, 12, 12\)"):
        compare([folder], acting_store())
    write_store(tmp_path / "more", videos=4, channels=3, side=32)
    with pytest.raises(UserError, match=r"its forecasts are for other data \(still\), or these have changed since"):
        compare([folder], tmp_path / "more")
    with pytest.raises(UserError, match=r"clip 0 .* is not within what all runs held out"):
        compare([folder], store(), context=12)
    other = shutil.copytree(folder, tmp_path / "g")
    changed(other, clips=json.loads((clips / "manifest.json").read_text())["clips"][:2])
    with pytest.raises(UserError, match=r"hold forecasts of different clips|its forecasts are for --clips"):
        compare([folder, other], store())
    for values, sentence in (
        ({"format": 2}, "is of format 2, this version knows up to 1"),
        ({"kind": "list"}, "expected kind framecast-clips"),
        ({"horizon": "5"}, "horizon: expected a whole number"),
        ({"predictor": {"stride": 0}}, "stride must be at least 1"),
        ({"clips": []}, "lists no clips"),
        ({"clips": [{"id": "../x", "video": "v", "frame": 3}]}, "must consist of letters, digits, - and _"),
    ):
        bad = shutil.copytree(folder, tmp_path / "bad", dirs_exist_ok=True)
        changed(bad, **values)
        with pytest.raises(UserError, match=sentence):
            compare([bad], store())


def test_existing_clips_are_kept_without_overwrite(clips):
    before = (clips / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="already holds clips; choose another folder or overwrite it"):
        make_clips(store(), clips, horizon=3)
    assert (clips / "manifest.json").read_bytes() == before
    assert make_clips(store(), clips, horizon=3, overwrite=True).horizon == 3


def test_overwrite_never_replaces_a_folder_of_other_files(tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other files, so it is not replaced"):
        make_clips(store(), folder, horizon=3, clips=2, overwrite=True)
    assert (folder / "chapter.tex").read_text() == "years of work"
    (folder / "manifest.json").write_text('{"name": "of another program"}')
    with pytest.raises(UserError, match="holds other files"):
        make_clips(store(), folder, horizon=3, clips=2, overwrite=True)
    assert (folder / "chapter.tex").read_text() == "years of work"
