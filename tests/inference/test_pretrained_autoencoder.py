"""The packaged autoencoder on episodes that were recorded after it was trained."""

import pytest

import framecast
from framecast.data.options import ReadOptions
from framecast.data.registry import make_source
from framecast.data.store import pack
from framecast.training.run_folder import packaged


@pytest.mark.skipif("ms-pacman-c-ae" not in packaged(), reason="no packaged weights")
def test_packaged_autoencoder_beats_both_baselines_at_frame_five_on_new_episodes(tmp_path):
    pytest.importorskip("ale_py")
    weights = packaged()["ms-pacman-c-ae"] / "model.safetensors"
    assert weights.stat().st_size <= 4_000_000
    settings = {"game": "ms_pacman", "episodes": 4, "max_frames": 60, "seed": 77}
    recorded = make_source("atari", tmp_path / "whole", settings)
    store = pack(recorded, tmp_path / "store", ReadOptions(size=(84, 64)))
    found, _ = framecast.compare(["c-ae=ms-pacman-c-ae"], store, split="all", horizon=5, clips=8)
    curves = found.scores.predictors
    for metric, margin in (("psnr", 0.3), ("moving_psnr", 0.5)):
        best = max(curves[name][metric].mean[4] for name in ("copy-last", "temporal-mean"))
        assert curves["c-ae"][metric].mean[4] > best + margin, metric
