"""Training loop: step, log, validate, preview, save."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.config import duration_in_words
from framecast.core.errors import UserError
from framecast.core.lease import Lease
from framecast.core.memory import peak_memory
from framecast.core.types import Batch, ClipRequest
from framecast.data.base import Segment, Source
from framecast.data.loader import Loader
from framecast.media.grid import grid
from framecast.media.images import write_image
from framecast.media.write import write_video
from framecast.models.base import Predictor
from framecast.models.rollout import evaluating
from framecast.training.checkpoint import finished_step, save_checkpoint, save_snapshot, write_finished
from framecast.training.compiling import compile_losses, compiling, wants_compilation
from framecast.training.config import RunConfig, resolve_length
from framecast.training.device import Device
from framecast.training.graphs import GraphedLosses, wants_graphs
from framecast.training.latents import precompute_all, resizer
from framecast.training.log import Log, Progress
from framecast.training.mirror import mirror_run
from framecast.training.prefetch import Prefetch, batches_ahead, streams_of
from framecast.training.signals import Interrupted, Signals
from framecast.training.state import TrainState
from framecast.training.step import check_losses, check_weights, train_step
from framecast.training.trackers import tracker_names
from framecast.training.validation import (
    calibrated,
    preview_scores,
    previews,
    rollout_skill,
    side_by_side,
    validate,
    windows_of,
)

#: Maximum number of held-out frames for the final videos.
FINAL_VIDEO_FRAMES = 1000


class Trainer:
    """The training loop and its state between steps.

    Args:
        config: of the run, with the spec of the data.
        source: the data.
        folder: the run folder.
        device: of this process.
        state: what is trained.
        quiet: no progress output.

    Raises:
        UserError: the data are too short, the run has no length, or the batch cannot be divided.
    """

    def __init__(
        self, config: RunConfig, source: Source, folder: Path, device: Device, state: TrainState, quiet: bool
    ) -> None:
        self.config, self.source, self.folder, self.device, self.state = config, source, folder, device, state
        self.settings = config.train
        self.quiet = quiet or not device.is_main
        request = type(state.model).request(config.model)
        self.splits = source.splits(request.source_length)
        # built here to report data or batch sizes that do not suit a stage before anything is written
        for window in [*(stage.request for stage in state.stages if stage.request is not None), request]:
            for split, order in (("val", "random"), ("train", self.settings.order)):
                found = self._loader(self.splits[split], window, order)
        self.rollouts = self._rollout_loader(request)
        self.now = time.process_time if self.settings.clock == "cpu" else time.monotonic  # what a budget counts
        self.total, self.budget = resolve_length(self.settings, found.num_clips, device.device)
        share, parts = self.settings.batch_size // device.world, self.settings.grad_accum_steps
        if share % parts:  # gradients of parts of different sizes would not average to that of the batch
            raise UserError(
                f"--grad-accum-steps {parts} must divide the {share} clips of a process; use another number"
            )
        self.loaders: dict[str, Loader] = {}
        self.prefetch: Prefetch | None = None
        self.reading = threading.Lock()  # held while data are read: a source need not serve two threads at once
        self.log: Log | None = None
        self.lease: Lease | None = None
        self.link = ""  # label of the link of a chain
        self.finished = False
        self.signals = Signals()
        self.saved = -1
        self.compiles = wants_compilation(self.settings.compile, device, self.settings.grad_accum_steps)
        self.records = wants_graphs(self.settings.cuda_graph, device, self.settings.grad_accum_steps)

    # ------------------------------------------------------------------------------------------------------ the loop

    @torch.no_grad()
    def initialize_from_batch(self) -> None:
        """Let the model initialize weights from data, equally in every process."""
        model, stage = self.state.model, self.state.current
        if type(model).initialize_from_batch is Predictor.initialize_from_batch:
            return
        request = stage.request or type(model).request(self.config.model)
        settings = self.settings
        loader = Loader(
            self.source,
            self.splits["train"],
            request,
            settings.batch_size,
            settings.seed,
            actions=self.config.spec.actions,
        )
        model.initialize_from_batch(loader.batch(0, "first look").to(self.device.device))
        self.state.ema.load_state_dict(model.state_dict())

    def seconds_a_step(self, count: int = 1) -> float:
        """Mean seconds of a training step, after one for warm-up. Nothing is written; the state is changed."""
        self.initialize_from_batch()
        with compiling(self.compiles, self._warn):
            self.loaders, began = self._loaders(), 0.0
            for step in range(count + 1):
                if step == 1:
                    began = self.now()
                train_step(self.state, self._batches, self.device, self.settings.grad_accum_steps, self._elapsed())
        if self.device.device.type == "cuda":
            torch.cuda.synchronize(self.device.device)
        check_losses(self.state, self.device)
        seconds = (self.now() - began) / count
        self._close()
        return seconds

    def run(self) -> None:
        """Train until the last stage, the steps or the budget end.

        Raises:
            Interrupted: after a signal, with the checkpoint written.
            NotFinite: a loss or weight is inf or nan.
            Diverged: the weights of two processes differ.
        """
        self.finished = finished_step(self.folder) == self.state.step
        if self.device.is_main:
            names = tracker_names(self.settings.log, self.settings.tensorboard)
            over = self.finished and self._over()
            self.log = Log(self.folder, self.state.step, names, over, self.config.to_json(local=False))
        ended = False
        try:
            with compiling(self.compiles, self._warn):
                self._run()
            ended = True
        finally:
            self._close()
            if self.log:
                self.log.close(ended)

    def _run(self) -> None:
        settings, state = self.settings, self.state
        total, unit = (self.total, "steps") if self.total is not None else (self.budget, "s")
        done = state.step if self.total is not None else state.seconds
        began, before, start = self.now(), state.seconds, time.monotonic()
        first = state.step
        if not self._over():
            self.loaders = self._loaders()
        with (
            self.signals,
            Progress(f"{self.config.name} {self.link}".strip(), total or 1, unit, done, self.quiet) as bar,
        ):
            while not self._over():
                parts = train_step(state, self._batches, self.device, settings.grad_accum_steps, self._elapsed())
                state.seconds = before + self.now() - began
                if self.budget is not None:  # all processes decide by the same time
                    state.seconds = self.device.maximum(state.seconds)
                self._log_step(parts, bar)
                if state.step == first + 20:
                    bar.print(self._forecast((time.monotonic() - start) / 20))
                impatient = state.step % settings.validate_every == 0 and self._validate(bar)
                if state.step % settings.preview_every == 0:
                    self._preview()
                # the stage ends before a checkpoint is saved, so that no checkpoint holds a stage that is over
                left = (impatient or self._stage_over()) and self._leave_stage(bar)
                if left or (state.step % settings.save_every == 0 and not self._over()):
                    self._save()
                if self._interrupted():
                    self._save()
                    bar.print(f"stopped at step {state.step}; run the same command again to resume")
                    raise Interrupted(128 + self.signals.number)
                if left and not self._over():
                    self.loaders = self._loaders()
            if self.finished and state.step == first:
                return
            if not self.loaders and (state.stage_step or state.current.precompute_latents is None):
                self.loaders = self._loaders()  # killed after the last step: what follows it is done again
            chosen = self._final_validation(bar)
        self._save(self._calibrated(chosen))
        self._preview()
        self._final_videos()
        if self.device.is_main:
            write_finished(self.folder, state.step)

    def _over(self) -> bool:
        if self.state.ended:
            return True
        if self.total is not None:
            return self.state.step >= self.total
        assert self.budget is not None
        return self.state.seconds >= self.budget

    def _progress(self) -> tuple[float, float, float]:
        """Shares of the run's steps or budget, 0…1: now, at the stage's start, and at its latest end."""
        state = self.state
        if self.total is not None:
            now, start = state.step / self.total, (state.step - state.stage_step) / self.total
        else:
            assert self.budget is not None
            now, start = state.seconds / self.budget, state.stage_seconds / self.budget
        end = sum(s.until.max_fraction for s in state.stages[: state.stage + 1]) if len(state.stages) > 1 else 1.0
        return now, start, min(end, 1.0)

    def _stage_over(self) -> bool:
        until, state = self.state.current.until, self.state
        if until.steps is not None and state.stage_step >= until.steps:
            return True
        now, _, end = self._progress()
        return end < 1 and now >= end

    def _elapsed(self) -> float:
        """Share of the stage's steps or budget that has passed, 0…1, the same in every process."""
        until, (now, start, end) = self.state.current.until, self._progress()
        passed = (now - start) / (end - start) if end > start else 1.0
        return min(1.0, max(passed, self.state.stage_step / until.steps if until.steps else 0.0))

    def _leave_stage(self, bar: Progress) -> bool:
        """End the stage, after a validation of its last weights. Always True: a checkpoint is saved after a stage."""
        name = self.state.current.name
        if self._needs_validation():
            self._validate(bar)
        if self.state.leave_stage():
            bar.print(f"stage {name!r} ended at step {self.state.step}; next is {self.state.current.name!r}")
        else:
            bar.print(f"stage {name!r}, the last, ended at step {self.state.step}")
        return True

    def _forecast(self, seconds: float) -> str:
        """Expected duration and memory, from the seconds per step."""
        if self.total is not None:
            left = seconds * (self.total - self.state.step)
        else:
            left = max(0.0, (self.budget or 0.0) - self.state.seconds)
        end = time.strftime("%H:%M", time.localtime(time.time() + left))
        text = f"{1 / seconds:.1f} steps/s, expected end {end} (in {duration_in_words(left)}), "
        text += f"peak memory {peak_memory(self.device.device):.1f} GB"
        if left > 3600 and self.device.device.type == "cpu":
            text += "; fewer --steps take less time, and in framecast train a smaller --profile"
        return text

    # -------------------------------------------------------------------------------------------------------- batches

    def _warn(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr)

    def _close(self) -> None:
        """End the thread that makes batches ahead, if there is one."""
        if self.prefetch is not None:
            self.prefetch.close()

    def _loaders(self) -> dict[str, Loader]:
        self._close()
        stage = self.state.current
        request = stage.request or type(self.state.model).request(self.config.model)
        latents: dict[str, list[np.ndarray]] | None = None
        if stage.precompute_latents is not None:
            encode = self.state.current_ema.precompute_latents
            assert encode is not None
            folder = self.folder / "latents" / stage.name
            begun = self.state.step - self.state.stage_step
            seed, size = self.settings.seed, resizer(request)
            latents = precompute_all(encode, self.state.ema, self.source, size, self.device, folder, begun, seed)
        settings, device = self.settings, self.device
        self._cache: dict[str, Batch] = {}
        self._cached = -1
        train = self._loader(self.splits["train"], request, settings.order, latents)
        start = self.state.step - self.state.stage_step
        self.prefetch = Prefetch(
            train.batch,
            lambda step: streams_of(stage.phases, step - start),
            device.device,
            batches_ahead(settings.prefetch, device.device),
            self.reading,
        )
        if self.compiles and not self._over():
            compile_losses(self.state, self._batches, device)
        self.state.graphs = GraphedLosses(self._warn) if self.records else None
        return {"train": train, "val": self._loader(self.splits["val"], request, "random", latents)}

    def _loader(
        self,
        segments: list[Segment],
        request: ClipRequest,
        order: Any,
        latents: dict[str, list[np.ndarray]] | None = None,
    ) -> Loader:
        """This process's share of the batches of some segments."""
        settings, device = self.settings, self.device
        shares = {"rank": device.rank, "world": device.world, "lanes": settings.shuffle_shards}
        actions, size, seed = self.config.spec.actions, settings.batch_size, settings.seed
        return Loader(
            self.source, segments, request, size, seed, order=order, latents=latents, actions=actions, **shares
        )

    def _rollout_loader(self, request: ClipRequest) -> Loader | None:
        """Windows of whole validation frames to roll out; None where `select_horizon` and `select` want no roll-out."""
        settings = self.settings
        horizon = settings.select_horizon or (request.future if settings.select == "skill" else 0)
        if not horizon:
            if settings.select == "skill":
                raise UserError("--train.select skill needs --train.select-horizon N: the model trains without targets")
            return None
        whole = request.consecutive(self.state.model.num_context, horizon)
        return Loader(self.source, self.splits["val"], whole, 1, settings.seed, actions=self.config.spec.actions)

    def _rollout_batches(self) -> Iterator[tuple[int, Batch]]:
        """This process's share of the roll-outs' batches, with their numbers; the same at every validation."""
        assert self.rollouts is not None
        for number, pairs in windows_of(self.rollouts, self.settings.seed, self.device.rank, self.device.world):
            with self.reading:
                batch = self.rollouts.gather(pairs)
            yield number, batch.to(self.device.device)

    def _batches(self, stream: str, micro: int) -> Batch:
        """The batch of a stream at this step, drawn once and shared by the phases of the stream."""
        if self._cached != self.state.step:
            self._cache, self._cached = {}, self.state.step
        if stream not in self._cache:
            assert self.prefetch is not None
            batch = self.prefetch.get(self.state.step, stream)
            self._cache[stream] = replace(batch, elapsed=self._elapsed())
        batch, parts = self._cache[stream], self.settings.grad_accum_steps
        return batch if parts == 1 else batch.part(micro, parts)

    # ------------------------------------------------------------------------------------- log, validate, preview, save

    def _log_step(self, parts: dict[str, Tensor], bar: Progress) -> None:
        step, settings = self.state.step, self.settings
        if step % settings.stats_every and step % settings.summary_every:
            if self.budget is not None:
                bar.update(self.state.seconds)
            return
        check_losses(self.state, self.device)
        values = {k: float(v) for k, v in parts.items()}
        board = step % settings.summary_every == 0
        if board and (stream := self._scored_stream()) is not None:
            values |= preview_scores(self.state, self._batches(stream, 0), "train", self.device)
        values = self.device.average(values)
        if self.log:
            self.log.scalars(step, values, board=board, **self._place())
        totals = "  ".join(f"{k.split('/')[0]} {v:.4g}" for k, v in values.items() if k.endswith("/total"))
        bar.update(step if self.total is not None else self.state.seconds, totals)

    def _place(self) -> dict[str, Any]:
        """Values of every row of the log: link of a chain if there is one, stage, seconds of training."""
        link = {"link": self.link} if self.link else {}
        return {**link, "stage": self.state.current.name, "seconds": round(self.state.seconds, 3)}

    def _scored_stream(self) -> str | None:
        """The stream whose batches have frames to predict and score; None in a stage on latents."""
        stage = self.state.current
        return stage.phases[-1].stream if stage.phases and stage.precompute_latents is None else None

    def _keeps_best(self) -> bool:
        """Whether the stage keeps its best weights: with patience, or as the last one by the setting `select`."""
        last = self.state.stage == len(self.state.stages) - 1
        return self.state.current.until.patience is not None or (last and self.settings.select != "last")

    def _needs_validation(self) -> bool:
        """Whether the stage keeps its best weights and the present ones have not been validated."""
        return self._keeps_best() and self.state.step % self.settings.validate_every != 0

    def _final_validation(self, bar: Progress) -> Predictor | None:
        """The best weights, including the last, of a run that ends within a stage; None for other runs.

        The checkpoint does not include this validation, so that a longer run equals an unbroken run.
        """
        state = self.state
        if (
            state.ended or state.stage_step == 0 or not self._needs_validation()
        ):  # a stage without a step has no latents
            return None
        before = (state.best, state.bad, state.best_weights)
        self._validate(bar, last=True)
        chosen = state.best_model()
        state.best, state.bad, state.best_weights = before
        return chosen

    def _calibrated(self, chosen: Predictor | None) -> Predictor | None:
        """A copy of the run's final weights, adjusted to validation clips; `chosen` where the model adjusts nothing."""
        model = chosen or self.state.best_model()
        if not model.calibration_horizon or not self.device.is_main:
            return chosen
        with self.reading:
            return calibrated(model, self.config, self.source, self.splits["val"], self.device)

    def _validate(self, bar: Progress, last: bool = False) -> bool:
        """Validate the EMA weights on held-out clips. True if patience is exhausted."""
        state, stage = self.state, self.state.current
        values = validate(state, self._validation_batch, self.settings.val_batches, self.device)
        if self.settings.validate_train:
            values |= validate(state, self._training_batch, self.settings.val_batches, self.device, "train")
        if self.rollouts is not None:
            horizon = self.rollouts.request.future
            values |= rollout_skill(state, self._rollout_batches(), horizon, self.device)
        by_skill = self.settings.select == "skill" and state.stage == len(state.stages) - 1
        better = state.note_validation(-values["val/skill"] if by_skill else values["val/loss"], self._keeps_best())
        if self.log:
            more = {"last": True} if last else {}
            self.log.scalars(state.step, values, **self._place(), **more)
        note = f", PSNR {values['val/psnr']:.2f} dB" if "val/psnr" in values else ""
        note += f", skill {values['val/skill']:.3f}" if "val/skill" in values else ""
        bar.print(f"step {state.step}: validation loss {values['val/loss']:.4g}{note}{' (best)' if better else ''}")
        patience = stage.until.patience
        return patience is not None and state.bad >= patience

    def _validation_batch(self, number: int) -> Batch:
        return self._held_out("val", number)

    def _training_batch(self, number: int) -> Batch:
        return self._held_out("train", number)

    def _held_out(self, split: str, number: int) -> Batch:
        """A batch of a validation on the device, with the elapsed share of the stage."""
        with self.reading:
            batch = self.loaders[split].batch(number, "validation")
        return replace(batch.to(self.device.device), elapsed=self._elapsed())

    def _preview(self) -> None:
        """Write previews of the first validation batch to previews/ and the trackers."""
        if self.log is None or self.state.current.precompute_latents is not None:
            return
        rows = previews(self.state, self._validation_batch(0), self.device)
        for name, frames in rows.items():
            self.log.image(self.state.step, name, grid(list(frames)))
        target = self.folder / "previews" / f"step-{self.state.step}.png"
        target.parent.mkdir(exist_ok=True)
        write_image(grid(side_by_side(rows)), target)

    def _final_videos(self) -> None:
        """Write the model's videos of the longest held-out segment to final_videos/."""
        model = self.state.best_model()
        if self.log is None or type(model).final_videos is Predictor.final_videos:
            return
        request = type(model).request(self.config.model)
        longest = max(self.splits["val"], key=lambda s: s.stop - s.start)
        count = min((longest.stop - longest.start - 1) // request.stride + 1, FINAL_VIDEO_FRAMES)
        whole = ClipRequest(context=count, future=0, stride=request.stride, resize=request.resize)
        loader = Loader(self.source, [longest], whole, 1, actions=self.config.spec.actions)
        batch = loader.gather([(longest.video, longest.start)]).to(self.device.device)
        with evaluating(model), torch.no_grad(), self.device.autocast():
            videos = model.final_videos(batch.context[0], None if batch.actions is None else batch.actions[0])
        for name, frames in videos.items():
            path = self.folder / "final_videos" / f"{name}.gif"
            write_video(frames.float().cpu(), path, self.config.spec.fps / request.stride)
            self.log.video(self.state.step, name, path)

    def _save(self, chosen: Predictor | None = None) -> None:
        """Write the checkpoint, and a snapshot of `chosen` or else of the best weights."""
        if self.saved == self.state.step and chosen is None:  # the last weights differ from those saved at this step
            return
        check_losses(self.state, self.device)
        check_weights(self.state, self.device)
        if self.device.is_main:
            if self.lease is not None:
                self.lease.check()
            config = self.config.to_json(local=False)
            # first, so that a run whose disk is full here comes back to this step and makes the snapshot then
            save_snapshot(self.folder, chosen or self.state.best_model(), config, self.state.step, self.settings.keep)
            save_checkpoint(self.folder, self.state)
            if self.settings.mirror:
                mirror_run(self.folder, self.settings.mirror, self.state.step)
        self.saved = self.state.step
        self.device.barrier()

    def _interrupted(self) -> bool:
        if self.device.world == 1:
            return bool(self.signals.number)
        # every process must stop at the same step; the collective operation is too slow for every step
        if self.state.step % 10:
            return False
        stop = self.device.any(bool(self.signals.number))
        self.signals.number = self.signals.number or (signal.SIGTERM if stop else 0)
        return stop
