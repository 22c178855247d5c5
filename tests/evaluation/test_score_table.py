"""Score tables: several forecasters on the same clips, one forecast in memory at a time."""

import weakref
from dataclasses import replace

import pytest
import torch
from evaluation.test_scorer import HORIZON, SIZE, batches, protocol

from framecast.core.errors import UserError
from framecast.evaluation.score_table import Forecaster, ScoreTable
from framecast.evaluation.scorer import KeptClip, kept_clips, score
from framecast.metrics import frames
from framecast.metrics.scores import BASELINES


def copying(name, at=None, samples=1, gain=0.0):
    """Repeats the last frame, a little brighter each frame."""

    def forecast(batch, numbers):
        count = HORIZON if at is None else len(at)
        steps = gain * torch.arange(1, count + 1).reshape(1, 1, -1, 1, 1, 1)
        return (batch.context[None, :, -1:] + steps).clamp(0, 1).repeat(samples, 1, 1, 1, 1, 1)

    return Forecaster(name=name, forecast=forecast, samples=samples, frames=at)


def table(*more, **settings):
    return ScoreTable([*more, *(copying(name) for name in BASELINES)], protocol(), **settings)


def scored(made, parts):
    before = 0
    for batch in parts:
        numbers = range(before, before + batch.size)
        made.take(made.measure(batch, numbers), numbers)
        before += batch.size
    return made.scores()


def test_at_most_one_forecast_is_in_memory():
    alive: list[weakref.ref] = []

    def watched(name):
        inner = copying(name)

        def forecast(batch, numbers):
            assert not [w for w in alive if w() is not None], f"{name}: another forecast was in memory"
            made = inner.forecast(batch, numbers)
            alive.append(weakref.ref(made))
            return made

        return Forecaster(name=name, forecast=forecast)

    made = ScoreTable([watched("mine"), *(watched(name) for name in BASELINES)], protocol())
    scored(made, batches())
    assert len(alive) == 4 * len(batches())
    assert not [w for w in alive if w() is not None]


def test_forecaster_of_some_frames_is_scored_at_those():
    scores = scored(table(copying("second", at=(2,))), batches())
    series, whole = scores.predictors["second"]["psnr"], scores.predictors["copy-last"]["psnr"]
    assert series.mean == (None, whole.mean[1], None)
    assert (series.n, series.skipped) == ((0, 7, 0), (0, 0, 0))
    assert scores.versus["second"]["psnr"].mean == (None, 0.0, None)


def test_further_metrics_and_extras_measure_every_forecast():
    class Seen:
        def __init__(self):
            self.shapes, self.taken = [], []

        def measure(self, forecaster, prediction, truth, batch, numbers):
            self.shapes.append((forecaster.name, tuple(prediction.shape[:3]), tuple(truth.shape[:2])))
            return list(numbers)

        def take(self, forecaster, found, groups):
            self.taken.append((forecaster.name, found, groups))

    seen, conditions = Seen(), protocol()
    conditions = replace(conditions, metrics={**conditions.metrics, "names": ["psnr", "lpips"]})
    made = ScoreTable(
        [copying("mine", at=(1, 3), samples=2, gain=0.1), *(copying(name) for name in BASELINES)],
        conditions,
        groups=list("aabbccd"),
        more={"lpips": lambda x, y: (x - y).abs().mean((-3, -2, -1))},
        extras=[seen],
    )
    scores = scored(made, batches(size=7))
    assert seen.shapes[0] == ("mine", (2, 7, 2), (7, 2))
    assert seen.taken[0] == ("mine", list(range(7)), list("aabbccd"))
    assert len(seen.taken) == 4
    assert scores.predictors["copy-last"]["lpips"].mean[0] > 0
    assert set(scores.samples) == {"mine"}


def test_scores_collected_from_several_processes_equal_those_of_one_to_the_bit():
    groups = list("aabbccd")
    alone, shared = (table(copying("mine", gain=0.02), groups=groups) for _ in range(2))
    parts = batches(size=2)
    rows, before = [], 0
    for batch in parts:
        rows.append((range(before, before + batch.size), batch))
        before += batch.size
    one = scored(alone, parts)
    measured = {i: shared.measure(batch, numbers) for i, (numbers, batch) in reversed(list(enumerate(rows)))}
    for i, (numbers, _) in enumerate(rows):
        shared.take(measured[i], numbers)
    assert shared.scores() == one


def test_displayed_forecasts_are_held_between_their_frames():
    made = table(copying("late", at=(2,), gain=0.1))
    (kept,) = kept_clips(made, batches(size=1)[0], [0], {0: "best"}, "psnr", [20.0], ["v"])
    assert isinstance(kept, KeptClip)
    late = kept.predictions["late"]
    assert late.shape == (HORIZON, 3, SIZE, SIZE)
    assert torch.equal(late[0], kept.context[-1])
    assert torch.equal(late[1], (kept.context[-1] + 0.1).clamp(0, 1))
    assert torch.equal(late[2], late[1])


def test_best_of_the_samples_is_displayed():
    truth = batches(size=1)[0]

    def forecast(batch, numbers):
        right = batch.future[:, :HORIZON]
        return torch.stack([1 - right, right, right * 0.5])

    made = table(Forecaster(name="three", forecast=forecast, samples=3))
    _, true, shown = made.show(truth, [0], "psnr")
    assert torch.equal(shown["three"], true.float())
    assert frames.psnr(shown["three"], true).min() == 100


def test_samples_of_a_clip_do_not_depend_on_its_batch():
    from evaluation.test_scorer import predictors_of as predictors
    from evaluation.test_scorer import roll

    one, many = (
        score(predictors(stochastic=True), batches(n), protocol(), samples=3, seed=2, roll=roll)[0] for n in (1, 4)
    )
    assert one.predictors["mine"]["psnr"].mean == pytest.approx(many.predictors["mine"]["psnr"].mean, rel=1e-12)
    assert one.diversity["mine"].mean == pytest.approx(many.diversity["mine"].mean, rel=1e-12)


def test_intervals_are_over_videos_where_groups_are_given():
    plain, grouped = (score_of(groups) for groups in (None, ["a"] * 4 + ["b"] * 3))
    assert grouped.predictors["mine"]["psnr"].mean == plain.predictors["mine"]["psnr"].mean
    assert grouped.predictors["mine"]["psnr"].low != plain.predictors["mine"]["psnr"].low
    assert "over 2 videos" in grouped.protocol.metrics["interval"]
    assert plain.protocol.metrics["interval"].endswith("Student's t over clips")


def score_of(groups):
    from evaluation.test_scorer import predictors_of as predictors
    from evaluation.test_scorer import roll

    return score(predictors(), batches(), protocol(), roll=roll, groups=groups, keep=False)[0]


def test_table_without_baselines_is_refused():
    with pytest.raises(
        UserError, match="every table must contain copy-last and temporal-mean; add copy-last and temporal-mean"
    ):
        ScoreTable([copying("mine")], protocol())
