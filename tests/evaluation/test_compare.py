"""Comparisons: the same clips for all rows, alignment rules, paired differences, reproducible scores."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_support import acting_run, acting_store, copy_run, store, tiny_run, work
from scipy import stats
from small_models import Acting, small_config, write_store
from torch import nn

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest, Loss
from framecast.data.store import Store
from framecast.evaluation.clips import split_segments, spread_clips, take_part
from framecast.evaluation.compare import compare
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.rows import ComparisonRow, labels, split_windows
from framecast.metrics import frames as measures
from framecast.metrics.scores import BASELINES
from framecast.models.base import Predictor
from framecast.reporting.compare_page import describe, sentence, write_comparison
from framecast.training.run_folder import open_run
from framecast.training.train import train

SETTINGS = {"horizon": 6, "clips": 5, "precision": "fp32"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftConfig:
    """context, stride, side: of the request.  noise: std of the noise added to every future."""

    context: int = 2
    stride: int = 1
    side: int = 0
    noise: float = 0.0


class Shift(Predictor):
    """Repeats the last frame with a little brightness: its forecast is known exactly."""

    Config = ShiftConfig
    stochastic = True

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.gain = nn.Parameter(torch.full((), 0.02))
        self.seen: list[torch.Tensor] = []

    @classmethod
    def request(cls, config):
        return ClipRequest(
            context=config.context, stride=config.stride, resize=(config.side, config.side) if config.side else None
        )

    def loss(self, batch, step=0):
        return Loss((batch.context[:, -1:] + self.gain - batch.future).square().mean())

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        self.seen.append(context)
        steps = self.gain * torch.arange(1, horizon + 1).reshape(1, 1, -1, 1, 1, 1)
        future = (context[None, :, -1:] + steps).expand(samples, -1, -1, -1, -1, -1)
        if self.config.noise:
            noise = torch.randn(samples, len(context), horizon, 1, 1, 1, generator=generator)
            future = future + self.config.noise * noise
        return future.clamp(0, 1)


class Fixed(Shift):
    """The same, without chance."""

    stochastic = False


class Bound(Fixed):
    """The same, for frames of the size it was trained at alone."""

    @classmethod
    def frame_size(cls, config, spec):
        return spec.height, spec.width


#: Runs of one of the above, by name.
SHIFTS = {
    "plain": (Fixed, {}),
    "bound": (Bound, {}),
    "wide": (Fixed, {"context": 5}),
    "slow": (Fixed, {"context": 3, "stride": 4}),
    "halved": (Fixed, {"side": 16}),
    "noisy": (Shift, {"noise": 0.05}),
}


def shift_run(name):
    """A trained run; its gain is known afterwards."""
    folder, (model_class, config) = work() / name, SHIFTS[name]
    if not folder.is_dir():
        settings = small_config(model_class, steps=1)
        settings = dataclasses.replace(settings, model=ShiftConfig(**config))
        train(model_class, store(), config=settings, out=folder, quiet=True)
    return open_run(folder, model_class)


def truth_of(comparison, names=("last", "future")):
    """Contexts' last frames and futures of the clips, by hand from the store."""
    source = Store(store())
    p = comparison.protocol
    segments = split_segments(source, "test", [p.context + 1])
    chosen, horizon = spread_clips(source, segments, "test", p.context, p.horizon, p.clips, p.seed)
    clips = [source.clip(v, s, p.context + horizon).frames for v, s in chosen.pairs]
    whole = torch.from_numpy(np.stack(clips)).float() / 255
    return whole[:, : p.context], whole[:, p.context :], chosen.pairs


# ---------------------------------------------------------------------------------------------------------- figures


def test_scores_equal_those_of_evaluate():
    found, _ = compare([tiny_run()], store(), horizon=5, clips=4, precision="fp32")
    scores, _ = evaluate(tiny_run(), horizon=5, clips=4, precision="fp32", save=False)
    for name, other in (("tiny", "multiscale-gan"), ("copy-last", "copy-last"), ("temporal-mean", "temporal-mean")):
        for metric, series in found.scores.predictors[name].items():
            np.testing.assert_allclose(series.mean, scores.predictors[other][metric].mean, rtol=1e-6)
    for metric, series in found.scores.versus["tiny"].items():
        np.testing.assert_allclose(series.mean, scores.versus["multiscale-gan"][metric].mean, rtol=1e-5, atol=1e-7)


