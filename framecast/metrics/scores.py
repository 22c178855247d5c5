"""Scores with their protocol: the contents of scores.json.

Scores cannot be created or written without a protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from framecast.core.errors import UserError
from framecast.core.io import file_text, json_lines, parse_json, write_text
from framecast.core.types import FORMAT
from framecast.metrics.averages import Series
from framecast.metrics.clips import POOLED, MetricSettings
from framecast.metrics.summary import Summary

#: Baselines; every table has the first two, and the third where it can be computed. All rows are compared with the
#: first.
BASELINES = ("copy-last", "temporal-mean", "linear-flow")
REQUIRED = BASELINES[:2]
#: Frames of the horizon with headline scores, up to the horizon.
HEADLINE_FRAMES = (1, 2, 4, 8, 16, 32, 64)


# ------------------------------------------------------------------------------------------------------- protocol


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Conditions of a measurement. Two scores are comparable only if these agree.

    Attributes:
        data: Name of the data.
        data_digest: Digest of its names, lengths, origin and content.
        split: train, val, test or all.
        split_rule: Division of the videos, in words.
        clips: Number of scored clips.
        videos: Number of videos that the clips are from.
        context: Context frames.
        horizon: Predicted frames.
        stride: Source frames per frame.
        samples: Futures drawn per clip by a stochastic model.
        height: Of the compared frames, px.
        width: Of the compared frames, px.
        channels: Of the compared frames.
        fps: Frames per second.
        metrics: MetricSettings.describe().
        seed: Random seed for clip selection and sampling.
        code_version: Version of framecast.
        device: Device of the predictions.
        precision: Autocast precision of the predictions.
        value_range: Of the values of the frames.
        baselines: The set that "best baseline" is chosen from.
    """

    data: str
    data_digest: str
    split: str
    split_rule: str
    clips: int
    videos: int
    context: int
    horizon: int
    stride: int
    samples: int
    height: int
    width: int
    channels: int
    fps: float
    metrics: Mapping[str, Any]
    seed: int
    code_version: str
    device: str
    precision: str
    value_range: tuple[float, float] = (0.0, 1.0)
    baselines: tuple[str, ...] = REQUIRED

    def __post_init__(self) -> None:
        for name in ("data", "data_digest", "split", "split_rule", "code_version", "device", "precision"):
            if not isinstance(getattr(self, name), str):
                raise UserError(f"protocol.{name} must be text, got {getattr(self, name)!r}")
        for name in ("horizon", "context", "stride", "samples", "height", "width", "channels"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"protocol.{name} must be a whole number of at least 1, got {value!r}")
        if self.clips < 0 or self.videos < 0 or not self.fps > 0:
            raise UserError("protocol.clips and .videos must not be negative and .fps must be above 0")
        _ = self.settings  # raises for unknown metrics

    @property
    def settings(self) -> MetricSettings:
        """The metric settings to measure with."""
        try:
            return MetricSettings.from_description(self.metrics)
        except (KeyError, TypeError) as error:
            raise UserError(f"protocol.metrics must come from MetricSettings.describe(); {error} is missing") from error

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        lists = {"value_range": list(self.value_range), "baselines": list(self.baselines)}
        return {**asdict(self), **lists, "metrics": dict(self.metrics)}

    @classmethod
    def from_json(cls, data: Any) -> Protocol:
        """The inverse of `to_json`.

        Raises:
            UserError: For a missing or unknown key.
        """
        if not isinstance(data, Mapping):
            raise UserError('scores without a protocol cannot be read or written: expected a mapping "protocol"')
        names = {f.name for f in fields(cls)}
        data = {"baselines": REQUIRED, **data}  # files of before the third baseline
        for problem, which in (("lacks", names - set(data)), ("has unknown", set(data) - names)):
            if which:
                raise UserError(
                    f"the protocol {problem} {', '.join(sorted(which))}; write scores with framecast evaluate"
                )
        return cls(**{**data, **{key: tuple(data[key]) for key in ("value_range", "baselines")}})


def require_equal_baselines(protocols: Mapping[str, Protocol]) -> None:
    """Check that results were scored against one set of baselines, so that their skills can be compared.

    Args:
        protocols: Name of each result -> its protocol.

    Raises:
        UserError: For different sets.
    """
    sets = {name: tuple(sorted(p.baselines)) for name, p in protocols.items()}
    if len(set(sets.values())) > 1:
        (first, one), *others = sets.items()
        other, two = next((name, found) for name, found in others if found != one)
        raise UserError(
            f"{first} was scored against the baselines {', '.join(one)} and {other} against {', '.join(two)}: their "
            "skills over the best baseline cannot be compared; score both again with the same baselines installed "
            "(pip install 'framecast[flow]')"
        )


# --------------------------------------------------------------------------------------------------------- scores

