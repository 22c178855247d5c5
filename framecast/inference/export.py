"""Exporting and sharing weights: config.json, model.safetensors and a model card, without local paths.

A folder written by `export` or `save_pretrained` is opened by `from_pretrained`, `load` and every command that takes a
RUN.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framecast.core.checksums import CHECKSUMS, write_checksums
from framecast.core.commit import own_files, replaced_folder
from framecast.core.errors import UserError
from framecast.inference.load import load
from framecast.metrics.scores import BASELINES, Scores
from framecast.metrics.summary import Interval
from framecast.models import MODELS
from framecast.models.base import Predictor, count_parameters
from framecast.training.checkpoint import write_weights
from framecast.training.config import RunConfig
from framecast.training.presets import preset, profiles
from framecast.training.run_folder import Run, open_run

#: Metrics of the model card, if measured.
_SHOWN = ("skill", "skill_best", "moving_psnr", "psnr", "ssim", "sharpness_ratio")
#: Licence of packaged weights, and of those whose owner stated none.
_LICENSE, _UNSTATED = "apache-2.0", "other"
#: Significant digits of exported scores, which keeps packaged files small.
_DIGITS = 6


def save_pretrained(
    model: Predictor | Run | str | Path,
    folder: str | Path,
    *,
    half: bool = False,
    inference_only: bool = False,
    scores: Scores | None = None,
    license: str | None = None,
    model_class: type[Predictor] | None = None,
) -> Path:
    """Folder with exported weights.

    Args:
        model: run (folder, packaged weights or hf:// name), whose EMA weights are exported, or a Predictor.
        folder: output folder, new or empty.
        half: store floats as float16.
        inference_only: omit parameters that only training needs.
        scores: scores of the model card; by default those of the run.
        license: licence of the model card, see `export`.
        model_class: class of the model, for a model outside the package.

    Returns:
        `folder`.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    if isinstance(model, Predictor):
        card = _Card(scores=scores, license=license or _UNSTATED)
        return _write(model, _config_of(model), card, Path(folder), half, inference_only)
    run = model if isinstance(model, Run) else open_run(model, model_class)
    return export(run, Path(folder), half, inference_only, scores, license)


def from_pretrained(
    name: str | Path, device: str = "cpu", model: type[Predictor] | None = None, **options: Any
) -> Predictor:
    """Predictor of a folder, packaged weights or hf://organisation/name[@revision], in eval mode.

    Args:
        name: as in `load`; with `model` also organisation/name.
        device: torch device.
        model: expected class; one outside the package is also the class that is built.
        options: revision, and arguments of `huggingface_hub.snapshot_download` such as token.

    Raises:
        UserError: it does not exist, is damaged, or is of another class.
    """
    from framecast.inference.hub import load_class

    return (
        load(name, device)
        if model is None and not options
        else load_class(model or Predictor, name, device=device, **options)
    )


def export(
    run: Run,
    folder: Path,
    half: bool = False,
    inference_only: bool = False,
    scores: Scores | None = None,
    license: str | None = None,
    repository: str = "THIS_FOLDER",
    graphs: Callable[[Path], object] | None = None,
) -> Path:
    """Folder with the EMA weights of a run; the write is atomic.

    Args:
        run: trained run.
        folder: output folder, new or empty.
        half: store floats as float16.
        inference_only: omit parameters that only training needs.
        scores: scores of the model card; by default those of the run.
        license: licence of the model card, an identifier of the Hugging Face Hub; by default that of framecast for
            packaged weights, else "other".
        repository: name in the example of the model card.
        graphs: writes further files into the folder before it is complete, such as ONNX graphs.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    check_out(folder)
    if scores is None and (run.folder / "scores.json").is_file():
        scores = Scores.load(run.folder / "scores.json")
    packaged_weights = not run.own and not run.name.startswith("hf://")
    stated = license or (_LICENSE if packaged_weights else _UNSTATED)
    card = _Card(*run.trained, scores, stated, repository, _further_sections(run.folder / "README.md"))
    return _write(run.model(), run.config, card, folder, half, inference_only, graphs)


def check_out(folder: Path) -> None:
    """Require that an output folder is new or empty.

    Raises:
        UserError: it is neither.
    """
    if (os.path.lexists(folder) and not folder.is_dir()) or (folder.is_dir() and own_files(folder)):
        raise UserError(f"{folder}: is not an empty folder; choose another --out")


def _write(
    model: Predictor,
    config: RunConfig,
    about: _Card,
    folder: Path,
    half: bool,
    inference_only: bool,
    graphs: Callable[[Path], object] | None = None,
) -> Path:
    from safetensors import SafetensorError

    check_out(folder)
    if inference_only:
        model, config = _without_training_parts(model, config)
    scores = about.scores
    values = {**config.to_json(local=False), "trained": {"steps": about.steps, "seconds": about.seconds}}
    try:
        with replaced_folder(folder) as part:
            write_weights(part, model, values, half)
            names = ["config.json", "model.safetensors"]
            if scores is not None:
                names.append(scores.save(part / "scores.json", digits=_DIGITS).name)
            if graphs is not None:
                graphs(part)
                names += sorted({p.name for p in part.iterdir()} - {*names, CHECKSUMS})
            write_checksums(part, names)
            card = _card(model, config, about, half)
            (part / "README.md").write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{folder}: cannot be written ({reason}); free some space or choose another --out") from error
    return folder


def _without_training_parts(model: Predictor, config: RunConfig) -> tuple[Predictor, RunConfig]:
    """The predictor and its config without parameters that only training needs."""
    smaller = type(model).inference_only(model.config)
    if smaller == model.config:
        return model, config
    kept = type(model)(smaller, model.spec)
    kept.load_state_dict({k: v for k, v in model.state_dict().items() if k in kept.state_dict()})
    return kept.eval(), dataclasses.replace(config, model=smaller)


def _config_of(model: Predictor) -> RunConfig:
    """RunConfig that rebuilds a predictor created outside a run."""
    kind = type(model)
    names = [n for n, (module, name) in MODELS.items() if (module, name) == (kind.__module__, kind.__name__)]
    for name in names:
        for profile in profiles(name):
            if preset(name, profile).model == model.config:
                return RunConfig(name=name, profile=profile, model=model.config, spec=model.spec)
    name = names[0] if names else f"{kind.__module__}:{kind.__name__}"
    return RunConfig(name=name, profile="custom", model=model.config, spec=model.spec)


# -------------------------------------------------------------------------------------------------------- the card


@dataclass(frozen=True)
class _Card:
    """What a model card shows beside the config.

    Attributes:
        steps: of training.
        seconds: of training.
        scores: of the weights.
        license: identifier of the Hub.
        repository: name in the example.
        further: sections of an earlier card that are copied as they are.
    """

    steps: int | None = None
    seconds: float | None = None
    scores: Scores | None = None
    license: str = _UNSTATED
    repository: str = "THIS_FOLDER"
    further: str = ""


def _further_sections(card: Path) -> str:
    """Sections of the card of exported weights beyond those that are written again, such as provenance and figures."""
    if not card.is_file():
        return ""
    sections = card.read_text(encoding="utf-8").split("\n## ")[1:]
    return "".join(f"\n## {text}" for text in sections if text.partition("\n")[0] not in ("Scores", "Protocol"))


def card_header(values: Mapping[str, Any]) -> list[str]:
    """Lines of the header that the Hugging Face Hub indexes."""
    import yaml

    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1000)
    return ["---", *text.rstrip().splitlines(), "---"]


def _header(config: RunConfig, about: _Card) -> list[str]:
    """Header of a model card: library, task, data, licence, and scores in the form of a model index."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    data, name = Path(config.data.path).name, f"{config.name}-{config.profile}"
    values: dict[str, Any] = {"library_name": "framecast", "pipeline_tag": "image-to-video", "license": about.license}
    values |= {"datasets": [data]} if data else {}
    values |= {"tags": ["video-prediction", config.name]}
    scores = about.scores
    if scores is not None:
        p, last = scores.protocol, scores.headline_frames[-1]
        found = {m: scores.headline(m).get(scores.main, {}).get(last) for m in scores.metrics if m in _SHOWN}
        values |= {
            "model-index": eval_results_to_model_index(
                name,
                [
                    EvalResult(
                        task_type="image-to-video",
                        task_name="Video prediction",
                        dataset_type=p.data,
                        dataset_name=f"{p.data}, {p.split} split",
                        metric_type=metric,
                        metric_name=f"{metric} at frame {last}",
                        metric_value=round(value, _DIGITS),
                    )
                    for metric, value in found.items()
                    if value is not None
                ],
            )
        }
    return card_header(values)


def _card(model: Predictor, config: RunConfig, about: _Card, half: bool) -> str:
    spec, counts, scores = config.spec, count_parameters(model), about.scores
    lines = [
        *_header(config, about),
        f"# {_plain(config.name)}, profile {_plain(config.profile)}",
        "",
        model.paper or "A baseline.",
        "",
        f"Trained on {_plain(Path(config.data.path).name) or 'data'}: frames of {spec.height}x{spec.width}, "
        f"{spec.channels} channels, {spec.fps:g} fps{_length(about.steps, about.seconds)}.",
        f"Weights are {'float16 on disk and widened to float32 when they are loaded' if half else 'float32'}.",
        "",
        "| sub-network | parameters |",
        "|---|---|",
        *(f"| {_plain(name)} | {count:,} |" for name, count in counts.items()),
        "",
        "```python",
        "import framecast",
        "",
        f'model = framecast.from_pretrained("{about.repository}")',
        "future = model.predict(context, horizon=16)  # (samples, batch, t, c, h, w), floats 0…1",
        "```",
    ]
    if scores is not None:
        lines += ["", "## Scores", "", *_figures(scores), "## Protocol", "", *_protocol(scores.protocol.to_json())]
    return "\n".join(lines) + "\n" + about.further


def _length(steps: int | None, seconds: float | None) -> str:
    parts = [] if steps is None else [f"{steps:,} steps"]
    parts += [] if seconds is None else [f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"]
    return f", for {', '.join(parts)}" if parts else ""


def _figures(scores: Scores) -> list[str]:
    frames = scores.headline_frames
    lines = []
    summary = scores.summaries.get(scores.main)
    if scores.main not in BASELINES and summary is not None and summary.skill["mean"] is not None:
        useful = "1 frame" if summary.useful_horizon == 1 else f"{summary.useful_horizon} frames"
        lines += [
            f"Skill over copy-last, {len(summary.frames)} frames: {summary.skill['mean']:.3f}"
            f"{_between(summary.skill)}; useful horizon {useful}.",
            "",
        ]
    shown = [m for m in scores.metrics if m in _SHOWN] or scores.metrics
    for metric in shown:
        lines += [f"| {metric} | " + " | ".join(f"frame {k}" for k in frames) + " |", "|---" * (len(frames) + 1) + "|"]
        for name, row in scores.headline(metric).items():
            cells = ("–" if row[k] is None else f"{row[k]:.4g}" for k in frames)
            lines.append(f"| {_plain(name)} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _between(found: Interval) -> str:
    low, high = found["low"], found["high"]
    return "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"


def _protocol(card: dict[str, Any]) -> list[str]:
    return [f"- {_plain(name)}: {_plain(value)}" for name, value in card.items()]


def _plain(value: Any) -> str:
    """A name as text of a Markdown page: one line, without markup, links or HTML."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\\`*\[\]|]|_(?=_)|!(?=\\?\[))", r"\\\1", text)