def test_means_and_paired_differences_equal_the_plain_formula():
    runs = [shift_run("plain"), shift_run("wide")]
    found, _ = compare(runs, store(), **SETTINGS)
    context, future, _ = truth_of(found)
    assert found.protocol.context == 5
    values = {}
    for run in runs:
        gain = float(run.model().gain)
        steps = gain * torch.arange(1, 7).reshape(1, -1, 1, 1, 1)
        values[Path(run.name).name] = measures.psnr((context[:, -1:] + steps).clamp(0, 1), future).mean(1).numpy()
    a, b = values["plain"], values["wide"]
    assert found.means["plain"]["psnr"]["mean"] == pytest.approx(a.mean(), rel=1e-5)
    assert found.difference("psnr", "plain", "wide")["mean"] == pytest.approx((a - b).mean(), abs=1e-5)
    # one held-out video: the interval is over clips, as in the protocol
    half = stats.t.ppf(0.975, len(a) - 1) * stats.sem(a)
    assert found.means["plain"]["psnr"]["high"] - a.mean() == pytest.approx(half, rel=1e-4)
    assert "all are of one video" in found.protocol.metrics["interval"]
    turned = found.difference("psnr", "wide", "plain")
    assert turned["low"] == pytest.approx(-found.difference("psnr", "plain", "wide")["high"])


def test_every_context_ends_at_the_same_frame():
    runs = [shift_run("plain"), shift_run("slow")]
    for run in runs:
        run.kept = run.model()
        run.model = lambda device, kept=run.kept: kept
    found, _ = compare(runs, store(), show=0, horizon=8, clips=3, precision="fp32")
    assert found.protocol.context == 9
    context, _, _ = truth_of(found)
    near, far = (torch.cat(run.kept.seen) for run in runs)
    assert torch.equal(near, context[:, -2:])
    assert torch.equal(far, context[:, [0, 4, 8]])


def test_model_of_stride_k_is_scored_at_its_own_frames():
    found, _ = compare([shift_run("plain"), shift_run("slow")], store(), horizon=9, clips=3)
    context, future, _ = truth_of(found)
    series = found.scores.predictors["slow"]["psnr"]
    assert [k + 1 for k, n in enumerate(series.n) if n] == [4, 8]
    assert series.skipped == (0,) * 9
    gain = float(shift_run("slow").model().gain)
    want = measures.psnr((context[:, -1] + gain).clamp(0, 1), future[:, 3])
    assert series.mean[3] == pytest.approx(float(want.mean()), rel=1e-5)
    assert found.frames == (4, 8)
    assert found.means["slow"]["psnr"]["mean"] == pytest.approx((series.mean[3] + series.mean[7]) / 2)
    plain = found.scores.predictors["plain"]["psnr"].mean
    assert found.means["plain"]["psnr"]["mean"] == pytest.approx((plain[3] + plain[7]) / 2)
    assert any("slow forecasts one in 4" in rule for rule in found.rules)


def test_frames_and_forecasts_of_another_size_are_resized():
    run = shift_run("halved")
    run.kept = run.model()
    run.model = lambda device: run.kept
    found, kept = compare([run], store(), **SETTINGS)
    assert {tuple(x.shape[-2:]) for x in run.kept.seen} == {(16, 16)}
    assert (found.protocol.height, found.protocol.width) == (32, 32)
    assert kept[0].predictions["halved"].shape == kept[0].truth.shape
    assert found.rows["halved"]["input"] == [16, 16]
    assert any("input frames resized" in rule for rule in found.rules)


def test_model_of_fixed_size_gets_its_size_and_other_models_decide_the_compared_size(tmp_path):
    write_store(tmp_path / "large", videos=4, channels=3, side=48)
    run = shift_run("bound")
    data = dataclasses.replace(run.config.data, trained_size="32x32")
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    model = run.model()
    run.model = lambda device: model
    settings = {"split": "all", "horizon": 3, "clips": 2, "show": 0}
    beside, _ = compare([run, shift_run("plain")], tmp_path / "large", **settings)
    assert {tuple(x.shape[-2:]) for x in model.seen} == {(32, 32)}
    assert (beside.protocol.height, beside.rows["bound"]["input"], beside.rows["plain"]["input"]) == (
        *(48, [32, 32], [48, 48]),
    )
    assert any(rule.startswith("bound: input frames resized") for rule in beside.rules)
    alone, _ = compare([run], tmp_path / "large", **settings)
    assert alone.protocol.height == 32


