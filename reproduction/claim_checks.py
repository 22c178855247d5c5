"""Checks of claims by the figures in result files: whether a claim holds, by which rule, and by which figures."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecast.metrics.averages import t_quantile

#: Whether it holds, and the figures that say so.
Finding = tuple[bool, str]
#: Result files by name without ending: their "results", or the whole of a benchmark's table.
Results = dict[str, Any]
Check = Callable[[Results], Finding]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One testable statement. name: short, unique.  statement: in our words.  source: where it is made.  run: the
    command that tests it.  check: of the results; a KeyError means that a part was not run.  why_not: why it cannot be
    tested here, in place of a check."""

    name: str
    statement: str
    source: str
    run: str = ""
    check: Check | None = None
    why_not: str = ""

    def judged(self, results: Results) -> dict[str, str]:
        """Plain values: name, statement, source, run, rule, status and what was found."""
        about = {"name": self.name, "statement": self.statement, "source": self.source, "run": self.run}
        about["rule"] = "" if self.check is None else rule_of(self.check)
        if self.check is None:
            return {**about, "status": "not testable here", "found": self.why_not}
        try:
            holds, found = self.check(results)
        except KeyError:
            return {**about, "status": "not yet run", "found": ""}
        return {**about, "status": "confirmed" if holds else "not seen", "found": found}


def rule(text: str) -> Callable[[Check], Check]:
    """Decorator of a check: the rule it applies, which stands beside its result."""

    def mark(check: Check) -> Check:
        check.rule = text  # type: ignore[attr-defined]
        return check

    return mark


def ruled(text: str) -> Callable[[Callable[..., Check]], Callable[..., Check]]:
    """Decorator of a function that makes checks; {names} in the text are its arguments."""

    def mark(factory: Callable[..., Check]) -> Callable[..., Check]:
        @functools.wraps(factory)
        def made(*args: Any, **named: Any) -> Check:
            given = inspect.signature(factory).bind(*args, **named)
            given.apply_defaults()
            return rule(text.format(**given.arguments))(factory(*args, **named))

        return made

    return mark


def rule_of(check: Check) -> str:
    """The rule of a check."""
    return str(check.rule)  # type: ignore[attr-defined]


