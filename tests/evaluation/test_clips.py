"""Evaluation on held-out clips: the split of training, the protocol, reproducible scores."""

import dataclasses
import json

import numpy as np
import pytest
from cli_support import acting_run, acting_store, copy_run, moving, store, tiny_run
from small_models import Acting, write_store

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest, ClipSpec
from framecast.data.store import DatasetWriter, Store
from framecast.evaluation.baselines import baselines
from framecast.evaluation.clips import HORIZON, held_out_clips
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.headline import describe
from framecast.inference.export import save_pretrained
from framecast.metrics.scores import BASELINES, REQUIRED, Scores
from framecast.models.direct.predictor import Direct
from framecast.training.presets import preset
from framecast.training.run_folder import open_run


def figures(scores):
    return {n: {m: series.mean for m, series in row.items()} for n, row in scores.predictors.items()}


def test_every_table_has_baselines_and_copy_last_equals_itself(tmp_path):
    scores, _ = evaluate(copy_run(), horizon=3, clips=3, out=tmp_path)
    assert set(scores.predictors) == {"copy-last", "temporal-mean"}
    assert scores.missing == {"linear-flow": "not defined: optical flow needs two context frames"}
    scores, kept = evaluate(tiny_run(), horizon=3, clips=3, out=tmp_path)
    assert list(scores.predictors) == ["multiscale-gan", *BASELINES]
    assert scores.protocol.baselines == BASELINES
    assert scores.missing == {}
    assert all(set(clip.predictions) == set(scores.predictors) for clip in kept)