def test_scores_do_not_depend_on_the_batch_size_with_samples_too():
    run = shift_run("noisy")
    a, b = (compare([run, tiny_run()], store(), samples=3, batch_size=n, show=0, **SETTINGS)[0] for n in (1, 4))
    for name, row in a.means.items():
        for metric, value in row.items():
            assert b.means[name][metric]["mean"] == pytest.approx(value["mean"], rel=1e-5), (name, metric)
    assert a.scores.diversity["noisy"].mean == pytest.approx(b.scores.diversity["noisy"].mean)
    assert a.protocol.samples == 3
    assert set(a.scores.samples) == {"noisy"}
    best, beside = a.scores.predictors["noisy"]["psnr"].mean, a.scores.samples["noisy"]["psnr"]
    assert sum(best) > sum(beside["mean"].mean) > sum(beside["worst"].mean)


def test_actions_reach_the_models_at_the_right_frames():
    found, _ = compare([open_run(acting_run(), Acting)], acting_store(), horizon=4, clips=3, precision="fp32")
    scores, _ = evaluate(open_run(acting_run(), Acting), horizon=4, clips=3, precision="fp32", save=False)
    assert found.rows["led"]["actions"] is True
    name = scores.main
    assert found.scores.predictors["led"]["mse"].mean == pytest.approx(scores.predictors[name]["mse"].mean, rel=1e-5)


# --------------------------------------------------------------------------------------------------------- the order


def test_ranking_follows_the_metric_and_marks_differences_that_are_not_significant():
    runs = [shift_run("plain"), f"same={tiny_run()}", tiny_run()]
    found, _ = compare(runs, store(), **SETTINGS)
    order = found.ranking()
    assert {row["name"] for row in order} == {"plain", "same", "tiny", *BASELINES}
    means = [row["mean"] for row in order]
    assert means == sorted(means, reverse=True)
    names = [row["name"] for row in order]
    after = order[max(names.index("same"), names.index("tiny"))]
    assert after["tied"]
    assert after["to_copy_last"] is not None
    assert order[0]["to_best"] is None
    by_error = found.ranking("mse")
    assert [row["mean"] for row in by_error] == sorted(row["mean"] for row in by_error)
    assert compare(runs, store(), rank_by="ssim", show=0, **SETTINGS)[0].rank_by == "ssim"
    assert "is best by Skill over persistence" in sentence(found)
    assert "= difference to the row above not significant at 95 %" in describe(found)


def test_row_names_are_unique():
    assert labels(["runs/a", "other/a", "x=runs/a", "hf://org/name@v1"]) == ["a", "a-2", "x", "name@v1"]
    assert labels(["runs/copy-last"]) == ["copy-last-2"]
    with pytest.raises(UserError, match="x: is the name of two rows"):
        labels(["x=runs/a", "x=runs/b"])


# ------------------------------------------------------------------------------------------------------------- files


