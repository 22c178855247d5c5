"""Training: the visible loop. Step, log, validate, preview, save."""

from __future__ import annotations

import dataclasses
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.config import parse_duration
from framecast.data.base import Segment, Source
from framecast.data.loader import Loader
from framecast.engine.checkpoint import load_checkpoint, load_matching, save_checkpoint, save_snapshot
from framecast.engine.codes import encode_all
from framecast.engine.device import Device, make_device, seed_for
from framecast.engine.log import Log, Progress
from framecast.engine.state import TrainState
from framecast.engine.step import train_step
from framecast.media.grid import grid
from framecast.media.images import write_image
from framecast.media.resize import resize_frames
from framecast.metrics.frames import psnr, sharp_diff
from framecast.models.base import Predictor
from framecast.presets import preset
from framecast.rollout import evaluating
from framecast.run import (
    CONFIG,
    RunConfig,
    check_resume,
    data_digest,
    find_model,
    model_spec,
    open_data,
    open_run,
    resolve_steps,
    write_config,
)
from framecast.types import Batch, ClipRequest, UserError


class Interrupted(Exception):
    """Ctrl-C (130) or SIGTERM (143): the checkpoint is written; `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"stopped by signal {code - 128}")
        self.code = code


def train(
    model: str | type[Predictor],
    data: str | Path | Source,
    *,
    out: str | Path | None = None,
    profile: str = "default",
    config: RunConfig | None = None,
    init_from: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    quiet: bool = False,
    **settings: Any,
) -> Path:
    """Train a predictor and return its run folder; called again with the same arguments it goes on where it stopped.

    model: a name (`framecast models`), "path/to/mine.py:Mine" or a Predictor subclass.  data: a path, a source's name
    or an object with the Source protocol.  out: the run folder, runs/<model>-<data> by default.  config: a whole
    RunConfig in place of the profile's.  settings: fields of TrainConfig, e.g. steps=, budget=, batch_size=, seed=.
    Raises: UserError for bad input; Interrupted after a signal, with everything saved.
    """
    model_class = model if isinstance(model, type) else find_model(model)
    config = config or preset(model if isinstance(model, str) else model_class, profile)
    lengths = {"steps", "epochs", "budget"} & {k for k, v in settings.items() if v is not None}
    cleared = dict.fromkeys(("steps", "epochs", "budget")) if lengths else {}
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **{**cleared, **settings}))
    if isinstance(data, str | Path):
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(data)))
        source, settled = open_data(config.data)
        config = dataclasses.replace(config, data=settled)
    else:
        source = data
    folder = Path(out) if out else default_out(config.name, config.data.path)
    place = make_device(device, devices, num_nodes, config.train.precision)
    return fit(config, source, folder, model_class, place, init_from=init_from, overwrite=overwrite, quiet=quiet)


def default_out(name: str, data: str) -> Path:
    """runs/<model>-<data>."""
    return Path("runs") / f"{name.rsplit(':', 1)[-1]}-{Path(data).stem or 'data'}"


def settle(config: RunConfig, source: Source, model_class: type[Predictor]) -> RunConfig:
    """The config with what only the data can tell: frame spec, digest, epoch schedules as steps."""
    splits = source.splits(model_class.request(config.model).source_length)
    request = model_class.request(config.model)
    loader = Loader(source, splits["train"], request, config.train.batch_size, config.train.seed)
    model = model_class.in_steps(config.model, resolve_steps(config.train, loader.windows.count)[0])
    data = dataclasses.replace(config.data, digest=data_digest(source))
    return dataclasses.replace(config, model=model, data=data, spec=model_spec(source, request, splits["train"]))


def fit(
    config: RunConfig,
    source: Source,
    folder: Path,
    model_class: type[Predictor],
    device: Device,
    init_from: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Train what `config` says on `source` into `folder`, or go on with what is there."""
    config = settle(config, source, model_class)
    if device.is_main:
        _open_folder(folder, config, overwrite)
    device.barrier()
    torch.manual_seed(seed_for(config.train.seed, "weights"))
    model = model_class(config.model, config.spec)
    saved = load_checkpoint(folder)
    if saved is None and init_from is not None:
        filled = load_matching(model, open_run(init_from).weights)
        if device.is_main and not quiet:
            print(f"{filled} of {len(model.state_dict())} tensors taken from {init_from}", file=sys.stderr)
    model = model.to(device.device)
    if device.device.type != "mps":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainState.create(model, config.train.seed, config.train.ema)
    if saved is not None:
        state.load_state_dict(saved)
    elif device.is_main:
        write_config(folder, config)
    Trainer(config, source, folder, device, state, quiet).run()
    return folder


