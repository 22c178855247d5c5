"""Scores of predictors on streamed clips."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import Batch
from framecast.evaluation.scorer import Protocol, Scores, score
from framecast.metrics import frames
from framecast.metrics.clips import POOLED, MetricSettings

HORIZON, SIZE = 3, 16


def protocol(**changes) -> Protocol:
    values = {
        "data": "squares",
        "data_digest": "0f3a",
        "split": "test",
        "split_rule": "by video",
        "clips": 0,
        "videos": 4,
        "context": 2,
        "horizon": HORIZON,
        "stride": 1,
        "samples": 1,
        "height": SIZE,
        "width": SIZE,
        "channels": 3,
        "fps": 15.0,
        "metrics": MetricSettings.fitting(SIZE, SIZE).describe(),
        "seed": 0,
        "code_version": "0.1.0",
        "device": "cpu",
        "precision": "fp32",
    }
    return Protocol(**{**values, **changes})


def clip(seed: int, still: bool = False) -> torch.Tensor:
    """A square that moves two pixels a frame over a random ground: uint8 (t, c, h, w)."""
    g = torch.Generator().manual_seed(seed)
    ground = torch.randint(0, 120, (3, SIZE, SIZE), generator=g, dtype=torch.uint8)
    out = ground[None].repeat(2 + HORIZON, 1, 1, 1)
    row = int(torch.randint(0, SIZE - 4, (1,), generator=g))
    for t in range(len(out)):
        column = 0 if still else 2 * t
        out[t, :, row : row + 4, column : column + 4] = 250
    return out


def batches(size: int = 2, n: int = 7, still: bool = False) -> list[Batch]:
    x = torch.stack([clip(i, still) for i in range(n)])
    return [Batch(context=b[:, :2], future=b[:, 2:]) for b in x.split(size)]


def predictor(kind: str, stochastic: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        kind=kind, stochastic=stochastic, actions="none", parameters=lambda: iter(()), asked=[], train=lambda _: None
    )


def roll(model, context, horizon, actions=None, samples=1, generator=None):
    """Replacement for rollout: the forecast of each kind of predictor."""
    model.asked.append((len(context), samples, actions))
    last, first = context[:, -1:], context[:, :1]
    if model.kind == "copy":
        future = last.repeat(1, horizon, 1, 1, 1)
    elif model.kind == "mean":
        future = context.mean(1, keepdim=True).repeat(1, horizon, 1, 1, 1)
    elif model.kind == "nan":
        future = last.repeat(1, horizon, 1, 1, 1) * torch.nan
    else:  # shifts what changed on by two pixels a frame: almost right
        moved = (last - first).abs().amax(2, keepdim=True) > 0.1
        step = [torch.where(moved.roll(2 * k, -1), 0.9, last) for k in range(1, horizon + 1)]
        future = torch.cat(step, 1)
    future = future.expand(samples, *future.shape)
    if model.stochastic:
        noise = [torch.randn(samples, 1, *future.shape[2:], generator=own) for own in generator]
        future = (future + 0.1 * torch.cat(noise, 1)).clamp(0, 1)
    return future


def predictors_of(main: str = "shift", stochastic: bool = False) -> dict:
    return {
        "mine": predictor(main, stochastic),
        "copy-last": predictor("copy"),
        "temporal-mean": predictor("mean"),
    }


def test_scores_are_the_plain_means_over_clips():
    scores, kept = score(predictors_of(), batches(), protocol(), roll=roll)
    assert scores.protocol == protocol(clips=7)
    truth = torch.cat([b.future for b in batches()]).float() / 255
    last = torch.cat([b.context for b in batches()])[:, -1:].float() / 255
    copy = last.repeat(1, HORIZON, 1, 1, 1)
    psnr, mask = frames.psnr(copy, truth), frames.moving_mask(truth, last)
    got = scores.predictors["copy-last"]
    assert got["psnr"].mean == pytest.approx(psnr.mean(0).tolist(), rel=1e-9)
    assert got["moving_psnr"].mean == pytest.approx(frames.masked_psnr(copy, truth, mask).mean(0).tolist(), rel=1e-6)
    assert got["ssim"].n == (7, 7, 7)
    mine = scores.predictors["mine"]["psnr"].mean
    assert scores.versus["mine"]["psnr"].mean == pytest.approx(
        [a - b for a, b in zip(mine, got["psnr"].mean, strict=True)], rel=1e-9
    )
    assert scores.main == "mine"
    assert [k.role for k in kept] == ["worst", "median", "best"]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_batch_size_does_not_matter(size):
    a, first = score(predictors_of(), batches(2), protocol(), roll=roll)
    b, second = score(predictors_of(), batches(size), protocol(), roll=roll)
    for name, row in a.predictors.items():
        for metric, series in row.items():
            other = b.predictors[name][metric]
            # guards are summed in float32, in an order that some processors choose by the batch's size
            rel = 1e-6 if metric.endswith("sharpness_ratio") else 1e-12
            assert other.mean == pytest.approx(series.mean, rel=rel)
            assert other.low == pytest.approx(series.low, rel=rel)
    assert [(k.role, k.index) for k in first] == [(k.role, k.index) for k in second]


def test_kept_clips_are_worst_median_and_best_of_the_first_predictor():
    per_clip: dict = {}
    predictors = predictors_of()
    _, kept = score(predictors, batches(), protocol(), roll=roll, per_clip=per_clip, names=[f"v{i}" for i in range(7)])
    squared = [per_clip[name]["mse"].sum(1) for name in ("mine", "copy-last")]
    ranks = 1 - squared[0] / squared[1]
    order = ranks.argsort().tolist()
    assert [k.index for k in kept] == [order[0], order[3], order[-1]]
    assert [k.value for k in kept] == pytest.approx(ranks[[order[0], order[3], order[-1]]].tolist())
    assert [k.name for k in kept] == [f"v{k.index}" for k in kept]
    for k in kept:
        assert torch.equal(k.truth, clip(k.index)[2:].float() / 255)
        assert torch.equal(k.context, clip(k.index)[:2].float() / 255)
        assert torch.equal(k.predictions["copy-last"], k.context[-1:].repeat(HORIZON, 1, 1, 1))
        error, base = (frames.mse(k.predictions[n], k.truth).sum().item() for n in ("mine", "copy-last"))
        assert k.value == pytest.approx(1 - error / base)  # what is displayed is what was ranked
    # Four batches once, and again only those that hold a clip to be shown.
    again = len({k.index // 2 for k in kept})
    assert len(predictors["mine"].asked) == 4 + again


@pytest.mark.parametrize(("n", "roles"), [(1, ["best"]), (2, ["worst", "best"]), (3, ["worst", "median", "best"])])
def test_few_clips(n, roles):
    scores, kept = score(predictors_of(), batches(n=n), protocol(), roll=roll)
    assert [k.role for k in kept] == roles
    assert (scores.predictors["mine"]["psnr"].low[0] is None) == (n == 1)


def test_clips_without_motion_are_skipped_counted_and_ranked_by_psnr():
    scores, kept = score(predictors_of(), batches(still=True), protocol(), roll=roll)
    series = scores.predictors["copy-last"]["moving_psnr"]
    assert (series.n, series.skipped, series.mean) == ((0,) * 3, (7,) * 3, (None,) * 3)
    assert scores.predictors["copy-last"]["psnr"].mean == (100, 100, 100)
    assert {k.metric for k in kept} == {"psnr"}
    assert set(scores.predictors["mine"]["skill"].mean) == {None}
    assert scores.summaries["mine"].skill["mean"] is None


def test_only_stochastic_predictors_are_sampled_and_samples_are_reproducible():
    predictors = predictors_of(stochastic=True)
    scores, kept = score(predictors, batches(), protocol(), samples=4, seed=3, roll=roll)
    assert (scores.protocol.samples, scores.protocol.seed) == (4, 3)
    assert {s for _, s, _ in predictors["mine"].asked} == {4}
    assert {s for _, s, _ in predictors["copy-last"].asked} == {1}
    assert set(scores.samples) == set(scores.diversity) == {"mine"}
    best, beside = scores.predictors["mine"]["psnr"].mean, scores.samples["mine"]["psnr"]
    assert all(b > m > w for b, m, w in zip(best, beside["mean"].mean, beside["worst"].mean, strict=True))
    assert all(0.05 < d < 0.2 for d in scores.diversity["mine"].mean)
    again, others = score(predictors_of(stochastic=True), batches(), protocol(), samples=4, seed=3, roll=roll)
    assert again == scores
    # Skill is that of the mean error of the samples, and the clip shown is the sample of median error.
    for k in kept:
        error, base = (frames.mse(k.predictions[n], k.truth).mean().item() for n in ("mine", "copy-last"))
        assert k.metric == "skill"
        assert 1 - error / base == pytest.approx(k.value, abs=0.1)
    assert torch.equal(kept[0].predictions["mine"], others[0].predictions["mine"])
    other, _ = score(predictors_of(stochastic=True), batches(), protocol(), samples=4, seed=4, roll=roll)
    assert other.predictors["mine"] != scores.predictors["mine"]


def test_actions_reach_the_predictors_that_take_them():
    predictors = predictors_of()
    predictors["mine"].actions = "required"
    data = [replace(b, actions=torch.zeros(b.size, 6, 2)) for b in batches()]
    score(predictors, data, protocol(), roll=roll, keep=False)
    assert predictors["mine"].asked[0][2].shape == (2, 2 + HORIZON - 1, 2)
    assert predictors["copy-last"].asked[0][2] is None


def test_loaded_scores_equal_saved_scores(tmp_path):
    scores, _ = score(predictors_of(stochastic=True), batches(), protocol(), samples=2, roll=roll)
    assert Scores.load(scores.save(tmp_path / "scores.json")) == scores


def test_metrics_too_large_for_the_frames_are_left_out_of_the_protocol_too():
    scores, _ = score(predictors_of(), batches(), protocol(metrics=MetricSettings().describe()), roll=roll)
    assert "ms_ssim" not in scores.protocol.settings.names
    assert tuple(scores.predictors["mine"]) == scores.metrics == (*POOLED, *scores.protocol.settings.names)


def test_invalid_input_is_refused():
    with pytest.raises(UserError, match="every table must contain copy-last and temporal-mean; add temporal-mean"):
        score({k: v for k, v in predictors_of().items() if k != "temporal-mean"}, batches(), protocol(), roll=roll)
    with pytest.raises(UserError, match="pass a list or a loader, or keep=False"):
        score(predictors_of(), iter(batches()), protocol(), roll=roll)
    with pytest.raises(UserError, match="no clips to score in the test split"):
        score(predictors_of(), [], protocol(), roll=roll)
    with pytest.raises(UserError, match=r"expected frames of .* \(3, 16, 18\) by the protocol, got \(3, 16, 16\)"):
        score(predictors_of(), batches(), protocol(width=18), roll=roll)
    with pytest.raises(UserError, match="horizon is 4 frames but the clips hold 3"):
        score(predictors_of(), batches(), protocol(horizon=4), roll=roll)
    with pytest.raises(UserError, match="mine predicted values that are not finite in clips 0 to 1"):
        score(predictors_of("nan"), batches(), protocol(), roll=roll)
    with pytest.raises(UserError, match=r"mine must predict \(s, b, horizon, c, h, w\) = \(1, 2, 3, 3, 16, 16\)"):
        score(predictors_of(), batches(), protocol(), roll=lambda *args, **kwargs: roll(*args, **kwargs)[0])


def test_copy_has_skill_zero_and_the_truth_one():
    truth = predictor("truth")
    data = batches(size=7)

    def known(model, context, horizon, **settings):
        if model.kind == "truth":
            return data[0].future.float()[None] / 255
        return roll(model, context, horizon, **settings)

    scores, _ = score(
        {"same": predictor("copy"), **predictors_of("truth")} | {"mine": truth},
        data,
        protocol(),
        roll=known,
        keep=False,
    )
    for name, value in (("same", 0.0), ("copy-last", 0.0), ("mine", 1.0)):
        assert set(scores.predictors[name]["skill"].mean) == {value}
        assert scores.summaries[name].skill["mean"] == value
    assert scores.summaries["mine"].useful_horizon == HORIZON
    assert scores.summaries["same"].useful_horizon == 0
    assert scores.summaries["mine"].false_motion is None  # no error to have a share of


def test_invented_motion_lowers_skill_and_is_false_motion():
    def inventing(model, context, horizon, **settings):
        made = roll(model, context, horizon, **settings)
        if model.kind == "shift" and model.stripe:
            made[..., :2, :] = 1.0  # a white stripe at the top, where nothing moves in these clips
        return made

    plain, striped = predictors_of(), predictors_of()
    plain["mine"].stripe, striped["mine"].stripe = False, True
    still = torch.stack([x for x in map(clip, range(30)) if int((x[0] != x[-1]).any((0, 2)).nonzero()[0]) >= 6])
    data = [Batch(context=still[:, :2], future=still[:, 2:])]
    honest, _ = score(plain, data, protocol(), roll=inventing, keep=False)
    invented, _ = score(striped, data, protocol(), roll=inventing, keep=False)
    a, b = honest.summaries["mine"], invented.summaries["mine"]
    assert b.skill["mean"] < a.skill["mean"]
    assert b.false_motion > a.false_motion
    # the moving area's PSNR, the older headline, does not see it
    moving = [s.predictors["mine"]["moving_psnr"].mean for s in (honest, invented)]
    assert moving[0] == pytest.approx(moving[1], abs=0.5)


def test_samples_are_scored_by_their_mean_error_with_probabilistic_scores_beside():
    scores, _ = score(predictors_of(stochastic=True), batches(), protocol(), samples=4, seed=3, roll=roll)
    found = scores.summaries["mine"]
    assert found.samples["skill_of_best"] > found.skill["mean"]
    assert found.samples["skill_of_mean"] > found.skill["mean"]
    assert len(found.samples["spread_skill"]) == HORIZON
    assert all(v > 0 for v in found.samples["crps"]["mean"])
    assert scores.summaries["copy-last"].samples == {}


def test_best_baseline_is_chosen_at_every_frame_and_named():
    scores, _ = score(predictors_of(), batches(), protocol(), roll=roll)
    assert set(scores.best_baseline) <= {"copy-last", "temporal-mean"}
    assert len(scores.best_baseline) == HORIZON
    best = scores.predictors["mine"]["skill_best"].mean
    assert all(a <= b for a, b in zip(best, scores.predictors["mine"]["skill"].mean, strict=True))
    for k, name in enumerate(scores.best_baseline):
        assert scores.predictors[name]["skill_best"].mean[k] == 0
