"""The headline: computed from the whole horizon, and equal to the numbers beside it."""

from dataclasses import replace

import pytest
from evaluation.test_scorer import batches, predictors_of, protocol, roll

from framecast.evaluation.headline import OLD, best_baselines, describe, guards, headline_sentence
from framecast.evaluation.scorer import score
from framecast.metrics.averages import Series
from framecast.metrics.clips import MetricSettings
from framecast.metrics.scores import BASELINES, Scores
from framecast.metrics.summary import Summary


def curve(values) -> Series:
    return Series(tuple(values), tuple(v - 0.1 for v in values), tuple(v + 0.1 for v in values), (9,) * 64, (0,) * 64)


def made(ranges=((1, 12),), useful=12, best=None, last=-59.0, **changes) -> Scores:
    """Scores of 64 frames: skilful as given, with a skill at the last frame."""
    best = [0.5] * 12 + [-1.0] * 52 if best is None else best
    found = {"mean": -3.25, "low": -4.0, "high": -2.5, "n": 9}
    summary = Summary(
        skill=found, skill_best=found, frames=tuple(range(1, 65)), ranges=ranges, useful_horizon=useful, **changes
    )
    settings = MetricSettings(names=("psnr",)).describe()
    row = {"skill": curve([0.5] * 63 + [last]), "skill_best": curve(best), "psnr": curve([20.0] * 64)}
    return Scores(
        protocol=protocol(horizon=64, clips=9, fps=30.0, metrics=settings),
        predictors={"mine": row, "copy-last": row},
        summaries={"mine": summary},
    )


@pytest.mark.parametrize(
    ("scores", "begin"),
    [
        (
            made(),
            "Better than the best baseline for 12 frames (0.4 s), then worse; at frame 64 its squared error is 60 "
            "times that of the last frame repeated. Skill over persistence -3.250 over 64 frames (95 % interval "
            "-4.000 to -2.500); 9 held-out clips of 4 videos.",
        ),
        (
            made(((1, 64),), 64, [0.5] * 64, 0.7),
            "Better than the best baseline at all 64 frames (2.1 s); at frame 64 its "
            "squared error is 0.3 times that of the last frame repeated.",
        ),
        (made((), 0), "Worse than the best baseline from frame 1; at frame 64"),
        (made((), 0, [0.05] * 64), "Not significantly better than the best baseline from frame 1; at frame 64"),
        (
            made(((5, 9), (20, 20)), 0),
            "Worse than the best baseline from frame 1, but better at frames 5 to 9 and frame 20; at",
        ),
        (
            made(((5, 9), (20, 20), (22, 23)), 0),
            "Worse than the best baseline from frame 1, but better at 8 of these 64 frames (between 5 and 23); at",
        ),
        (
            made(((1, 1), (3, 9)), 1),
            "Better than the best baseline for 1 frame (0.033 s), then worse, but better again at frames 3 to 9; at",
        ),
    ],
)
def test_headline_is_computed_from_the_whole_horizon(scores, begin):
    assert headline_sentence(scores).startswith(begin)


def test_blur_and_instability_are_part_of_the_headline():
    text = headline_sentence(made(blurred_from=9, unstable_from=30))
    assert ", blurred from frame 9 (sharpness ratio in the moving area below 0.7)" in text
    assert ", unstable from frame 30 (statistics outside those of the training data)" in text
    assert "blurred" not in headline_sentence(made())


def test_headline_agrees_with_the_scores_it_is_made_from():
    scores, _ = score(predictors_of(), batches(), protocol(), roll=roll)
    text, last = headline_sentence(scores), scores.predictors["mine"]["skill"].mean[-1]
    assert f"at frame 3 its squared error is {1 - last:.2g} times" in text
    assert f"Skill over persistence {scores.summaries['mine'].skill['mean']:.3f} over 3 frames" in text
    assert "; 7 held-out clips of 4 videos." in text


def test_cases_without_a_skill_have_a_sentence():
    still, _ = score(predictors_of(), batches(still=True), protocol(), roll=roll)
    assert headline_sentence(still).startswith("Skill is undefined: nothing moves")
    alone, _ = score({k: v for k, v in predictors_of().items() if k in BASELINES}, batches(), protocol(), roll=roll)
    assert headline_sentence(alone).startswith("Only baselines were scored")
    single, _ = score(predictors_of(), batches(n=1), protocol(split="train", videos=1), roll=roll)
    assert "1 clip of 1 video it was trained on" in headline_sentence(single)
    assert "interval" not in headline_sentence(single)
    assert "no interval: one clip" in describe(single)
    assert headline_sentence(replace(single, summaries={})) == OLD


def test_describe_begins_with_the_headline_and_lists_skill_first():
    scores, _ = score(predictors_of(), batches(), protocol(), roll=roll, missing={"linear-flow": "not installed"})
    text = describe(scores)
    lines = text.splitlines()
    assert lines[0] == headline_sentence(scores)
    assert lines[2] == "Skill over persistence, higher is better"
    assert lines[3].split() == ["frame", "all", "1", "2"]
    mine = scores.predictors["mine"]["skill"].mean
    assert lines[4].split() == [
        "mine",
        f"{scores.summaries['mine'].skill['mean']:.3f}",
        *(f"{v:.3f}" for v in mine[:2]),
    ]
    assert lines[7].split() == ["linear-flow", "not", "installed"]
    assert "7 clips of 4 videos" in lines[-1]
    assert "\x1b" not in text
    assert "false motion" in guards(scores, "mine")


def test_best_baselines_are_named_by_range():
    names = ["linear-flow"] * 3 + ["temporal-mean"] + ["copy-last"] * 60
    assert best_baselines(names) == (
        "Best baseline: linear-flow at frames 1 to 3, temporal-mean at frame 4, copy-last at frames 5 to 64."
    )
    assert best_baselines(()) == ""
