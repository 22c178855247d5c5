"""Scores in words: the sentence that reports begin with, computed from the whole horizon, and the plain text table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from framecast.metrics.averages import Series
from framecast.metrics.clips import METRICS, POOLED
from framecast.metrics.scores import BASELINES, Protocol, Scores
from framecast.metrics.skill import UNDEFINED, interval_rule
from framecast.metrics.summary import BLURRED, Interval, Summary

#: Shown instead of the sentence for files of before skill was the headline.
OLD = "These scores were made under an older headline, PSNR in the moving area; run framecast evaluate again for skill."


#: Ranges of frames that the sentence lists one by one; of more, the number of frames they hold.
MOST_RANGES = 2


def headline_sentence(scores: Scores) -> str:
    """The result over the whole horizon: useful horizon, error at the last frame, skill, blur, instability."""
    over = clips_in_words(scores.protocol)
    if scores.main in BASELINES:
        return f"Only baselines were scored, over {over}; there is no model to compare with."
    summary = scores.summaries.get(scores.main)
    return OLD if summary is None else f"{row_sentence(scores, scores.main)}; {over}."


def row_sentence(scores: Scores, name: str) -> str:
    """The result of one row over the whole horizon, without a full stop.

    Args:
        scores: With a summary of the row.
        name: Of the row.
    """
    summary, last = scores.summaries[name], scores.summaries[name].frames[-1]
    if summary.skill["mean"] is None:
        return f"Skill is {UNDEFINED}, and the last frame repeated has no error"
    parts = [_against_best(scores, name, summary)]
    skill = scores.predictors[name]["skill"].mean[last - 1]
    if skill is not None:
        parts.append(f"at frame {last} its squared error is {_times(1 - skill)} that of the last frame repeated")
    text = "; ".join(parts)
    text += f". Skill over persistence {figure(summary.skill['mean'], 'skill')} over {_frames(len(summary.frames))}"
    text += _interval(summary.skill)
    if summary.blurred_from is not None:
        text += f", blurred from frame {summary.blurred_from} (sharpness ratio in the moving area below {BLURRED:g})"
    if summary.unstable_from is not None:
        text += f", unstable from frame {summary.unstable_from} (statistics outside those of the training data)"
    return text


def _against_best(scores: Scores, name: str, summary: Summary) -> str:
    """Skilful ranges against the best baseline, and what follows them."""
    frames, fps = summary.frames, scores.protocol.fps
    curve = scores.predictors[name]["skill_best"]
    useful, seconds = summary.useful_horizon, f"({summary.useful_horizon / fps:.2g} s)"
    later = [(a, b) for a, b in summary.ranges if a > useful]
    if useful == frames[-1]:
        return f"Better than the best baseline at all {_frames(len(frames))} {seconds}"
    after = [k for k in frames if k > useful]
    tail = _tail(curve, after)
    if useful:
        text = f"Better than the best baseline for {_frames(useful)} {seconds}, then {tail}"
    else:
        text = f"{tail.capitalize()} than the best baseline from frame {frames[0]}"
    again = "better again" if useful else "better"
    return text + (f", but {again} at {_in_words(later, len(after))}" if later else "")


def _in_words(ranges: Sequence[tuple[int, int]], of: int) -> str:
    """Ranges of frames: one by one where they are few, their number and ends where they are many."""
    if len(ranges) <= MOST_RANGES:
        return " and ".join(_range(first, last) for first, last in ranges)
    count = sum(last - first + 1 for first, last in ranges)
    return f"{count} of these {of} frames (between {ranges[0][0]} and {ranges[-1][1]})"


def _range(first: int, last: int) -> str:
    return f"frame {first}" if first == last else f"frames {first} to {last}"


def best_baselines(names: Sequence[str]) -> str:
    """Which baseline is the best at which frames, in a sentence; empty for older scores.

    Args:
        names: The best one at every frame.
    """
    parts, first = [], 1
    for name, frames in itertools.groupby(names):
        last = first + len(list(frames)) - 1
        parts.append(f"{name} at {_range(first, last)}")
        first = last + 1
    return f"Best baseline: {', '.join(parts)}." if parts else ""


def _tail(curve: Series, frames: list[int]) -> str:
    """Comparison with the best baseline over frames without skill: worse if most of them are significantly worse."""
    highs = [curve.mean[k - 1] if curve.high[k - 1] is None else curve.high[k - 1] for k in frames]
    worse = sum(high is not None and high < 0 for high in highs)
    return "worse" if 2 * worse > len(frames) else "not significantly better"


def _times(ratio: float) -> str:
    """A ratio of squared errors in words, two significant digits."""
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.2g} times"


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"


def _interval(found: Interval) -> str:
    if found["low"] is None or found["high"] is None:
        return ""
    return f" (95 % interval {figure(found['low'], 'skill')} to {figure(found['high'], 'skill')})"


def clips_in_words(protocol: Protocol) -> str:
    """Number and kind of the scored clips: "32 held-out clips of 8 videos"."""
    before = {"test": "held-out ", "val": "validation "}.get(protocol.split, "")
    after = {"all": " outside its training data", "train": " it was trained on"}.get(protocol.split, "")
    if "/" in protocol.split:
        after = f" of the {protocol.split} split"
    clips = "clip" if protocol.clips == 1 else "clips"
    videos = "1 video" if protocol.videos == 1 else f"{protocol.videos} videos"
    return f"{protocol.clips} {before}{clips} of {videos}{after}"


def guards(scores: Scores, name: str) -> str:
    """What squared error does not show, in one line: false motion, sharpness, probabilistic scores."""
    summary = scores.summaries[name]
    parts = []
    if summary.false_motion is not None:
        parts.append(
            f"false motion {summary.false_motion:.0%} of the squared error, mean absolute error of it "
            f"{summary.false_motion_mae:.4f}"
        )
    known = [(k, v) for k, v in zip(summary.frames, summary.sharpness_by_frame, strict=True) if v is not None]
    if known:
        at = list(dict.fromkeys((known[0], known[-1])))
        ratios = ", ".join(f"{value:.2f} at frame {frame}" for frame, value in at)
        parts.append(f"sharpness ratio in the moving area {ratios}")
    if summary.samples:
        crps, last = Series.from_json(summary.samples["crps"]).mean[-1], summary.samples["spread_skill"][-1]
        parts.append(
            f"CRPS {figure(crps, 'mae')}, spread-skill ratio {'–' if last is None else f'{last:.2f}'} at frame "
            f"{summary.frames[-1]}"
        )
    return "; ".join(parts)


def coverage_sentence(scores: Scores) -> str:
    """Calibration of the evaluated model's intervals in a sentence; empty without intervals."""
    if not scores.intervals:
        return ""
    means = {name: found["mean"] for name, found in scores.intervals["mean"].items()}
    moving = "–" if means["moving"] is None else f"{means['moving']:.0%}"
    return (
        f"{scores.main}: the intervals for {scores.intervals['nominal']:.0%} of the true values hold {moving} in the "
        f"moving area and {means['frame']:.0%} in the whole frame."
    )