def test_baseline_without_its_package_is_named_with_the_reason(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    scores, _ = evaluate(tiny_run(), horizon=2, clips=2, save=False)
    assert list(scores.predictors) == ["multiscale-gan", *REQUIRED]
    assert scores.missing == {"linear-flow": "not installed (pip install 'framecast[flow]')"}
    assert scores.protocol.baselines == REQUIRED
    assert "not installed (pip install 'framecast[flow]')" in describe(scores)


def test_scores_are_saved_with_their_protocol(tmp_path):
    scores, _ = evaluate(tiny_run(), horizon=3, clips=2, seed=4, out=tmp_path)
    read = Scores.load(tmp_path / "scores.json")
    assert read.protocol == scores.protocol
    p = read.protocol
    assert (p.data, p.split, p.clips, p.videos, p.context, p.horizon) == (store().name, "test", 2, 1, 4, 3)
    assert (p.stride, p.samples, p.height, p.width, p.channels, p.seed) == (1, 1, 32, 32, 3, 4)
    assert "1 / 1 / 1 videos" in p.split_rule
    assert p.data_digest == open_run(tiny_run()).config.data.digest
    stored = json.loads((tmp_path / "scores.json").read_text())
    del stored["protocol"]
    (tmp_path / "scores.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="protocol"):
        Scores.load(tmp_path / "scores.json")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_clips_come_from_the_split_of_training(split):
    source, run = Store(store()), open_run(tiny_run())
    request = run.model_class.request(run.config.model)
    segments = source.splits(request.source_length)[split]
    for horizon in (1, 9):  # however long the forecast, the split stays
        clips = held_out_clips(source, request, split, 4, horizon, 50, 0)
        reach = (4 + horizon - 1) * request.stride + 1
        for video, start in clips.pairs:
            assert any(s.video == video and s.start <= start and start + reach <= s.stop for s in segments)
        assert {v for v, _ in clips.pairs} == {s.video for s in segments}


def test_one_video_cut_in_time_is_scored_on_its_end(tmp_path):
    with DatasetWriter(tmp_path / "one") as writer:
        writer.add(moving(60))
    source, request = Store(tmp_path / "one"), ClipRequest(context=2)
    (segment,) = source.splits(request.source_length)["test"]
    clips = held_out_clips(source, request, "test", 2, 5, 9, 0)
    assert segment.start > 40
    assert min(start for _, start in clips.pairs) >= segment.start


def test_scores_do_not_depend_on_the_batch_size():
    settings = {"horizon": 3, "clips": 5, "save": False, "precision": "fp32"}
    one, many = (figures(evaluate(tiny_run(), batch_size=n, **settings)[0]) for n in (1, 4))
    for name, row in one.items():
        for metric, values in row.items():
            np.testing.assert_allclose(values, many[name][metric], rtol=1e-5, err_msg=f"{name} {metric}")


def test_same_seed_gives_equal_scores_and_another_seed_other_clips():
    settings = {"horizon": 2, "save": False}
    first, second = (figures(evaluate(copy_run(), clips=3, **settings)[0]) for _ in range(2))
    assert first == second
    assert evaluate(copy_run(), clips=999, **settings)[0].protocol.clips > 3


def test_default_horizon_leaves_frames_for_several_clips():
    scores, _ = evaluate(copy_run(), save=False)
    assert scores.protocol.horizon == min(HORIZON, (24 - 1) // 2)
    assert scores.protocol.clips > 1
    with pytest.raises(UserError, match="too few for 1 of context and a horizon of 24; use --horizon 23 or less"):
        evaluate(copy_run(), horizon=24, save=False)


def test_more_context_moves_the_forecast(tmp_path):
    scores, kept = evaluate(copy_run(), context=6, horizon=2, clips=2, save=False)
    assert scores.protocol.context == 6
    assert kept[0].context.shape[0] == 6
    with pytest.raises(UserError, match="needs 4 frames; use at least that many"):
        evaluate(tiny_run(), context=3, horizon=2, save=False)


def test_model_with_resized_frames_is_scored_at_its_size():
    spec = ClipSpec(channels=3, height=8, width=8)
    rows = baselines(spec, 2)
    assert tuple(rows) == BASELINES
    assert tuple(baselines(spec, 1)) == REQUIRED
    assert tuple(baselines(spec, 1, seen=3)) == BASELINES
    assert all(model.num_context == 2 for model in rows.values())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"split": "tset"}, "--split 'tset' is not known; use train, val, test or all"),
        ({"clips": 0}, "must be at least 1"),
        ({"horizon": 0}, "must be at least 1"),
        ({"context": 0}, "must be at least 1"),
        ({"data": "nowhere"}, "nowhere"),
        ({"device": "cud"}, "device 'cud'"),
        ({"precision": "fp8"}, "precision 'fp8'"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(copy_run(), save=False, **{"horizon": 2, **settings})


def test_data_with_other_channels_or_actions_are_refused(tmp_path):
    write_store(tmp_path / "grey", side=32)
    with pytest.raises(UserError, match=r"frames have 1 channels but .* was trained on 3"):
        evaluate(tiny_run(), tmp_path / "grey", horizon=2, save=False)
    write_store(tmp_path / "still")
    run = open_run(acting_run(), Acting)
    with pytest.raises(UserError, match="has no actions but Acting requires them"):
        evaluate(run, tmp_path / "still", horizon=2, save=False)
    scores, _ = evaluate(run, acting_store(), horizon=2, clips=2, save=False)
    assert scores.protocol.clips == 2


def test_model_trained_without_actions_is_scored_on_data_with_them(tmp_path):
    config = preset("direct", "tiny")
    model = Direct(config.model, ClipSpec(channels=1, height=16, width=16))
    assert model.actions == "none"
    save_pretrained(model, tmp_path / "run")
    scores, _ = evaluate(tmp_path / "run", acting_store(), horizon=2, clips=2, save=False)
    assert scores.protocol.clips == 2


def test_data_changed_since_training_are_refused_by_default(tmp_path):
    run = open_run(tiny_run())
    write_store(tmp_path / "new", videos=4, channels=3, side=32)
    data = dataclasses.replace(run.config.data, path=str(tmp_path / "new"))
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    with pytest.raises(UserError, match=r"has changed since .* was trained on it"):
        evaluate(run, horizon=2, save=False)
    assert evaluate(run, tmp_path / "new", horizon=2, clips=1, save=False)[0].protocol.clips == 1
    data = dataclasses.replace(data, path=str(tmp_path / "gone"))
    with pytest.raises(UserError, match="do not exist here; use --data PATH"):
        evaluate(dataclasses.replace(run, config=dataclasses.replace(run.config, data=data)), save=False)


def test_source_object_can_be_scored():
    scores, _ = evaluate(copy_run(), Store(store()), horizon=2, clips=2, save=False)
    assert scores.protocol.data == store().name