def _open_folder(folder: Path, config: RunConfig, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; --out names a folder")
    if (folder / CONFIG).is_file() and not overwrite:
        check_resume(folder, config)
    elif overwrite and (folder / CONFIG).is_file():
        shutil.rmtree(folder)
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty and holds no run; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error


class Trainer:
    """The loop and the little it must remember between steps."""

    def __init__(
        self, config: RunConfig, source: Source, folder: Path, device: Device, state: TrainState, quiet: bool
    ) -> None:
        self.config, self.source, self.folder, self.device, self.state = config, source, folder, device, state
        self.settings = config.train
        self.quiet = quiet or not device.is_main
        request = type(state.model).request(config.model)
        self.splits = source.splits(request.source_length)
        self.loaders = self._loaders()
        self.total = resolve_steps(self.settings, self.loaders["train"].windows.count)[1]
        self.budget = parse_duration(self.settings.budget) if self.settings.budget else None
        if self.total is None and self.budget is None:
            raise UserError("say how long to train: --steps N, --epochs N or --budget 10m")
        self.log = Log(folder, state.step, self.settings.tensorboard) if device.is_main else None
        self.signal = 0
        self.saved = -1

    # ------------------------------------------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Train until the end of the last stage, of the steps or of the budget."""
        settings, state = self.settings, self.state
        total, unit = (self.total, "steps") if self.total is not None else (self.budget, "s")
        began, before = time.monotonic(), state.seconds
        first = state.step
        with self._signals(), Progress(self.config.name, total or 1, unit, quiet=self.quiet) as bar:
            while not self._over():
                parts = train_step(state, self._batches, self.device, settings.accumulate)
                state.seconds = before + time.monotonic() - began
                self._log_step(parts, bar)
                if state.step == first + 20:
                    bar.say(self._forecast((time.monotonic() - began) / 20))
                ended = False
                if state.step % settings.validate_every == 0:
                    ended = self._validate(bar)
                if state.step % settings.preview_every == 0:
                    self._preview()
                if state.step % settings.save_every == 0:
                    self._save()
                if self._interrupted():
                    self._save()
                    bar.say(f"stopped at step {state.step}; run the same command again to go on from there")
                    raise Interrupted(128 + self.signal)
                if (ended or self._stage_over()) and not self._next_stage(bar):
                    break
        if self.saved != state.step:
            self._save(final=True)
        if self.log:
            if state.step > first:
                self._preview()
            self.log.close()

    def _over(self) -> bool:
        if self.total is not None:
            return self.state.step >= self.total
        assert self.budget is not None
        return self.device.any(self.state.seconds >= self.budget)

    def _stage_over(self) -> bool:
        until, state = self.state.current.until, self.state
        if until.steps is not None and state.stage_step >= until.steps:
            return True
        if len(state.stages) == 1:
            return False
        share = sum(s.until.share for s in state.stages[: state.stage + 1])
        progress = state.step / self.total if self.total is not None else state.seconds / (self.budget or 1)
        return share < 1 and self.device.any(progress >= share)

    def _next_stage(self, bar: Progress) -> bool:
        name = self.state.current.name
        if not self.state.leave_stage():
            return False
        bar.say(f"stage {name!r} ended at step {self.state.step}; next is {self.state.current.name!r}")
        self.loaders = self._loaders()
        self._save()  # the border is a place to resume from like any other
        return True

    def _forecast(self, seconds: float) -> str:
        """How long it will take and how much memory it needs, after twenty steps."""
        left = seconds * (self.total - self.state.step) if self.total is not None else (self.budget or 0)
        end = time.strftime("%H:%M", time.localtime(time.time() + left))
        text = (
            f"{1 / seconds:.1f} steps/s, expected end {end} (in {_minutes(left)}), peak memory {peak_memory():.1f} GB"
        )
        if left > 3600 and self.device.device.type == "cpu":
            text += "; on a CPU try --profile small --budget 10m"
        return text

    # -------------------------------------------------------------------------------------------------------- batches

    def _loaders(self) -> dict[str, Loader]:
        stage = self.state.current
        request = stage.request or type(self.state.model).request(self.config.model)
        codes: dict[str, list[np.ndarray]] | None = None
        if stage.encode_once is not None:
            encode = _bound_to(self.state.ema, stage.encode_once)
            place_for = self.folder / "codes" / stage.name
            begun = self.state.step - self.state.stage_step
            codes = encode_all(encode, self.state.ema, self.source, resizer(request), self.device, place_for, begun)
        settings, place = self.settings, self.device

        def loader(segments: list[Segment], order: Any) -> Loader:
            return Loader(
                self.source,
                segments,
                request,
                settings.batch_size,
                settings.seed,
                rank=place.rank,
                world=place.world,
                order=order,
                codes=codes,
                actions=self.config.spec.actions,
            )

        self._cache: dict[str, Batch] = {}
        self._cached = -1
        return {"train": loader(self.splits["train"], settings.order), "val": loader(self.splits["val"], "random")}

    def _batches(self, stream: str, micro: int) -> Batch:
        """The batch of a stream at this step: drawn once, shared by the phases of that stream."""
        if self._cached != self.state.step:
            self._cache, self._cached = {}, self.state.step
        if stream not in self._cache:
            self._cache[stream] = self.loaders["train"].batch(self.state.step, stream).to(self.device.device)
        batch, parts = self._cache[stream], self.settings.accumulate
        return batch if parts == 1 else batch.part(micro, parts)

    # ------------------------------------------------------------------------------------- log, validate, preview, save

    def _log_step(self, parts: dict[str, Tensor], bar: Progress) -> None:
        step, settings = self.state.step, self.settings
        if step % settings.stats_every and step % settings.summary_every:
            if self.budget is not None:
                bar.update(self.state.seconds)
            return
        values = self.device.average({k: float(v) for k, v in parts.items()})
        board = step % settings.summary_every == 0
        if board and (stream := self._picture_stream()) is not None:
            values |= self._pictures_score(self._batches(stream, 0), "train")
        if self.log:
            extra = {"stage": self.state.current.name, "seconds": round(self.state.seconds, 3)}
            self.log.scalars(step, values, board=board, **extra)
        totals = "  ".join(f"{k.split('/')[0]} {v:.4g}" for k, v in values.items() if k.endswith("/total"))
        bar.update(step if self.total is not None else self.state.seconds, totals)

    def _picture_stream(self) -> str | None:
        """The stream whose batches hold frames that can be predicted and scored; None in a stage on codes."""
        if self.state.current.encode_once is not None:
            return None
        return self.state.current.phases[-1].stream

    @torch.no_grad()
    def _pictures_score(self, batch: Batch, split: str) -> dict[str, float]:
        """PSNR and Sharp Diff of the next frames of a batch, as the published system logs them."""
        with evaluating(self.state.ema), self.device.autocast():
            shown = self.state.ema.preview(batch)
        if "prediction" not in shown or "truth" not in shown:
            return {}
        prediction, truth = shown["prediction"].float().cpu(), shown["truth"].float().cpu()
        return {
            f"{split}/psnr": float(psnr(prediction, truth).mean()),
            f"{split}/sharp_diff": float(sharp_diff(prediction, truth).mean()),
        }

    @torch.no_grad()
    def _validate(self, bar: Progress) -> bool:
        """Score the EMA weights on held-out clips. True when patience is at its end."""
        state, stage = self.state, self.state.current
        loss = _bound_to(state.ema, stage.loss) if stage.loss is not None else state.ema.loss
        sums: dict[str, float] = {}
        for i in range(self.settings.val_batches):
            batch = self.loaders["val"].batch(i, "validation").to(self.device.device)
            torch.manual_seed(seed_for(state.seed, self.device.rank, "validation", i))
            with evaluating(state.ema), self.device.autocast():
                found = loss(batch, state.stage_step)
            values = {"val/loss": float(found.total)} | {f"val/{k}": float(v) for k, v in found.parts.items()}
            if stage.encode_once is None:
                values |= self._pictures_score(batch, "val")
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value / self.settings.val_batches
        values = self.device.average(sums)
        better = state.note_validation(values["val/loss"])
        if self.log:
            self.log.scalars(state.step, values, stage=stage.name, seconds=round(state.seconds, 3))
        note = f", PSNR {values['val/psnr']:.2f} dB" if "val/psnr" in values else ""
        bar.say(f"step {state.step}: validation loss {values['val/loss']:.4g}{note}{' (best)' if better else ''}")
        patience = stage.until.patience
        return patience is not None and state.bad >= patience

    @torch.no_grad()
    def _preview(self) -> None:
        """Pictures of one validation batch, always the same one, into previews/ and TensorBoard."""
        if self.log is None or self.state.current.encode_once is not None:
            return
        batch = self.loaders["val"].batch(0, "validation").to(self.device.device)
        with evaluating(self.state.ema), self.device.autocast():
            shown = self.state.ema.preview(batch)
        rows = {k: _bytes(v[:8]) for k, v in shown.items()}
        for name, frames in rows.items():
            self.log.image(self.state.step, name, grid(list(frames)))
        target = self.folder / "previews" / f"step-{self.state.step}.png"
        target.parent.mkdir(exist_ok=True)
        same = {k: v for k, v in rows.items() if k in ("context", "truth", "prediction")} or rows
        write_image(grid(_interleave(same)), target)

    def _save(self, final: bool = False) -> None:
        if self.device.is_main:
            save_checkpoint(self.folder, self.state)
            config = self.config.to_json(local=False)
            save_snapshot(self.folder, self.state.ema, config, self.state.step, self.settings.keep)
        self.saved = self.state.step
        self.device.barrier()

    # -------------------------------------------------------------------------------------------------------- signals

    def _signals(self) -> _Handlers:
        def note(number: int, _: FrameType | None) -> None:
            self.signal = number

        return _Handlers(note)

    def _interrupted(self) -> bool:
        if self.device.world == 1:
            return bool(self.signal)
        # every process must stop at the same step; asking costs a collective, so not at each
        if self.state.step % 10:
            return False
        stop = self.device.any(bool(self.signal))
        self.signal = self.signal or (signal.SIGTERM if stop else 0)
        return stop


class _Handlers:
    """Takes over SIGINT and SIGTERM while training; a second Ctrl-C ends at once."""

    def __init__(self, note: Callable[[int, FrameType | None], None]) -> None:
        self.note = note

    def __enter__(self) -> _Handlers:
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._once)
        return self

    def _once(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, self.before[number])
        self.note(number, frame)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def resizer(request: ClipRequest) -> Callable[[np.ndarray], np.ndarray]:
    """What brings uint8 frames (t, c, h, w) to the request's size."""
    size = request.resize
    return (lambda frames: frames) if size is None else (lambda frames: resize_frames(frames, size, "squash"))


def _bound_to(model: Predictor, method: Callable[..., Any]) -> Callable[..., Any]:
    """The same method on the EMA copy."""
    return MethodType(method.__func__, model) if isinstance(method, MethodType) else method


def _bytes(frames: Tensor) -> np.ndarray:
    """Floats 0…1 as uint8 by one fixed mapping, so that pictures of different steps compare."""
    array: np.ndarray = frames.float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
    return array


def _interleave(rows: dict[str, np.ndarray]) -> list[np.ndarray]:
    """One row of pictures per clip: its context, truth and prediction side by side."""
    sizes = {v.shape[-2:] for v in rows.values()}
    if len(sizes) > 1:
        return list(next(iter(rows.values())))
    return [np.concatenate(parts, axis=0) for parts in zip(*rows.values(), strict=True)]


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def peak_memory() -> float:
    """Peak memory of this process in GB: the GPU's where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
