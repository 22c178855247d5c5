"""Sampled motions beside the true distribution: from the data to scores.json and the report."""

import pytest
import torch
from cli_support import copy_run, moving_run, pairs
from cli_support import store as still_store

from framecast.data.base import Segment
from framecast.data.store import Store
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.motion import (
    first_frame,
    knows_scenes,
    measure_motions,
    samplers,
    true_motions,
)
from framecast.inference.load import load
from framecast.metrics.displacement import KINDS
from framecast.metrics.scores import Scores
from framecast.reporting.report import motion_rows, report_run
from framecast.training.run_folder import open_run


@pytest.fixture(scope="module")
def store():
    return Store(pairs())


def everything(store):
    return [Segment(i, 0, 2) for i in range(len(store))]


def test_true_motions_come_from_all_pairs(store):
    assert knows_scenes(store)
    motions = true_motions(store)
    assert {k: len(v) for k, v in motions.items()} == dict.fromkeys(KINDS, len(store))


def test_sampler_of_true_frames_has_the_true_statistics(store):
    truth = {}
    for segment in everything(store):
        clip = store.clip(segment.video, 0, 2)
        frames = torch.from_numpy(clip.frames.copy()).float() / 255
        truth[frames[0].sum().item()] = frames[1]

    def oracle(frames, samples, generator):
        return torch.stack([truth[f.sum().item()] for f in frames[:, 0]]).expand(samples, -1, -1, -1, -1)

    result = measure_motions(oracle, store, everything(store), (32, 32), true_motions(store), samples=2)
    assert result["samples"] == 2 * len(store)
    for kind in KINDS:
        row = result["shapes"][kind]
        assert row["off_axis"] == 1
        assert row["within_image_sd"] == 0
        assert row["rejected"] < 0.2
        assert row["doubled"] == 0
    assert result["doubled"] == 0
    assert result["corr_circle_triangle"] > 0.95


def test_frames_at_another_size_come_with_their_scene(store):
    frame, scene = first_frame(store, Segment(0, 0, 2), (16, 16))
    clip = store.clip(0, 0, 1)
    assert frame.shape == (3, 16, 16)
    assert scene.position.tolist() == (clip.arrays["position"][0] / 2).tolist()


def test_each_prior_is_a_sampler():
    model = load(moving_run())
    frames = torch.rand(2, 1, 3, 32, 32)
    drawn = {n: s(frames, 3, torch.Generator().manual_seed(0)) for n, s in samplers(model).items()}
    assert {n: tuple(x.shape) for n, x in drawn.items()} == dict.fromkeys(("normal", "posterior"), (3, 2, 3, 32, 32))
    model.num_stored.zero_()
    assert set(samplers(model)) == {"normal"}


def test_scores_and_report_contain_motions(tmp_path):
    run = open_run(moving_run())
    scores, kept = evaluate(run, horizon=1, clips=2, out=tmp_path)
    assert set(scores.motions) == {"normal", "posterior"}
    assert scores.motions["normal"]["samples"] == 40
    assert Scores.load(tmp_path / "scores.json").motions == scores.motions
    page = report_run(run, scores, kept, tmp_path).read_text()
    assert "Distribution of sampled motions" in page
    assert "triangle, posterior" in page
    rows = motion_rows(scores.motions)
    assert "second contour" in rows[0]
    assert [r["name"] for r in rows][:4] == ["circle, normal", "triangle, normal", "square, normal", "together, normal"]


def test_data_without_scenes_have_no_motions(tmp_path):
    scores, _ = evaluate(copy_run(), horizon=1, clips=2, out=tmp_path)
    assert scores.motions == {}
    assert not knows_scenes(Store(still_store()))
