"""Direct multi-horizon prediction: frame k of the forecast comes from the real context and k, in one go.

Nothing is fed back within the horizon, so errors cannot grow by feedback; where the future is open, the forecast tends
to the mean of the futures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from framecast.core.schedules import Cosine
from framecast.core.types import (
    Batch,
    ClipRequest,
    ClipSpec,
    GradClip,
    Loss,
    Optimiser,
    Phase,
    TargetBlocks,
)
from framecast.models.base import Predictor, RolloutState
from framecast.models.direct.config import DirectConfig
from framecast.models.direct.context import Context, concatenated
from framecast.models.direct.hindcast import flow_kind, hindcast, map_counts
from framecast.models.direct.losses import bounds_loss, main_loss
from framecast.models.direct.mixing import mixed
from framecast.models.direct.networks import CODE, FREQUENCIES, Decoder, Encoder, Head, lead_code
from framecast.models.inputs import Frames, as_frames
from framecast.models.seeds import Generators
from framecast.models.shrink import set_shares
from framecast.nn.constants import constant
from framecast.nn.flow import warp
from framecast.nn.precision import autocast_off
from framecast.nn.shrinkage import change_sums

#: Displacements are divided by this many px before they enter the encoder.
_FLOW_SCALE = 8.0
#: Colour values that one mixing step may hold; forecasts are mixed in parts of this size.
_MIXED_AT_ONCE = 1 << 26


class Direct(Predictor):
    """Direct multi-horizon prediction: every frame from the real context, as a mixture of its pixels and new colours.

    Source: direct (as against recursive) multi-step forecasting, e.g. Chevillon, "Direct multi-step estimation and
    forecasting", Journal of Economic Surveys 2007; one-go video prediction as in Gao et al., "SimVP", CVPR 2022; pixels
    as mixtures of transformed sources as in Finn, Goodfellow, Levine, NeurIPS 2016. The network is framecast's own.
    """

    Config = DirectConfig
    config: DirectConfig
    shares: Tensor | None
    paper = "direct multi-step forecasting (Chevillon 2007), applied to video; framecast's own network"
    actions = "optional"

    def __init__(self, config: DirectConfig, spec: ClipSpec) -> None:
        super().__init__(config, spec)
        c = spec.channels
        self.action_size = spec.action_size if config.use_actions else 0
        self.actions = "required" if self.action_size else "none"
        self.flow_kind = flow_kind(config.flow)
        flows = self.flow_kind != "none"
        self.sources = config.kept + config.mean + flows + config.new
        errors, logs = map_counts(flows) if config.hindcasts else (0, 0)
        inputs = c * (config.recent + 1) + 4 * flows + errors
        self.lead = nn.Sequential(nn.Linear(2 * FREQUENCIES + logs, CODE), nn.SiLU(), nn.Linear(CODE, CODE))
        self.past = nn.GRUCell(self.action_size, CODE) if self.action_size else None
        self.action_code = nn.Linear(CODE, CODE, bias=False) if self.action_size else None
        self.encoder = Encoder(inputs, config.widths, config.patch)
        self.decoder = Decoder(config.widths, config.depth, CODE)
        self._layout = {"logits": self.sources, "new": c * config.new, "motion": 4 * flows}
        width, per_action = config.widths[0], CODE if self.action_size else 0
        self.head = Head(width, sum(self._layout.values()), config.block, config.patch, per_action)
        self.bounds = Head(width, 2, config.block, config.patch, per_action)
        self._start_as_copy_last()
        self.calibration_horizon = config.horizon if config.shrink else 0
        self.register_buffer("shares", torch.ones(config.horizon) if config.shrink else None)

    def _start_as_copy_last(self) -> None:
        for head in (self.head, self.bounds):
            nn.init.zeros_(head.project.weight)
            nn.init.zeros_(head.project.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.head.project.weight, std=1e-3)
        if self.action_code is not None:  # hardly any effect at first, so that weights trained without actions fit
            nn.init.normal_(self.action_code.weight, std=1e-2)
            for head in (self.head, self.bounds):
                assert head.film is not None
                nn.init.normal_(head.film.weight, std=1e-2)
                nn.init.zeros_(head.film.bias)
        with torch.no_grad():
            bias = self.head.project.bias.view(self.config.block, self.head.outputs, -1)  # type: ignore[union-attr]
            bias[:, 0] = 3.0  # the last frame
            nn.init.constant_(self.bounds.project.bias, -4.0)  # type: ignore[arg-type]  # softplus: about 0.02

    # ------------------------------------------------------------------------------------------------- training

    @classmethod
    def request(cls, config: DirectConfig) -> ClipRequest:
        """The context, and some blocks of the frames after it."""
        return ClipRequest(
            context=config.context,
            future=config.horizon,
            targets=TargetBlocks(length=config.block, count=config.blocks_per_clip, first=config.first_block),
            crop=None if config.crop is None else (config.crop, config.crop),
            crop_at_most=True,
        )

    @classmethod
    def fit_to_data(cls, config: DirectConfig, holds: Callable[[ClipRequest], bool]) -> DirectConfig:
        """The config with the longest horizon, of the chosen one halved again and again, that the data can show."""
        horizon = config.horizon
        while horizon > config.block and not holds(cls.request(replace(config, horizon=horizon))):
            horizon = max(config.block, horizon // 2 // config.block * config.block)
        return replace(config, horizon=horizon)

    @classmethod
    def frame_size(cls, config: DirectConfig, spec: ClipSpec) -> tuple[int, int] | None:
        """Frames of any size."""
        return None

    @property
    def min_context(self) -> int:
        """One frame is enough: the first is repeated up to `context`."""
        return 1

    def phases(self) -> list[Phase]:
        """One phase, all parameters."""
        o = self.config.optim
        optimiser = Optimiser(
            kind="adamw",
            lr=o.lr,
            betas=o.betas,
            weight_decay=o.weight_decay,
            warmup=o.warmup,
            schedule=Cosine(o.final),
        )
        clip = GradClip(kind="global" if o.clip else "none", value=o.clip or 1.0)
        return [Phase(name="main", loss=self.training_loss, optimiser=optimiser, clip=clip)]

    def training_loss(self, batch: Batch, step: int = 0) -> Loss:
        """`loss` of the batch after the config's random changes, the same for all its clips."""
        config, frames, future = self.config, batch.context, batch.future
        if config.short_contexts and float(torch.rand(())) < config.short_contexts:
            kept = int(torch.randint(1, config.context, ()))
            frames = self._padded(frames[:, -kept:])
        if config.augment:
            turns = torch.rand(3).tolist()
            for axis, turn in zip((3, 4), turns, strict=False):
                if turn < 0.5:
                    frames, future = frames.flip(axis), future.flip(axis)
            if turns[2] < 0.5 and frames.shape[3] == frames.shape[4]:
                frames, future = frames.transpose(3, 4), future.transpose(3, 4)
            order = torch.randperm(frames.shape[2]).to(frames.device, non_blocking=True)
            frames, future = frames[:, :, order], future[:, :, order]
        return self.loss(replace(batch, context=frames, future=future), step)

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Loss of the drawn blocks: of the mean as `config.loss`, and of the bounds by quantile regression."""
        config, n = self.config, self.config.block
        context = self._encode(batch.context)
        b, count = batch.future.shape[0], batch.future.shape[1] // n
        leads = batch.lead_times
        if leads is None:  # all frames after the context
            leads = torch.arange(1, count * n + 1, device=batch.future.device).expand(b, -1)
        block = (leads[:, ::n] - 1) // n  # (b, count)
        codes = self._action_codes(batch.actions, config.horizon)
        # Frames of a block are alike and the mixture is most of a step's cost, so a part of them is enough; one for the
        # bounds, whose loss costs as much.
        stride = config.target_stride if self.training else 1
        shown = range(step % stride, n, stride)
        chosen = step // stride % len(shown)
        bounded = slice(shown[chosen], shown[chosen] + 1)
        mean, bounds = self._decode(context, block, codes, slice(shown.start, n, stride), bounded)
        with autocast_off(mean):
            truth = torch.unflatten(batch.future, 1, (count, n)).flatten(0, 1)[:, shown.start :: stride]
            mean, last = mean.flatten(0, 1), context.sources[:, :1].repeat_interleave(count, 0)
            squared = (mean - truth).square().mean((1, 2, 3, 4))
            copied = (last - truth).square().mean((1, 2, 3, 4))
            main = main_loss(config.loss, config.relative_floor, squared, copied, mean - truth)
            parts = {"mse": squared.mean().detach(), "skill": 1 - (squared.sum() / (copied.sum() + 1e-9)).detach()}
            total = main
            if config.bounds_weight:
                one, bounds = slice(chosen, chosen + 1), bounds.flatten(0, 1)
                quantile = bounds_loss(config.coverage, mean.detach()[:, one], bounds, truth[:, one], last)
                total = main + config.bounds_weight * quantile
                parts["bounds"] = quantile.detach()
        return Loss(total, parts)

    # ----------------------------------------------------------------------------------------------- prediction

    def predict(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: Generators = None,
    ) -> Tensor:
        """The next `horizon` frames; those beyond `config.horizon` from predicted frames, a whole horizon at a time."""
        mean, _ = self._forecast(torch.as_tensor(context), horizon, actions, bounded=None)
        return mean.expand(samples, -1, -1, -1, -1, -1)

    @torch.no_grad()
    def intervals(self, context: Frames, horizon: int, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Bounds between which a share `config.coverage` of the true values in the moving area is expected.

        Args:
            context: (b, t, c, h, w), uint8 or float 0…1.
            horizon: number of frames.
            actions: as in `predict`.

        Returns:
            Lower and upper bounds, (b, horizon, c, h, w) each, in 0…1.
        """
        mean, bounds = self._forecast(as_frames(context, self), horizon, actions)
        return (mean - bounds[:, :, :1]).clamp(0, 1), (mean + bounds[:, :, 1:]).clamp(0, 1)

    def views(
        self, context: Frames, horizon: int, actions: Frames | None = None, known: Frames | None = None
    ) -> dict[str, Tensor]:
        """`uncertainty`, (b, horizon, 1, h, w): width of the interval, 0…1."""
        with torch.no_grad():
            bounds = self._forecast(as_frames(context, self), horizon, actions)[1]
        return {"uncertainty": bounds.sum(2, keepdim=True).clamp(0, 1)}

    def _forecast(
        self, frames: Tensor, horizon: int, actions: Frames | None, bounded: slice | None = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Mean (b, horizon, c, h, w) in 0…1 and distances of the bounds, (b, horizon, 2, h, w), or none."""
        window, done, means, bounds = self._padded(frames), 0, [], []
        led = None
        if actions is not None:  # zeros for the frames that were repeated
            led = torch.as_tensor(actions, dtype=torch.float32, device=window.device)
            led = functional.pad(led, (0, 0, window.shape[1] - frames.shape[1], 0))
        while done < horizon:
            count = min(self.config.horizon, horizon - done)
            blocks = -(-count // self.config.block)
            part = None if led is None else led[:, done:]
            for row in range(len(window)):  # clip by clip: all blocks of a clip are one batch of the decoder
                one = None if part is None else part[row : row + 1]
                mean, bound = self._blocks(window[row : row + 1], blocks, one, bounded)
                means.append(mean[:, :count])
                bounds.append(bound[:, :count])
            joined = concatenated(means[-len(window) :], 0)
            means[-len(window) :], bounds[-len(window) :] = [joined], [concatenated(bounds[-len(window) :], 0)]
            done += count
            if done < horizon:
                window = torch.cat([window, joined], 1)[:, -self.config.context :]
        return concatenated(means, 1), concatenated(bounds, 1)

    def _blocks(
        self, window: Tensor, blocks: int, actions: Tensor | None, bounded: slice | None
    ) -> tuple[Tensor, Tensor]:
        context = self._encode(window)
        index = torch.arange(blocks, device=window.device).expand(len(window), -1)
        codes = self._action_codes(actions, blocks * self.config.block)
        mean, bounds = self._decode(context, index, codes, bounded=bounded, final=True)
        return mean.flatten(1, 2), bounds.flatten(1, 2)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Set, at every lead time, the share of the forecast's change that is kept, from held-out clips."""
        if self.shares is not None:
            self.shares.fill_(1)  # its own changes, unscaled
            given = ((self._forecast(b.context, b.future.shape[1], b.actions)[0], b.future, b) for b in batches)
            set_shares(self.shares, [change_sums(f[:, : t.shape[1]], t, b.context[:, -1:]) for f, t, b in given])

    def _kept(self, frames: Tensor, context: Context, leads: Tensor) -> Tensor:
        """Frames (m, n, c, h, w) at lead times (m, n), drawn towards the last ones of the context, in 0…1."""
        if self.shares is not None:
            last = context.sources[:, :1].repeat_interleave(len(frames) // len(context.sources), 0)
            frames = torch.lerp(last, frames, self.shares[leads - 1, None, None, None])
        return frames.clamp(0, 1)

    # ------------------------------------------------------------------------------------------- frame by frame

    def initial_state(
        self, frames: Tensor, actions: Tensor | None, samples: int, generator: Generators
    ) -> RolloutState:
        """The encoded context, the window of last frames, and the lead times that are left, that of the next first."""
        window = self._padded(frames).repeat(samples, 1, 1, 1, 1)
        state = self._fresh(window)
        if self.action_size:
            past = torch.zeros(len(window), 0, self.action_size) if actions is None else actions.repeat(samples, 1, 1)
            state["past"] = self._aligned(past.to(window))
            state["hidden"] = self._hidden(state["past"])
        return state

    def _fresh(self, window: Tensor) -> RolloutState:
        context = self._encode(window)
        one, two, three = context.maps
        state = {
            "window": window,
            "sources": context.sources,
            "logs": context.logs,
            "one": one,
            "two": two,
            "three": three,
        }
        if context.flow is not None:
            state["flow"] = context.flow
        # their number is known without reading the device
        return {**state, "leads": torch.arange(1, self.config.horizon + 1, device=window.device).repeat(len(window), 1)}

    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The state one frame on, and the frame; the decoder runs once per block, the encoder once per horizon."""
        if not state["leads"].shape[1]:
            state = {**state, **self._fresh(state["window"])}
            if self.action_size:
                state["hidden"] = self._hidden(state["past"])
        state = dict(state)
        block, at = divmod(self.config.horizon - state["leads"].shape[1], self.config.block)
        if self.past is not None:
            action = state["hidden"].new_zeros(len(state["hidden"]), self.action_size) if action is None else action
            state["hidden"] = self.past(action, state["hidden"])
            state["past"] = torch.cat([state["past"], action[:, None]], 1)[:, 1:]
        of_encoder, size = (state["one"], state["two"], state["three"]), self._work_size(*state["sources"].shape[-2:])
        context = Context(state["sources"], of_encoder, state.get("flow"), state["logs"], size)
        if at == 0:
            index = torch.full((len(state["leads"]), 1), block, device=state["leads"].device)
            state["features"] = self._features(context, index, state.get("hidden"))
        codes = None if self.past is None else state["hidden"][:, None]
        maps = self.head(state["features"], codes, slice(at, at + 1))
        leads = state["leads"][:, :1]
        frame = self._mix(context, maps, leads, final=True)[:, 0]
        state["window"] = torch.cat([state["window"][:, 1:], frame[:, None]], 1)
        state["leads"] = state["leads"][:, 1:]
        return state, frame

    # ------------------------------------------------------------------------------------------------ its parts

    def _padded(self, frames: Tensor) -> Tensor:
        """The last `context` frames; the first is repeated where there are fewer."""
        missing = self.config.context - frames.shape[1]
        return frames if missing <= 0 else torch.cat([frames[:, :1].expand(-1, missing, -1, -1, -1), frames], 1)

    def _work_size(self, height: int, width: int) -> tuple[int, int]:
        scale = min(1.0, self.config.work_side / min(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _encode(self, frames: Tensor) -> Context:
        """frames (b, context, c, h, w) in 0…1."""
        config = self.config
        mean = frames.mean(1, keepdim=True)
        sources = [frames[:, -config.kept :].flip(1)] + ([mean] if config.mean else [])
        seen = torch.cat([frames[:, -config.recent :], mean], 1)
        size = self._work_size(*frames.shape[-2:])
        if size != tuple(frames.shape[-2:]):
            seen = torch.unflatten(
                functional.interpolate(seen.flatten(0, 1), size=size, mode="area"), 0, seen.shape[:2]
            )
        found = hindcast(seen[:, :-1].float(), self.flow_kind, config.velocity_steps)
        inputs = [2 * seen.flatten(1, 2) - 1]
        if found.velocities is not None:
            inputs.append(found.velocities / _FLOW_SCALE)
        if config.hindcasts:
            inputs.append(4 * found.errors)
        x = torch.cat(inputs, 1)
        step = 4 * config.patch
        edge = (0, -size[1] % step, 0, -size[0] % step)
        if any(edge):
            x = functional.pad(x, edge, mode="replicate")
        return Context(torch.cat(sources, 1), self.encoder(x), found.velocities, found.logs, size)

    def _action_codes(self, actions: Tensor | None, frames: int) -> Tensor | None:
        """Summaries (b, frames, CODE) of the actions before each future frame; row k holds those up to frame k."""
        if self.past is None:
            return None
        if actions is None:
            raise ValueError("Direct: this model predicts from actions: pass actions (b, context + horizon - 1, a)")
        lead = self.config.context - 1
        hidden, found = self._hidden(actions[:, :lead]), []
        future = actions[:, lead : lead + frames]
        for k in range(frames):
            # blocks may end after the last action given: those frames are cut off again
            hidden = self.past(future[:, min(k, future.shape[1] - 1)], hidden)
            found.append(hidden)
        return torch.stack(found, 1)

    def _aligned(self, actions: Tensor) -> Tensor:
        """The last context - 1 actions, zeros before them where there are fewer."""
        keep = self.config.context - 1
        return functional.pad(actions, (0, 0, max(keep - actions.shape[1], 0), 0))[:, -keep:]

    def _hidden(self, past: Tensor) -> Tensor:
        assert self.past is not None
        hidden = past.new_zeros(len(past), CODE)
        for action in self._aligned(past).unbind(1):
            hidden = self.past(action, hidden)
        return hidden

    def _features(self, context: Context, block: Tensor, hidden: Tensor | None) -> Tensor:
        """Decoder features of blocks (b, count); hidden is that of each block's first frame, (b * count, CODE)."""
        n = self.config.block
        middle = block.flatten().float() * n + (n + 1) / 2
        code = lead_code(middle)
        if self.config.hindcasts:
            code = torch.cat([code, context.logs.repeat_interleave(block.shape[1], 0)], 1)
        code = self.lead(code)
        if self.action_code is not None:
            code = code + self.action_code(hidden)
        return self.decoder(context.maps, code)  # type: ignore[no-any-return]

    def _decode(
        self,
        context: Context,
        block: Tensor,
        codes: Tensor | None,
        shown: slice = slice(None),
        bounded: slice | None = slice(None),
        final: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Mean (b, count, shown, c, h, w) float32 and bounds (b, count, bounded, 2, h, w) of blocks (b, count)."""
        n, (b, count) = self.config.block, block.shape
        per_frame = hidden = None
        if codes is not None:
            at = block[:, :, None] * n + torch.arange(n, device=block.device)  # (b, count, n)
            per_frame = codes.gather(1, at.flatten(1)[:, :, None].expand(-1, -1, CODE)).view(b * count, n, CODE)
            hidden = per_frame[:, 0]
        x = self._features(context, block, hidden)
        leads = (block[:, :, None] * n + torch.arange(1, n + 1, device=block.device)).flatten(0, 1)
        of_shown = None if per_frame is None else per_frame[:, shown]
        mean = self._mix(context, self.head(x, of_shown, shown), leads[:, shown], final)
        mean = torch.unflatten(mean, 0, (b, count))
        if bounded is None:
            return mean, mean.new_empty((b, count, 0, 2, *mean.shape[-2:]))
        of_bounded = None if per_frame is None else per_frame[:, bounded]
        bounds = functional.softplus(self.bounds(x.detach(), of_bounded, bounded).float())
        return mean, torch.unflatten(self._enlarged(bounds, context), 0, (b, count))

    def _enlarged(self, maps: Tensor, context: Context) -> Tensor:
        """Maps (m, n, k, h', w') without padding, at the frame's size."""
        maps = maps[..., : context.size[0], : context.size[1]]
        size = context.sources.shape[-2:]
        if context.size == tuple(size):
            return maps
        grown = functional.interpolate(maps.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        return torch.unflatten(grown, 0, maps.shape[:2])

    def _mix(self, context: Context, maps: Tensor, leads: Tensor, final: bool = False) -> Tensor:
        """Frames (m, n, c, h, w) from the head's maps (m, n, outputs, h', w') at lead times (m, n); final: `_kept`."""
        c, h, w = context.sources.shape[2:]
        if torch.is_grad_enabled() or maps.shape[:2].numel() * self.sources * c * h * w <= _MIXED_AT_ONCE:
            frames = self._mix_all(context, maps, leads)
            return self._kept(frames, context, leads) if final else frames
        rows = len(maps) // len(context.sources)
        out = maps.new_empty((*maps.shape[:2], c, h, w), dtype=torch.float32)
        for i in range(len(maps)):  # large frames: one at a time
            flow = None if context.flow is None else context.flow[i // rows, None]
            one = Context(context.sources[i // rows, None], context.maps, flow, context.logs, context.size)
            for k in range(maps.shape[1]):
                lead = leads[i : i + 1, k : k + 1]
                frame = self._mix_all(one, maps[i : i + 1, k : k + 1], lead)
                out[i, k] = (self._kept(frame, one, lead) if final else frame)[0, 0]
        return out

    def _mix_all(self, context: Context, maps: Tensor, leads: Tensor) -> Tensor:
        with autocast_off(maps):
            maps = self._enlarged(maps.float(), context)
            rows = len(maps) // len(context.sources)
            logits, new, motion = torch.split(maps, list(self._layout.values()), 2)
            stills = context.sources if rows == 1 else context.sources.repeat_interleave(rows, 0)
            made = [] if context.flow is None else [self._moved(context, stills[:, 0], motion, leads)]
            if self.config.new:
                base = stills[:, -1:] if self.config.mean else stills[:, :1]
                made.append(base + new)
            return mixed(logits, stills, made)

    def _moved(self, context: Context, last: Tensor, motion: Tensor, leads: Tensor) -> Tensor:
        """The last frame, moved by k (g f + v) at lead time k: gate g in 0…2 and correction v per pixel, and f between
        the two velocities of the context.
        """
        assert context.flow is not None
        m, n = motion.shape[:2]
        flow = self._enlarged(context.flow[:, None], context)
        (h, w), (height, width) = context.size, last.shape[-2:]
        scale = constant([width / w, height / h], flow).view(1, 1, 2, 1, 1)
        newest, smooth = flow.repeat_interleave(m // len(flow), 0).chunk(2, 2)
        blend, gate = motion[:, :, :2].sigmoid().chunk(2, 2)
        moved = 2 * gate * torch.lerp(newest, smooth, blend) + 0.1 * motion[:, :, 2:]
        moved = moved * scale * leads.to(flow).view(m, n, 1, 1, 1)
        frames = last[:, None].expand(-1, n, -1, -1, -1).flatten(0, 1)
        return torch.unflatten(warp(frames, moved.flatten(0, 1)), 0, (m, n))