def describe(scores: Scores) -> str:
    """The headline sentence, the scores as a plain text table with skill first, and the protocol in one line."""
    p, frames = scores.protocol, scores.headline_frames
    videos = "1 video" if p.videos == 1 else f"{p.videos} videos"
    width = max(len(name) for name in (*scores.predictors, *scores.missing))
    lines = [headline_sentence(scores), ""]
    for metric in scores.metrics:
        about = METRICS[metric]
        if metric.endswith(("mse", "mae")):  # equivalent to PSNR; in the file
            continue
        better = {"higher": "higher is better", "lower": "lower is better", "one": "1 is best"}.get(about.better)
        if better is None:  # meaningless alone; in the file
            continue
        unit = f" [{about.unit}]" if about.unit else ""
        whole = metric in POOLED and bool(scores.summaries)
        lines.append(f"{about.label}{unit}, {better}")
        head = f"{'all':>10}" if whole else ""
        lines.append(f"  {'frame':<{width}}{head}" + "".join(f"{k:>10}" for k in frames))
        for name, row in scores.headline(metric).items():
            cells = [figure(row[k], metric) for k in frames]
            if whole:
                cells = [figure(getattr(scores.summaries[name], metric)["mean"], metric), *cells]
            lines.append(f"  {name:<{width}}" + "".join(f"{cell:>10}" for cell in cells))
        lines += [f"  {name:<{width}}  {reason}" for name, reason in scores.missing.items()]
        lines.append("")
    lines += [f"{name}: {text}" for name in scores.summaries if (text := guards(scores, name))]
    lines += [coverage] if (coverage := coverage_sentence(scores)) else []
    best = f", {p.samples} samples" if scores.samples else ""
    lines.append(
        f"{p.data}, {p.split} split: {p.clips} clips of {videos}, "
        f"{p.context} context frames, horizon {p.horizon}, stride {p.stride}, {p.height}x{p.width}x{p.channels}{best}, "
        f"seed {p.seed}; baselines {', '.join(p.baselines)}; {interval_rule(p.clips, p.videos)}"
    )
    return "\n".join(lines)


def figure(value: float | None, metric: str) -> str:
    """A number with the decimal places of its metric; a dash for None."""
    return "–" if value is None else f"{value:.{METRICS[metric].digits}f}"
