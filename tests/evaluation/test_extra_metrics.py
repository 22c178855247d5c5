"""Extra measurements of a comparison, end to end on small data."""

import json
import re

import numpy as np
import pytest
import torch
from cli_support import store, tiny_run, work
from metrics.test_lpips import tensors

from framecast.core.errors import UserError
from framecast.core.outcomes import OutcomeDistribution
from framecast.data.store import DatasetWriter
from framecast.data.synthetic.bouncing import Bouncing, BouncingConfig
from framecast.evaluation.compare import compare
from framecast.evaluation.external import make_clips
from framecast.evaluation.extra_metrics import ExtraMetrics
from framecast.metrics.features import mmd, random_features
from framecast.metrics.fvd import I3D
from framecast.metrics.objects import Thing, Things, write_things
from framecast.reporting.compare_page import write_comparison


def shapes():
    """Bouncing shapes, 12 videos of 16 frames of 32x32."""
    folder = work() / "shapes"
    if not folder.is_dir():
        Bouncing(BouncingConfig(videos=12, frames=16, size=32, size_min=8, size_max=10, shapes=1)).prepare(folder)
    return folder


def forecasts(data, folder, make, horizon=4, clips=6):
    """A folder of forecasts; `make` gets each clip's truth."""
    make_clips(data, folder / "clips", context=2, horizon=horizon, clips=clips, with_truth=True)
    (folder / "made").mkdir()
    (folder / "made" / "manifest.json").write_bytes((folder / "clips" / "manifest.json").read_bytes())
    for file in (folder / "clips").glob("*.npz"):
        with np.load(file) as arrays:
            np.savez(folder / "made" / file.name, prediction=make(arrays["truth"]))
    return folder / "made"


def test_lost_object_lowers_recall_whatever_the_psnr(tmp_path):
    perfect = forecasts(shapes(), tmp_path / "a", lambda truth: truth)
    empty = forecasts(shapes(), tmp_path / "b", lambda truth: np.full_like(truth, 128))
    found, kept = compare([f"perfect={perfect}", f"empty={empty}"], shapes(), show=1)
    means = found.extras["objects"]["means"]
    for metric, value in (("found", 1), ("present", 1), ("error", 0)):
        assert means["perfect"][metric]["all"]["mean"] == value
    assert means["empty"]["present"]["all"]["mean"] == 0
    assert means["empty"]["error"]["all"]["mean"] is None
    assert 0 < means["copy-last"]["error"]["all"]["mean"] < 12
    curve = found.extras["objects"]["rows"]["copy-last"]["error"]["all"]["mean"]
    assert curve == sorted(curve)
    text = write_comparison(tmp_path, found, kept).read_text()
    assert "Object recall and presence" in text
    assert "object recall" in text
    assert "error: distance to the true position, px" in text


def test_objects_are_read_from_a_file(tmp_path):
    things = Things(things=(Thing(name="square", colours=((220, 220, 220),)),), size=(32, 32), grounds=((30, 30, 30),))
    (tmp_path / "things.json").write_text(json.dumps(write_things(things)))
    found, _ = compare([tiny_run()], store(), horizon=3, clips=2, show=0, objects=tmp_path / "things.json")
    assert found.extras["objects"]["means"]["copy-last"]["present"]["square"]["mean"] == 1
    assert compare([tiny_run()], store(), horizon=3, clips=2, show=0)[0].extras["objects"] is None
    (tmp_path / "wide.json").write_text(json.dumps({**write_things(things), "size": [32, 64]}))
    with pytest.raises(UserError, match="expected RGB frames shaped like 32x64, got 3 channels and 32x32"):
        compare([tiny_run()], store(), horizon=3, objects=tmp_path / "wide.json")


def test_rf_mmd_of_a_row_equals_that_of_its_clips(tmp_path):
    made = forecasts(shapes(), tmp_path, lambda truth: 255 - truth)
    found, _ = compare([made], shapes(), show=0)
    rows = found.extras["sets"]["rf-mmd"]["rows"]
    truth = []
    for file in sorted((tmp_path / "clips").glob("*.npz")):
        with np.load(file) as arrays:
            truth.append(torch.from_numpy(arrays["truth"]).float() / 255)
    real = random_features(torch.stack(truth))
    manifest = json.loads((made / "manifest.json").read_text())
    groups = [clip["video"] for clip in manifest["clips"]]
    want = mmd(random_features(1 - torch.stack(truth)), real, groups)
    assert rows["made"]["value"] == pytest.approx(want, rel=1e-3)
    assert rows["made"]["n"] == 6
    assert rows["made"]["floor_95"] == rows["copy-last"]["floor_95"]
    assert rows["made"]["value"] > rows["copy-last"]["value"]
    assert "rf_mmd" in found.protocol.metrics
    without, _ = compare([made], shapes(), show=0, mmd=False)
    assert without.extras["sets"]["rf-mmd"] is None
    assert without.extras["not_available"]["rf-mmd"] == "not requested"