def test_folder_holds_page_json_and_csv(tmp_path):
    found, kept = compare([tiny_run(), shift_run("slow")], store(), horizon=8, clips=3, out=tmp_path / "out")
    page = write_comparison(tmp_path / "out", found, kept)
    assert sorted(p.name for p in page.parent.iterdir()) == ["comparison.csv", "comparison.html", "comparison.json"]
    result = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert result["protocol"]["clips"] == 3
    assert result["rows"]["tiny"]["training_steps"] == 2
    assert result["rows"]["tiny"]["parameters"] == sum(p.numel() for p in open_run(tiny_run()).model().parameters())
    assert result["costs"]["tiny"]["frames_per_second"] > 0
    assert result["costs"]["tiny"]["memory_mb"] >= 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "comparison.csv").read_text())))
    one = next(r for r in rows if (r["predictor"], r["metric"], r["frame"]) == ("slow", "psnr", "8"))
    assert float(one["mean"]) == pytest.approx(result["predictors"]["slow"]["psnr"]["mean"][7])
    assert {r["frame"] for r in rows if r["predictor"] == "slow"} == {"mean", "4", "8"}
    text = page.read_text()
    assert "Paired differences of all rows" in text
    assert not any(c.role == "between" for c in kept)
    assert str(work()) not in text + json.dumps(result)


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"horizon": 30}, "the test split's longest video has 24 frames, too few for 4 of context"),
        ({"split": "tset"}, "--split 'tset' is not known; use train, val, test or all"),
        ({"split": "all"}, "was trained on these data; use other data, or --split test"),
        ({"context": 2}, "the rows need up to 4 frames; use at least that many"),
        ({"rank_by": "pnsr"}, "--rank-by 'pnsr' is not measured here; did you mean 'psnr'?"),
        ({"clips": 0}, "must be at least 1"),
        ({"part": "3/2"}, "--part '3/2': expected for example 1/2"),
        ({"device": "cud"}, "device 'cud' is not known"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        compare([tiny_run()], store(), **{"horizon": 3, "clips": 2, **settings})


def test_rows_without_a_common_horizon_size_or_channels_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"share no frame of a horizon of 3: their strides are 4; use --horizon 4"):
        compare([shift_run("slow")], store(), horizon=3)
    write_store(tmp_path / "grey", side=32)
    with pytest.raises(UserError, match=r"frames have 1 channels but .* was trained on 3"):
        compare([tiny_run()], tmp_path / "grey", horizon=2)
    with pytest.raises(UserError, match="at least one run"):
        compare([], store())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; --out must be a folder"):
        compare([tiny_run()], store(), out=tmp_path / "file")
    runs = [tiny_run(), copy_run()]
    for name, size in zip(("small", "large"), ("16", "32"), strict=True):
        run = open_run(runs.pop())
        data = dataclasses.replace(run.config.data, trained_size=size)
        runs.insert(0, dataclasses.replace(run, config=dataclasses.replace(run.config, data=data), name=name))
    with pytest.raises(UserError, match="trained at sizes 16 and 32; choose the compared frames with --size"):
        compare(runs, store(), horizon=2)


def test_windows_of_runs_from_elsewhere_count_only_where_the_videos_are_long_enough(tmp_path):
    source = write_store(tmp_path / "data", videos=1, frames=120)

    def row(window, here):
        card = {"trained_on_these_data": here}
        return ComparisonRow(name="", stride=1, reach=1, window=window, enter=None, card=card)

    assert split_windows(source, [row(12, True), row(20, False), row(None, None)], "test") == [12, 20]
    assert split_windows(source, [row(12, True), row(74, False)], "test") == [12]
    assert split_windows(source, [row(74, False)], "test") == []
    assert split_windows(source, [row(74, True), row(74, False)], "test") == [74]
    assert split_windows(source, [row(74, False), row(12, True)], "all") == [74, 12]


def test_a_run_of_long_clips_from_elsewhere_is_compared_on_a_short_video(tmp_path):
    data = write_store(tmp_path / "data", videos=1, frames=100, side=32, channels=3).folder
    found, _ = compare(["direct-any"], data, horizon=2, clips=2)
    assert "direct-any" in [row["name"] for row in found.ranking()]


def test_parts_are_disjoint(tmp_path):
    source = write_store(tmp_path / "many", videos=40)
    segments = source.splits(3)["test"]
    one, two = (take_part(source, segments, f"{i}/2") for i in (1, 2))
    assert {s.video for s in one} | {s.video for s in two} == {s.video for s in segments}
    assert not {s.video for s in one} & {s.video for s in two}
    single = source.splits(3)["test"][:1]
    (first,), (second,) = (take_part(source, single, f"{i}/2") for i in (1, 2))
    assert (first.start, second.stop) == (single[0].start, single[0].stop)
    assert first.stop == second.start


def test_split_all_uses_every_video(tmp_path):
    write_store(tmp_path / "new", videos=4, channels=3, side=32, seed=9)
    found, _ = compare([tiny_run()], tmp_path / "new", split="all", horizon=4, clips=8, show=0)
    assert found.protocol.videos == 4
    assert "over 4 videos" in found.protocol.metrics["interval"]
    assert found.rows["tiny"]["trained_on_these_data"] is False