Table = Mapping[str, Mapping[str, Series]]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of several predictors under one protocol.

    Attributes:
        predictors: Predictor -> metric -> curve over the horizon; with K samples of each clip's best sample.
        versus: Predictor -> metric -> curve of the paired differences to copy-last.
        samples: Predictor -> metric -> {"mean", "worst"} over the K samples, only where K > 1.
        diversity: Predictor -> mean root-mean-square difference between samples, likewise.
        summaries: Predictor -> its results over the horizon; empty in files of before skill was the headline.
        best_baseline: Name of the best baseline at every frame.
        missing: Baselines that the table lacks -> the reason.
        objects: Object presence and position, `ObjectFinder.to_json`, where the data say what to find.
        motions: How samples were drawn -> `displacement.Displacements.summary` of the evaluated model, where the data
            provide their scenes.
        intervals: Coverage of the evaluated model's intervals, `IntervalCoverage.to_json`, where it has some.
    """

    protocol: Protocol
    predictors: Table
    versus: Table = field(default_factory=dict)
    samples: Mapping[str, Mapping[str, Mapping[str, Series]]] = field(default_factory=dict)
    diversity: Mapping[str, Series] = field(default_factory=dict)
    summaries: Mapping[str, Summary] = field(default_factory=dict)
    best_baseline: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    objects: Mapping[str, Any] = field(default_factory=dict)
    motions: Mapping[str, Any] = field(default_factory=dict)
    intervals: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.protocol, Protocol):
            raise UserError(f"scores need a Protocol of their conditions, got {self.protocol!r}")
        if not self.predictors:
            raise UserError("scores need at least one predictor")
        for name, metrics in self.predictors.items():
            for metric, series in metrics.items():
                if len(series.mean) != self.protocol.horizon:
                    raise UserError(
                        f"{name}, {metric}: {len(series.mean)} frames scored but the horizon is {self.protocol.horizon}"
                    )

    @property
    def main(self) -> str:
        """The evaluated predictor: the first that is not a baseline, else the first."""
        return next((name for name in self.predictors if name not in BASELINES), next(iter(self.predictors)))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of the tables, skill first where it was computed."""
        pooled = [m for m in POOLED if any(m in row for row in self.predictors.values())]
        return (*pooled, *self.protocol.settings.names)

    @property
    def headline_frames(self) -> list[int]:
        """1, 2, 4, … 64 up to the horizon; counted from 1."""
        return [k for k in HEADLINE_FRAMES if k <= self.protocol.horizon]

    def headline(self, metric: str) -> dict[str, dict[int, float | None]]:
        """predictor -> {frame: mean} of one metric at the headline frames."""
        return {
            name: {k: metrics[metric].mean[k - 1] for k in self.headline_frames}
            for name, metrics in self.predictors.items()
            if metric in metrics
        }

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, with the headline scores."""

        def table(rows: Table) -> dict[str, Any]:
            return {name: {m: series.to_json() for m, series in row.items()} for name, row in rows.items()}

        return {
            "format": FORMAT,
            "protocol": self.protocol.to_json(),
            "headline": {m: self.headline(m) for m in self.metrics},
            "summaries": {name: summary.to_json() for name, summary in self.summaries.items()},
            "best_baseline": list(self.best_baseline),
            "missing_baselines": dict(self.missing),
            "predictors": table(self.predictors),
            "versus_copy_last": table(self.versus),
            "samples": {name: table(row) for name, row in self.samples.items()},
            "diversity": {name: series.to_json() for name, series in self.diversity.items()},
            **({"objects": dict(self.objects)} if self.objects else {}),
            **({"motions": dict(self.motions)} if self.motions else {}),
            **({"intervals": dict(self.intervals)} if self.intervals else {}),
        }

    @classmethod
    def from_json(cls, data: Any) -> Scores:
        """The inverse of `to_json`.

        Raises:
            UserError: For another format, a missing protocol or invalid scores.
        """
        if not isinstance(data, Mapping):
            raise UserError("scores must be a JSON object with format, protocol and predictors")
        if (version := data.get("format")) != FORMAT:
            newer = isinstance(version, int) and version > FORMAT
            raise UserError(
                f"these scores have format {version!r} but this framecast reads {FORMAT}; "
                + ("install a newer framecast" if newer else "write them again with framecast evaluate")
            )
        protocol = Protocol.from_json(data.get("protocol"))

        def table(rows: Any) -> dict[str, dict[str, Series]]:
            if not isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows.values()):
                raise UserError(
                    "scores must hold one table of metrics per predictor; write them with framecast evaluate"
                )
            return {name: {m: Series.from_json(series) for m, series in row.items()} for name, row in rows.items()}

        return cls(
            protocol=protocol,
            predictors=table(data.get("predictors")),
            versus=table(data.get("versus_copy_last", {})),
            samples={name: table(row) for name, row in data.get("samples", {}).items()},
            diversity={name: Series.from_json(series) for name, series in data.get("diversity", {}).items()},
            summaries={name: Summary.from_json(row) for name, row in data.get("summaries", {}).items()},
            best_baseline=tuple(data.get("best_baseline", ())),
            missing=data.get("missing_baselines", {}),
            objects=data.get("objects") or {},
            motions=data.get("motions", {}),
            intervals=data.get("intervals") or {},
        )

    def save(self, path: str | Path, digits: int | None = None) -> Path:
        """Write as JSON, one curve per line, atomically: an older file stays until the new one is complete.

        Args:
            digits: Significant digits, for files that are shared; None is exact.
        """
        return write_text(Path(path), json_lines(self.to_json(), digits))

    @classmethod
    def load(cls, path: str | Path) -> Scores:
        """Read what `save` wrote.

        Raises:
            UserError: For a missing or invalid file.
        """
        try:
            data = parse_json(file_text(Path(path)), path)
        except UserError as error:
            if not Path(path).exists():
                raise UserError(f"{path}: no such scores; write them with framecast evaluate") from error
            raise UserError(f"{path} is not JSON; write the scores again with framecast evaluate") from error
        try:
            return cls.from_json(data)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except (AttributeError, TypeError, ValueError, LookupError, OverflowError) as error:
            reason = f"{type(error).__name__}: {str(error)[:80]}"
            raise UserError(f"{path}: is damaged ({reason}); write the scores again with framecast evaluate") from error
