"""One config trains on a store, on records of the published schema, and on records as Robot Push has them."""

import dataclasses
import json

import numpy as np
import pytest
from cli_support import done, refused  # noqa: F401 - fixtures
from small_models import Acting, rows_of, small_config

from framecast.core.errors import UserError
from framecast.data.base import RecordSettings
from framecast.data.options import DataConfig
from framecast.data.store import DatasetWriter, Store
from framecast.data.tfrecord_writer import write_records
from framecast.evaluation.evaluate import evaluate
from framecast.training.train import train


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """The same pushes of a square as a store and as records of both schemas."""
    folder, rng = tmp_path_factory.mktemp("shelf"), np.random.default_rng(0)
    splits = [("train", None)] * 4 + [("val", None), ("test", "seen"), ("test", "novel"), ("test", "novel")]
    with DatasetWriter(folder / "store", fps=10) as writer:
        for split, subset in splits:
            actions = rng.normal(size=(10, 5))
            place = np.clip(8 + np.cumsum(actions[:, :2], 0), 0, 12).astype(int)
            frames = np.full((10, 3, 16, 16), 40, np.uint8)
            for frame, (y, x) in zip(frames, place, strict=True):
                frame[:, y : y + 4, x : x + 4] = 210
            writer.add(frames, actions=actions, states=np.roll(actions, 1, 0), split=split, subset=subset)
    write_records(Store(folder / "store"), folder / "published", quality=100)
    write_records(Store(folder / "store"), folder / "robot-push", "robot-push", quality=100)
    return folder


@pytest.mark.parametrize("kind", ["published", "robot-push"])
def test_same_config_trains_on_every_schema(shelf, tmp_path, kind):
    config = small_config(Acting, steps=3)
    losses = {}
    for name in ("store", kind):
        run = train(Acting, shelf / name, config=config, out=tmp_path / name, quiet=True)
        losses[name] = [row["main/mse"] for row in rows_of(run)]
        scores, _ = evaluate(run, split="test/novel", horizon=2, model_class=Acting)
        assert (scores.protocol.split, scores.protocol.videos) == ("test/novel", 2)
    assert len(losses["store"]) == 3
    np.testing.assert_allclose(losses["store"], losses[kind], rtol=0.02)  # records hold JPEGs


def test_length_and_skip_are_settings_of_the_run(shelf, tmp_path):
    settings = RecordSettings(length=8, skip=2)
    config = dataclasses.replace(small_config(Acting, steps=1), data=DataConfig(records=settings))
    run = train(Acting, shelf / "published", config=config, out=tmp_path / "run", quiet=True)
    output = json.loads((run / "config.json").read_text())
    assert output["data"]["records"]["skip"] == 2
    assert output["spec"]["fps"] == 5
    scores, _ = evaluate(run, horizon=1, model_class=Acting)
    assert scores.protocol.fps == 5
    other = dataclasses.replace(config, data=DataConfig(records=RecordSettings(length=8)))
    with pytest.raises(UserError, match=r"data\.records\.skip was 2 and is now 1"):
        train(Acting, shelf / "published", config=other, out=run, quiet=True)


def test_records_are_written_and_read_by_commands(shelf, tmp_path, done, refused):  # noqa: F811
    out = tmp_path / "records"
    output = done("data", "records", shelf / "store", "--out", out, "--schema", "robot-push", "--size", "8x8")
    assert "files of the robot-push schema" in output
    facts = json.loads(done("data", "inspect", out, "--json", "-", "--records.length", "6"))
    assert (facts["videos"], facts["frames"], facts["sizes"]) == (8, 48, {"8x8": 8})
    assert facts["splits"]["test"]["videos"] == 3
    assert facts["actions"]["kind"] == "continuous"
    packed = json.loads(done("data", "import", out, "--out", tmp_path / "packed", "--json", "-"))
    assert packed["extras"] == {"states": [5]}
    plan = json.loads(
        done("train", "copy-last", "--data", out, "--records.train", "*seen*", "--steps", "1", "--dry-run")
    )
    assert plan["data"]["records"]["train"] == "*seen*"
    plan = json.loads(done("train", "copy-last", "--data", out, "--steps", "1", "--dry-run"))
    assert plan["data"]["records"] is None
    assert "already holds records" in refused("data", "records", shelf / "store", "--out", out)
    assert "--records.skip must be at least 1" in refused("data", "inspect", out, "--records.skip", "0")