def over_seeds(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Mean of a - b, seed by seed, and the half-width of its 95 % interval (Student's t)."""
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(gaps) / len(gaps)
    if len(gaps) < 2:
        return mean, math.inf
    sd = math.sqrt(sum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1))
    return mean, t_quantile(len(gaps) - 1) * sd / math.sqrt(len(gaps))


def over_seeds_and_episodes(a: Any, b: Any, draws: int = 4000) -> tuple[float, float, float]:
    """Mean of a - b over (seeds, episodes), with its 95 % interval from drawing both with replacement.

    Episodes are the same for all seeds; None is left out.
    """
    gap, generator = np.asarray(a, dtype=float) - np.asarray(b, dtype=float), np.random.default_rng(0)
    seeds, episodes = gap.shape
    rows, columns = (generator.integers(n, size=(draws, n)) for n in (seeds, episodes))
    drawn = gap[rows[:, :, None], columns[:, None, :]].reshape(draws, -1)
    means = np.nanmean(drawn[np.isfinite(drawn).any(1)], 1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.nanmean(gap)), float(low), float(high)


def _sprites(results: Results) -> list[dict[str, Any]]:
    """The results of every seed."""
    found = [part for name, part in results["stability"].items() if name.startswith("sprites-")]
    if not found:
        raise KeyError("sprites")
    return found


@ruled("at least {share:g} of the clips at frame 32 and {late:g} at frame 64, from every seed, and some of them moved")
def sprites_kept(row: str, share: float, late: float) -> Check:
    """That her or any ghost is present in the forecasts of a network, and moves: the last frame repeated has them."""

    def check(results: Results) -> Finding:
        parts = _sprites(results)
        seeds = [part["rows"][row] for part in parts]
        there, moved = ([(seed[key][31], seed[key][63]) for seed in seeds] for key in ("any", "moving"))
        holds = all(at >= share and end >= late for at, end in there) and all(min(pair) > 0 for pair in moved)
        shown = ", ".join(f"{at:.2f} and {end:.2f}" for at, end in there)
        steps = ", ".join(f"{at:.2f} and {end:.2f}" for at, end in moved)
        films = ", ".join(f"[{k}](results/{part['film']})" for k, part in enumerate(parts))
        shown += f"; moved since four frames before: {steps}; films: {films}"
        return holds, f"her or any ghost at frames 32 and 64, {row}: {shown}"

    return check


@ruled("adversarial − plain above 0 in presence or sharpness at frame 64, 95 % interval over seeds and episodes")
def sprites_gap(*figures: str) -> Check:
    """That the adversarial network is above the plain one in one of these figures at frame 64."""

    def check(results: Results) -> Finding:
        parts, holds, shown = _sprites(results), False, []
        for key in figures:
            a, b = ([part["by_episode"][row][key]["64"] for part in parts] for row in ("adversarial", "plain"))
            mean, low, high = over_seeds_and_episodes(a, b)
            holds |= low > 0
            shown.append(f"{key} {mean:+.2f} ({low:+.2f} to {high:+.2f})")
        return holds, f"adversarial − plain at frame 64: {', '.join(shown)}"

    return check


@ruled("{a} − {b} above 0, 95 % interval over seeds")
def loss_gap(a: str, b: str, figure: str, unit: str = " dB") -> Check:
    """That loss `a` is above loss `b` in one figure of the runs of multi-scale prediction."""

    def check(results: Results) -> Finding:
        table = results["multiscale-gan"]["claims"]["table"]
        mean, half = over_seeds(table[a][figure]["runs"], table[b][figure]["runs"])
        return mean > half, f"{a} − {b}, {figure}: {mean:+.3f} ± {half:.3f}{unit}"

    return check


@ruled("95 % interval of {a} − {b} over seeds contains 0")
def no_gap(a: str, b: str, figure: str) -> Check:
    """That two losses are not distinguished in one figure."""

    def check(results: Results) -> Finding:
        table = results["multiscale-gan"]["claims"]["table"]
        mean, half = over_seeds(table[a][figure]["runs"], table[b][figure]["runs"])
        return abs(mean) <= half, f"{a} − {b}, {figure}: {mean:+.3f} ± {half:.3f} dB"

    return check


def both(*checks: Check) -> Check:
    """That all hold."""

    def check(results: Results) -> Finding:
        found = [c(results) for c in checks]
        return all(ok for ok, _ in found), "; ".join(text for _, text in found)

    return rule("; ".join(dict.fromkeys(map(rule_of, checks))))(check)


@ruled("{low:g} to {high:g}")
def within(path: str, low: float, high: float, what: str, form: str = ".2f") -> Check:
    """That a figure lies in low…high. path: file/part/…; a number addresses a list.

    Raises: ValueError for a rule that is open on one side, which figures of a fault would meet too.
    """
    _bounded(low, high, what)

    def check(results: Results) -> Finding:
        value = at(results, path)
        if value is None:
            return False, f"{what}: nothing could be measured"
        return low <= value <= high, f"{what}: {value:{form}}"

    return check


@ruled("first above second by more than {margin:g}")
def above(a: str, b: str, what: str, form: str = ".3g", margin: float = 0.0) -> Check:
    """That one figure exceeds another by more than `margin`."""

    def check(results: Results) -> Finding:
        x, y = at(results, a), at(results, b)
        if x is None or y is None:
            return False, f"{what}: nothing could be measured"
        return x - y > margin, f"{what}: {x:{form}} and {y:{form}}"

    return check


def at(results: Results, path: str) -> Any:
    """A figure by its path; KeyError where it is not there."""
    value: Any = results
    steps = path.split("/")
    for i, step in enumerate(steps):
        if isinstance(value, dict) and (rest := "/".join(steps[i:])) in value:  # such as val/l2
            return value[rest]
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (IndexError, TypeError) as error:
            raise KeyError(path) from error
    return value


@ruled("every pair as claimed, 95 % interval apart from 0")
def pairs(metric: str, claim: str) -> Check:
    """That every pair of a claim about the fourteen differs in the claimed direction, intervals apart from 0."""

    def check(results: Results) -> Finding:
        rows = results["generative-autoencoders"]["small-all"]["claims"][metric][claim]
        sure = [r for r in rows if r["low"] is not None and r["low"] > 0]
        against = [r for r in rows if r["high"] is not None and r["high"] < 0]
        text = f"{metric}: {len(sure)} of {len(rows)} pairs as claimed, {len(against)} the other way"
        return bool(rows) and len(sure) == len(rows), f"{text}, the rest not distinguished"

    return check


@rule("the last two of the ranking are these")
def worst_two(results: Results) -> Finding:
    """That FC-AE and FC-VAE come last of the fourteen."""
    ranked = [r["name"] for r in results["generative-autoencoders"]["small-all"]["ranking"] if r["name"].endswith("ae")]
    return set(ranked[-2:]) == {"fc-ae", "fc-vae"}, f"the last two are {ranked[-2]} and {ranked[-1]}"


@rule("all fourteen above the temporal mean")
def all_above_mean(results: Results) -> Finding:
    """That each of the fourteen is above the temporal mean in PSNR five frames ahead."""
    table = results["generative-autoencoders"]["small-all"]["table"]
    ours = [n for n in table if n.endswith("ae")]
    least = table["temporal-mean"]["psnr"]["5"][0]
    good = [n for n in ours if table[n]["psnr"]["5"][0] > least]
    return len(good) == len(ours), f"{len(good)} of {len(ours)} (temporal mean {least:.2f} dB)"


@rule("95 % interval above 0 dB")
def gain_on_game(results: Results) -> Finding:
    """That the network beats persistence (copy-last) in the moving area."""
    gain = results["multiscale-gan"]["ms_pacman"]["scores"]["versus_copy_last"]["multiscale-gan"]["moving_psnr"]
    low, high = gain["low"][0], gain["high"][0]
    return low is not None and low > 0, f"{gain['mean'][0]:+.2f} dB at frame 1 ({low:+.2f} to {high:+.2f})"


def _bounded(low: float, high: float, what: str) -> None:
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{what}: a rule needs a bound on either side, got {low:g} to {high:g}")


@rule("1.6 to 2.5 times: twice, within a quarter on both sides")
def step_ratio(results: Results) -> Finding:
    """That an adversarial step takes about twice as long as a plain one: neither much more nor much less."""
    runs = results["multiscale-gan"]
    speed = {n: runs[f"claim-{n}-0"] for n in ("l1-gdl", "adversarial-gdl")}
    took = {n: r["training_seconds"] / r["steps"] for n, r in speed.items()}
    ratio = took["adversarial-gdl"] / took["l1-gdl"]
    return 1.6 <= ratio <= 2.5, f"{ratio:.2f} times as long"


@ruled("{a} − {b} above 0 on every set of data, 95 % interval")
def table_gap(file: str, a: str, b: str, metric: str) -> Check:
    """That row `a` of a benchmark's table is above row `b`, on every set of data it has."""

    def check(results: Results) -> Finding:
        text, holds = [], True
        for name, data in results[file]["data"].items():
            found = data["differences"][metric]
            gap = found[a][b] if b in found.get(a, {}) else {k: -v for k, v in found[b][a].items() if k != "seeds"}
            low, high = sorted((gap["low"], gap["high"]))
            holds &= low > 0
            text.append(f"{name}: {gap['mean']:+.2f} ({low:+.2f} to {high:+.2f})")
        return holds, f"{a} − {b}, {metric}: " + "; ".join(text)

    return check


@ruled("present at frame 127 at most 5 % less often than at 32, mask at least half a person")
def no_worse(mode: str) -> Check:
    """That people are there at frame 127 as often as at 32, and drawn again: the mask
    is open on half a person's area or
    more. Somebody of the first frame who shines through is nobody."""

    def check(results: Results) -> Finding:
        row = results["hierarchical"]["walking"]["table"][mode]
        there, drawn = row["present"], row["mask_area"]["127"]
        text = f"present at frame 32: {there['32']:.0%}, at 127: {there['127']:.0%}; drawn again: {drawn:.1f} persons"
        return there["127"] >= there["32"] - 0.05 and drawn >= 0.5, text

    return check


def significant(path: str, what: str, otherwise: bool = False) -> Check:
    """That an interval, in dB, lies above 0, or otherwise that it does not; path: to a mean with low and high."""

    def check(results: Results) -> Finding:
        mean, low, high = (at(results, f"{path}/{name}") for name in ("mean", "low", "high"))
        text = f"{what}: {mean:+.2f} dB ({low:+.2f} to {high:+.2f})"
        return (low > 0) is not otherwise, text

    return rule(f"95 % interval {'not ' if otherwise else ''}above 0 dB")(check)


@rule("spread at once below half of that with the schedule")
def collapse(results: Results) -> Finding:
    """That in the end encodings spread less when their loss has its full weight at once."""
    table = results["hierarchical"]["delay"]["table"]
    slow, fast = table["schedule"]["spread"][-1], table["at-once"]["spread"][-1]
    return fast < slow / 2, f"standard deviation of encodings: {slow:.3g} with the schedule, {fast:.3g} at once"


@ruled("mean over the frames of the first above that of the second")
def mean_psnr(a: tuple[str, str], b: tuple[str, str]) -> Check:
    """That one curve of the pushing runs lies above another on average."""

    def check(results: Results) -> Finding:
        table = results["hierarchical"]["pushing"]["table"]
        x, y = (sum(table[s][k]) / len(table[s][k]) for s, k in (a, b))
        return x > y, f"{a[0]} {a[1]}: {x:.2f} dB; {b[0]} {b[1]}: {y:.2f} dB"

    return check


@ruled("rises with every temperature")
def rising(path: str) -> Check:
    """That a figure rises with the temperature."""

    def check(results: Results) -> Finding:
        rows = at(results, path)
        values = [rows[t] for t in sorted(rows, key=float)]
        ok = all(x < y for x, y in itertools.pairwise(values))
        return ok, "spread of codes: " + ", ".join(f"{t}: {rows[t]:.2f}" for t in sorted(rows, key=float))

    return check


@ruled("{low:g} to {high:g} for every shape")
def motions(column: str, low: float, high: float, what: str) -> Check:
    """That a figure of sampled motions lies in low…high for each shape, from the prior N(0, I)."""
    _bounded(low, high, what)

    def check(results: Results) -> Finding:
        rows = results["visual-dynamics"]["shapes"]["motions"]["normal"]["shapes"]
        values = {kind: row[column] for kind, row in rows.items()}
        text = ", ".join(f"{k} {'–' if v is None else f'{v:.2f}'}" for k, v in values.items())
        return all(v is not None and low <= v <= high for v in values.values()), f"{what}, drawn from N(0, I): {text}"

    return check


@rule("divergence below that of copied flow for every shape")
def below_flow(results: Results) -> Finding:
    """That the motions' distribution is nearer to the true one than that of copied flow."""
    found = results["visual-dynamics"]
    ours, flow = found["shapes"]["motions"]["normal"]["shapes"], found["flow"]["motions"]["flow"]["shapes"]
    ok = all(ours[k]["kl"] is not None and ours[k]["kl"] < flow[k]["kl"] for k in ours)
    text = ", ".join(f"{k} {ours[k]['kl'] if ours[k]['kl'] is not None else math.nan:.2f}" for k in ours)
    return ok, f"divergence: {text}; flow: " + ", ".join(f"{k} {flow[k]['kl']:.2f}" for k in flow)


@ruled("larger for every shape")
def more_diverse(few: str, many: str) -> Check:
    """That one KL weight's samples of a picture spread more than another's, for every shape."""

    def check(results: Results) -> Finding:
        rows = results["visual-dynamics"]["ablation"]["ablation"]
        a, b = (rows[n]["motions"]["normal"]["shapes"] for n in (few, many))
        values = {k: (a[k]["within_image_sd"], b[k]["within_image_sd"]) for k in a}
        ok = all(x is not None and y is not None and y > x for x, y in values.values())
        text = ", ".join(f"{k} {x or 0.0:.2f} → {y or 0.0:.2f}" for k, (x, y) in values.items())
        return ok, f"within-image std, {few} → {many}: {text}"

    return check


@rule("above 0, below half")
def fewer_than_half(results: Results) -> Finding:
    """That some, but less than half, of a code's numbers are used."""
    dims = results["visual-dynamics"]["shapes"]["dims"]
    return 0 < dims["active"] < dims["size"] / 2, f"{dims['active']} of {dims['size']}"