def test_lpips_and_fvd_need_weights_files_and_are_never_zero_without(tmp_path):
    found, kept = compare([tiny_run()], store(), horizon=3, clips=2, show=0)
    assert "lpips" not in found.means["tiny"]
    assert found.extras["sets"]["fvd"] is None
    assert set(found.extras["not_available"]) == {"lpips", "fvd"}
    text = write_comparison(tmp_path, found, kept).read_text()
    assert "Not available: LPIPS: no weights file was given (--lpips FILE); FVD: no weights file" in text

    torch.save(tensors("parts"), tmp_path / "alex.pt")
    found, _ = compare([tiny_run()], store(), horizon=3, clips=2, lpips=tmp_path / "alex.pt", rank_by="lpips", show=0)
    assert found.means["tiny"]["lpips"]["mean"] > 0
    means = [row["mean"] for row in found.ranking()]
    assert means == sorted(means)
    assert (
        found.protocol.metrics["lpips"].split()[-1]
        == ExtraMetrics.read(lpips=tmp_path / "alex.pt").lpips.weights.sha256
    )
    with pytest.raises(UserError, match="use the file that the digest belongs to"):
        compare([tiny_run()], store(), lpips=tmp_path / "alex.pt", lpips_sha256="0123456789")
    with pytest.raises(UserError, match="--fvd-sha256 needs the file that it belongs to; give it with --fvd FILE"):
        compare([tiny_run()], store(), fvd_sha256="0123456789")


def test_fvd_from_a_valid_weights_file(tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.save(I3D(64).state_dict(), tmp_path / "i3d.pt")
    monkeypatch.setattr("framecast.metrics.fvd.I3D", lambda shrink: I3D(64))
    made = forecasts(shapes(), tmp_path, lambda truth: truth, horizon=9, clips=4)
    found, _ = compare([made], shapes(), show=0, fvd=tmp_path / "i3d.pt")
    rows = found.extras["sets"]["fvd"]["rows"]
    assert rows["made"]["value"] == pytest.approx(0, abs=1e-6)
    assert rows["copy-last"]["value"] > 0
    assert rows["made"]["floor"] > 0
    with pytest.raises(UserError, match="FVD needs forecasts of at least 9 frames, these have fewer"):
        compare([made], shapes(), show=0, fvd=tmp_path / "i3d.pt", horizon=5)


def test_calibration_where_the_source_provides_a_distribution(tmp_path, monkeypatch):
    """A square that goes left or right with known odds; one forecaster knows them, one always goes right."""
    rng = np.random.default_rng(0)

    def path(right):
        frames = np.full((6, 3, 16, 16), 30, np.uint8)
        for t in range(6):
            left = 6 + (2 * max(t - 2, 0)) * (1 if right else -1)
            frames[t, :, 6:10, max(left, 0) : max(left, 0) + 4] = 220
        return frames

    with DatasetWriter(tmp_path / "data", meta={"generator": "bouncing", "odds": 0.75}) as writer:
        for i in range(20):
            writer.add(path(rng.random() < 0.75), name=f"v{i}", axes="tchw", split="test" if i < 16 else "train")

    def outcome_distribution(clip, context):
        assert (len(clip.frames), context) == (6, 3)

        def outcome_of(frames):
            place = frames[-1, 0].astype(float).sum(0) @ np.arange(16) / frames[-1, 0].astype(float).sum()
            return None if frames[-1].std() < 1 else int(place > 7.5)

        return OutcomeDistribution(outcomes=("left", "right"), probabilities=(0.25, 0.75), classify=outcome_of)

    monkeypatch.setattr(Bouncing, "outcome_distribution", staticmethod(outcome_distribution), raising=False)
    make_clips(tmp_path / "data", tmp_path / "clips", context=3, horizon=3, clips=16)
    for name, draw in (("knows", lambda k: k % 4 > 0), ("stuck", lambda k: True)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "manifest.json").write_bytes((tmp_path / "clips" / "manifest.json").read_bytes())
        for file in (tmp_path / "clips").glob("*.npz"):
            np.savez(folder / file.name, prediction=np.stack([path(draw(k))[3:] for k in range(8)]))
    found, kept = compare([tmp_path / "knows", tmp_path / "stuck"], tmp_path / "data", samples=8, show=1)
    result = found.extras["calibration"]
    assert result["knows"]["frequency"]["right"]["mean"] == pytest.approx(0.75)
    assert result["knows"]["distance"]["mean"] == pytest.approx(0)
    assert result["stuck"]["distance"]["mean"] == pytest.approx(0.25)
    assert result["stuck"]["floor"]["mean"] == pytest.approx(0.11, abs=0.03)
    assert result["copy-last"]["frequency"]["left"]["n"] == 16
    text = write_comparison(tmp_path / "out", found, kept).read_text()
    assert "Calibration" in text
    assert "true probability" in text
    futures = text[text.index("Several futures of one clip") :]
    cells = {
        name: re.search(rf"<th>{name}</th><td>(.*?)</td></tr>", futures)[1].split("</td><td>")
        for name in ("knows", "stuck")
    }
    best, mean, worst, diversity = map(float, cells["knows"])
    assert best > mean > worst
    assert diversity > 0
    assert len(set(cells["stuck"][:3])) == 1
    assert float(cells["stuck"][3]) == 0
