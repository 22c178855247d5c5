"""Scores with their protocol: saved, loaded and checked."""

import dataclasses
import json
import os

import pytest

from framecast.core.errors import UserError
from framecast.metrics.averages import Series
from framecast.metrics.clips import MetricSettings
from framecast.metrics.scores import Protocol, Scores, require_equal_baselines
from framecast.metrics.summary import Summary

SKILL = {"mean": 0.5, "low": None, "high": None, "n": 1}


def protocol(**changes) -> Protocol:
    values = {
        "data": "bouncing",
        "data_digest": "0f3a",
        "split": "test",
        "split_rule": "by video, ranked seeded hash",
        "clips": 3,
        "videos": 2,
        "context": 4,
        "horizon": 3,
        "stride": 1,
        "samples": 1,
        "height": 16,
        "width": 16,
        "channels": 3,
        "fps": 15.0,
        "metrics": MetricSettings(names=("moving_psnr", "psnr")).describe(),
        "seed": 0,
        "code_version": "0.1.0",
        "device": "cpu",
        "precision": "fp32",
    }
    return Protocol(**{**values, **changes})


def series(*mean: float | None) -> Series:
    return Series(mean, tuple(m and m - 1 for m in mean), tuple(m and m + 1 for m in mean), (3,) * 3, (0,) * 3)


def scores(**changes) -> Scores:
    rows = {"copy-last": {"psnr": series(20.0, 19.0, None)}, "mine": {"psnr": series(25.0, 23.0, 21.0)}}
    values = {"protocol": protocol(), "predictors": rows, "versus": {"mine": {"psnr": series(5.0, 4.0, None)}}}
    return Scores(**{**values, **changes})


def test_loaded_scores_equal_saved_scores(tmp_path):
    full = scores(
        samples={"mine": {"psnr": {"mean": series(1.0, 2.0, 3.0)}}},
        diversity={"mine": series(0.1, 0.2, 0.3)},
        summaries={"mine": Summary(skill=SKILL, skill_best=SKILL, frames=(1, 2, 3), ranges=((1, 2),))},
        best_baseline=("copy-last",) * 3,
        missing={"linear-flow": "not installed"},
    )
    path = full.save(tmp_path / "new" / "scores.json")
    assert Scores.load(path) == full
    data = json.loads(path.read_text())
    assert data["format"] == 1
    assert data["headline"]["psnr"] == {"copy-last": {"1": 20.0, "2": 19.0}, "mine": {"1": 25.0, "2": 23.0}}
    assert data["predictors"]["copy-last"]["psnr"]["mean"] == [20.0, 19.0, None]
    assert os.listdir(path.parent) == ["scores.json"]


def test_main_is_the_first_that_is_no_baseline():
    assert scores().main == "mine"
    assert scores(predictors={"copy-last": {}}).main == "copy-last"


def test_scores_without_protocol_are_refused(tmp_path):
    with pytest.raises(UserError, match="scores need a Protocol"):
        scores(protocol=None)
    data = scores().to_json()
    del data["protocol"]
    (tmp_path / "scores.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"scores\.json: scores without a protocol cannot be read"):
        Scores.load(tmp_path / "scores.json")


def test_invalid_files_are_refused(tmp_path):
    path = tmp_path / "scores.json"
    with pytest.raises(UserError, match=r"scores\.json: no such scores; write them with framecast evaluate"):
        Scores.load(path)
    good = scores().to_json()
    protocol_less = {k: v for k, v in good["protocol"].items() if k != "stride"}
    short = {"psnr": {**good["predictors"]["mine"]["psnr"], "mean": [1.0]}}
    for text, sentence in (
        ("{", "is not JSON"),
        ("[]", "must be a JSON object"),
        (json.dumps({**good, "format": 2}), "format 2 but this framecast reads 1; install a newer framecast"),
        (json.dumps({**good, "format": None}), "write them again"),
        (json.dumps({**good, "protocol": protocol_less}), "the protocol lacks stride"),
        (json.dumps({**good, "protocol": {**good["protocol"], "x": 1}}), "has unknown x"),
        (json.dumps({**good, "predictors": {"mine": short}}), "must be equally long"),
        (json.dumps({**good, "predictors": {"mine": 3}}), "one table of metrics per predictor"),
        (json.dumps({**good, "predictors": {"mine": {"psnr": {"mean": ["a"]}}}}), "must hold numbers, got 'a'"),
        (json.dumps({**good, "predictors": {"mine": {"psnr": {"mean": []}}}}), 'must have a list "low"'),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=sentence) as caught:
            Scores.load(path)
        assert str(path) in str(caught.value)


def test_files_of_before_skill_open_with_the_two_baselines_of_then(tmp_path):
    old = scores().to_json()
    for key in ("summaries", "best_baseline", "missing_baselines"):
        del old[key]
    del old["protocol"]["baselines"]
    found = Scores.from_json(old)
    assert found.protocol.baselines == ("copy-last", "temporal-mean")
    assert found.summaries == {}


def test_results_against_different_sets_of_baselines_are_not_compared():
    three = protocol(baselines=("copy-last", "temporal-mean", "linear-flow"))
    require_equal_baselines({"a": three, "b": three})
    with pytest.raises(
        UserError, match="a was scored against the baselines copy-last, linear-flow, temporal-mean and b "
    ):
        require_equal_baselines({"a": three, "b": protocol()})


def test_failed_write_keeps_the_old_scores(tmp_path, monkeypatch):
    path = scores().save(tmp_path / "scores.json")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written \\(No space left on device\\)"):
        scores(predictors={"mine": {}}).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["scores.json"]


def test_protocol_checks_its_values():
    for changes, sentence in (
        ({"horizon": 0}, "protocol.horizon must be a whole number of at least 1, got 0"),
        ({"data": 3}, "protocol.data must be text"),
        ({"fps": 0}, "fps must be above 0"),
        ({"metrics": {}}, "must come from MetricSettings.describe"),
    ):
        with pytest.raises(UserError, match=sentence):
            protocol(**changes)
    with pytest.raises(UserError, match="3 frames scored but the horizon is 4"):
        scores(protocol=protocol(horizon=4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol().seed = 3
