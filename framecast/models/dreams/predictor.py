"""Dreams: a VAE encodes frames, a recurrent network predicts their latents, a decoder generates the frames.

Published code: gaborvecsei/Neural-Network-Dreams (2018), after Ha, Schmidhuber, "World Models", 2018, arXiv 1803.10122;
the mixture density output is Bishop 1994, "Mixture Density Networks", NCRG/94/004.

Six steps, as published: a variational autoencoder is trained on single frames (stage `vision`), all frames are encoded
once, windows are cut from the latents, a recurrent network is trained on them (stage `memory`), it continues a few true
latents by its own samples, and the decoder generates frames from them. With squared error it would predict the mean of
all possible futures; a mixture of Gaussians represents them separately. Actions condition the memory where the data
have them.

Deviations from the published codes, with reasons, are noted at each field of the config and in docs/models/dreams.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from framecast.core.errors import UserError
from framecast.core.schedules import Cosine
from framecast.core.types import Batch, ClipRequest, ClipSpec, GradClip, Loss, Optimiser, Phase, Stage, StopCondition
from framecast.models.base import Control, Predictor, RolloutState
from framecast.models.dreams.config import DRAWING, DreamsConfig, Head
from framecast.models.dreams.grid import (
    REACH,
    GridMemory,
    GridVAE,
    crops_of_change,
    grid_of,
    weighted_error,
)
from framecast.models.dreams.networks import VAE, Memory, glorot, vision_terms
from framecast.models.dreams.pictures import PictureMemory, grid_loss
from framecast.models.seeds import Generators, new_seed, next_tick, step_normal, step_uniform
from framecast.models.shrink import fit_shares, shrunk
from framecast.nn.fsq import Choice
from framecast.nn.mixture import Mixture

#: Side of the frames, px: what four unpadded convolutions of kernel 4 and stride 2 bring to 2x2.
SIDE = 64

#: Frames decoded at a time.
_CHUNK = 256

_WEIGHTS = "Choice among possible futures: at 0 always the most likely, above 1 unlikely ones more often."

_SIGMA = "Spread around the chosen future: none at 0, as learned at 1."


class Dreams(Predictor):
    """Variational autoencoder and mixture-density recurrent network: predicts video latent by latent."""

    Config = DreamsConfig
    family = "VAE and mixture-density RNN"
    paper = "Ha, Schmidhuber: World Models, 2018, arXiv 1803.10122; Bishop: Mixture Density Networks, NCRG/94/004, 1994"
    stochastic = True
    actions = "optional"
    config: DreamsConfig
    shares: Tensor | None

    def __init__(self, config: DreamsConfig, spec: ClipSpec) -> None:
        super().__init__(config, spec)
        self.action_size = spec.action_size if config.use_actions else 0
        #: Rows and columns of the grid of latents; one cell for a latent of the whole frame.
        self.grid = grid_of(config, spec) if config.latent == "grid" else (1, 1)
        self.vae = VAE(config, spec.channels) if config.latent == "frame" else GridVAE(config, spec.channels, self.grid)
        self.rnn = self._memory(config.head)
        self.calibration_horizon = config.shrink
        self.register_buffer("shares", torch.ones(config.shrink) if config.shrink else None)
        self.compared = nn.ModuleDict({head: self._memory(head) for head in config.compare})
        if config.latent == "frame":
            glorot(self)
        # Head and data settle what the class leaves open.
        self.stochastic = config.head in DRAWING
        self.actions = "required" if self.action_size else "none"
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _memory(self, head: Head) -> Memory | GridMemory | PictureMemory:
        config = self.config
        if config.latent == "grid":
            sizes = (config, self.action_size, self.grid, config.components(head))
            return GridMemory(*sizes) if config.grid_memory == "gru" else PictureMemory(*sizes, self.spec.channels)
        return Memory(config, config.code_size + self.action_size, head)

    @classmethod
    def request(cls, config: DreamsConfig) -> ClipRequest:
        """T frames and the next ones; with a carried state a whole sequence and the next frame."""
        future = config.recursion if config.recurrence == "window" else config.sequence + 1 - config.context
        return ClipRequest(context=config.context, future=future, stride=config.stride, resize=_resize(config))

    @classmethod
    def frame_size(cls, config: DreamsConfig, spec: ClipSpec) -> tuple[int, int] | None:
        """64x64; for a grid of latents the size that the model was built for."""
        return _resize(config) or (spec.height, spec.width)

    @classmethod
    def inference_only(cls, config: DreamsConfig) -> DreamsConfig:
        """The config without the memories of compared heads."""
        return replace(config, compare=())

    def subnetworks(self) -> dict[str, nn.Module]:
        """vae and rnn, and the memories of compared heads, by head."""
        return {"vae": self.vae, "rnn": self.rnn, **self.compared}

    def using(self, head: Head) -> Dreams:
        """The same model, weights shared, dreaming with another of the heads it was trained with.

        Raises:
            ValueError: naming those there are.
        """
        if head == self.config.head:
            return self
        if head not in self.compared:
            known = ", ".join((self.config.head, *self.config.compare))
            raise ValueError(f"this model was trained with {known}; train with model.compare to have {head} too")
        other = copy.copy(self)
        other._modules = {**self._modules, "rnn": self.compared[head], "compared": nn.ModuleDict()}
        other.config = replace(self.config, head=head, compare=())
        other.stochastic = head in DRAWING
        return other

    def stages(self) -> list[Stage]:
        """vision on single frames until patience or share ends; memory on windows of precomputed latents."""
        c = self.config
        vision, *memory = self.phases()
        return [
            Stage(
                name="vision",
                phases=[vision],
                until=StopCondition(patience=c.vision_patience, max_fraction=c.vision_share),
                request=self._vision_request(),
                loss=self.vision_loss,
            ),
            Stage(
                name="memory",
                phases=memory,
                until=StopCondition(patience=c.memory_patience),
                precompute_latents=self.latents,
                loss=self.memory_loss,
            ),
        ]

    def _vision_request(self) -> ClipRequest:
        """Single frames; for a grid four, spread over what the memory is trained on, whose batches are smaller."""
        c, whole = self.config, self.request(self.config)
        if c.latent == "frame":
            return ClipRequest(context=1, future=0, resize=whole.resize)
        return ClipRequest(context=4, future=0, stride=max(1, (whole.source_length - 1) // 3))

    def phases(self) -> list[Phase]:
        """vision trains the autoencoder; memory, and one phase a compared head, the recurrent networks."""
        optim = self.config.optim

        def adam(lr: float) -> Optimiser:
            schedule = Cosine() if optim.cosine else None
            return Optimiser(lr=lr, betas=optim.betas, eps=optim.eps, warmup=optim.warmup, schedule=schedule)

        clip = GradClip() if optim.clip is None else GradClip(kind="global", value=optim.clip)
        memory: dict[str, tuple[str, Callable[[Batch, int], Loss]]] = {"memory": ("rnn", self.memory_loss)}
        memory |= {head: (f"compared.{head}", partial(self._memory_loss, head=head)) for head in self.config.compare}
        return [
            Phase(name="vision", loss=self.vision_loss, modules=("vae",), optimiser=adam(optim.vision_lr)),
            *(
                Phase(name=name, loss=loss, modules=(module,), optimiser=adam(optim.memory_lr), clip=clip)
                for name, (module, loss) in memory.items()
            ),
        ]

    def check_initial_weights(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse a memory over another grid: its positions would be lost.

        Raises:
            UserError: naming both grids.
        """
        *_, height, width = shapes.get("rnn.positions", self.grid)
        if self.config.latent == "grid" and (height, width) != self.grid:
            side = self.config.cell_side
            raise UserError(
                f"--init-from: its memory was trained on a grid of {height}x{width} cells, this model has "
                f"{self.grid[0]}x{self.grid[1]}; use frames of {side * height}x{side * width} px"
            )

    def initialize_from_batch(self, batch: Batch) -> None:
        """Set the decoder's last biases so that it starts with the mean colour of the batch, or with its median picture
        for a grid of latents."""
        if not self.config.start_at_mean:
            return
        frames = _flat(torch.cat([batch.context, batch.future], 1))
        if isinstance(self.vae, GridVAE):
            self.vae.set_still(frames)
            return
        mean = frames.mean((0, 2, 3)).clamp(0.01, 0.99)
        last = self.vae.decoder[-2]
        assert isinstance(last, nn.ConvTranspose2d)
        assert last.bias is not None
        last.bias.copy_(mean.logit())

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Sum of both stages' losses, with the parts of both."""
        seen, next_code = self.vision_loss(batch), self.memory_loss(batch)
        return Loss(seen.total + next_code.total, {**seen.parts, **next_code.parts})

    def vision_loss(self, batch: Batch, step: int = 0) -> Loss:
        """reconstruction + kl_weight * kl of all frames of a batch, each frame by itself.

        Parts: reconstruction (squared error summed over a frame, 0…1), kl (nats a frame), unweighted. For a grid of
        latents the error in the total is weighted to what moves, and in training most frames are cropped.
        """
        frames = torch.cat([batch.context, batch.future], 1)
        if self.config.background == "last":  # another frame of the clip, or the same: nothing changes then
            ahead = int(torch.randint(frames.shape[1], ())) if self.training else 1
            frames = torch.cat([frames, frames.roll(ahead, 1)], 2)
        frames = frames.flatten(0, 1)
        if isinstance(self.vae, GridVAE):
            return self._grid_vision_loss(self.vae, frames, batch.elapsed)
        mean, logvar = self.vae.encode(frames)
        decoded = self.vae.decode(_drawn(mean, logvar))
        error, kl = vision_terms(frames, decoded, mean, logvar, self.config.kl_floor)
        return Loss(error + self.config.kl_weight * kl, {"reconstruction": error.detach(), "kl": kl.detach()})

    def _grid_vision_loss(self, vae: GridVAE, frames: Tensor, elapsed: float) -> Loss:
        c, still = self.config, None
        if self.training and c.crop_cells and elapsed < c.crop_share:
            # with a background, changes in either are looked for, and both have the same crop
            own = vae.still.repeat(frames.shape[1] // vae.still.shape[0], 1, 1)
            frames, still = crops_of_change(frames, own, c.cell_side, c.crop_cells)
            still = still[:, : vae.still.shape[0]]
        frames, *background = torch.split(frames, vae.still.shape[0], 1)
        mean, logvar = vae.encode(frames, still)
        latents = _drawn(mean, logvar)
        decoded = vae.decode(latents, still)
        weighted = weighted_error(frames, decoded, vae.still if still is None else still, c.change_weight)
        if background:
            drawn = vae.gated(decoded, latents, background[0], vae.encode(background[0], still)[0])
            weighted = c.drawn_weight * weighted + weighted_error(frames, drawn, background[0], c.change_weight)
            decoded = drawn
        if c.code == "discrete":
            return Loss(weighted, {"reconstruction": (frames - decoded).square().sum((1, 2, 3)).mean().detach()})
        error, kl = vision_terms(frames, decoded, mean, logvar, c.kl_floor)
        return Loss(weighted + c.kl_weight * kl, {"reconstruction": error.detach(), "kl": kl.detach()})

    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """Latents of a batch's context frames, (b, t, z): mean and logvar, or z, one sample that is kept."""
        mean, logvar = (rearrange(x, "(b t) z -> b t z", b=batch.size) for x in self.vae.encode(_flat(batch.context)))
        if self.config.code == "discrete":
            return {"z": mean}
        return {"mean": mean, "logvar": logvar} if self.config.resample else {"z": _drawn(mean, logvar)}

    def memory_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Loss of the model's own head, on windows of precomputed latents or latents of the batch's frames. Part: nll,
        nats per latent, where the head's output is a distribution; else mse."""
        return self._memory_loss(batch, step, self.config.head)

    def _memory_loss(self, batch: Batch, step: int, head: Head) -> Loss:
        if self.config.latent == "grid":
            return grid_loss(self, batch, head)
        latents, t = self.drawn_latents(self.encoded(batch)), self.config.context
        x, target = latents[:, :-1], latents[:, 1:]
        if self.action_size:
            if batch.actions is None:
                raise ValueError("this model was built for actions but the batch has none")
            x = torch.cat([x, batch.actions], -1)
        out, _ = self.recurrent(head)(x)
        if self.config.recurrence == "window":  # only the last step has seen all T latents
            assert latents.shape[1] == t + 1, (latents.shape, t)
            out, target = out[:, -1], target[:, -1]
        if head in DRAWING:
            value = -self.law(out, head).log_prob(target).mean()
            return Loss(value, {"nll": value.detach()})
        value = functional.mse_loss(self._code(out, head), target)
        return Loss(value, {"mse": value.detach()})

    @torch.no_grad()
    def encoded(self, batch: Batch) -> dict[str, Tensor]:
        """Precomputed latents of a batch's window, else latents of its frames; (b, length, z) each."""
        if batch.latents:
            return dict(batch.latents)
        return self.latents(Batch(context=torch.cat([batch.context, batch.future], 1), future=batch.future))

    def drawn_latents(self, found: dict[str, Tensor]) -> Tensor:
        """Latents (b, length, z), resampled from their Gaussians if so configured."""
        return found["z"] if "z" in found else _drawn(found["mean"], found["logvar"])

    def recurrent(self, head: Head) -> nn.Module:
        """The memory of a head."""
        return self.rnn if head == self.config.head else self.compared[head]

    def law(self, out: Tensor, head: Head) -> Mixture | Choice:
        """Distribution of a frame's latent (…, z); for a grid of every cell, (…, cells, code_size)."""
        c = self.config
        if c.code == "discrete":
            return Choice(out, c.levels)
        return Mixture.split(out, c.components(head), c.code_size, c.joint, c.spread, c.sigma_floor)

    @staticmethod
    def _code(out: Tensor, head: Head) -> Tensor:
        return out.softmax(-1) if head == "softmax-mse" else out

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """In vision, frames and their reconstruction; else context, truth and prediction."""
        if batch.future.shape[1]:
            return super().preview(batch)
        return {"truth": batch.context, "prediction": self.decode(self.encode(batch.context))}

    def final_videos(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        """`reconstruction`: original left, decoded right; `dream-<head>`: predicted from the first T frames.

        With actions, a dream is at most as long as these.
        """
        c, videos = self.config, dict[str, Tensor]()
        if c.reconstruction_frames:
            originals = frames[None, : c.reconstruction_frames]
            videos["reconstruction"] = torch.cat([originals, self.decode(self.encode(originals))], -1)[0]
        horizon, led = c.dream_frames, None
        if self.action_size:
            assert actions is not None, "a video of a model with actions needs them"
            horizon = min(horizon, len(actions) + 1 - c.context)
            led = actions[None, : c.context + max(horizon, 1) - 1]
        for head in (c.head, *c.compare) if horizon > 0 else ():
            generator = torch.Generator(frames.device).manual_seed(0)
            dream = self.using(head).predict(frames[: c.context], horizon, actions=led, generator=generator)
            videos[f"dream-{head}"] = dream[0, 0]
        return videos

    def encode(self, frames: Tensor) -> Tensor:
        """Mean latents (b, t, z) of frames (b, t, c, 64, 64) in 0…1.

        Raises:
            ValueError: for frames of another size.
        """
        height, width = _resize(self.config) or (self.spec.height, self.spec.width)
        if tuple(frames.shape[-2:]) != (height, width):
            raise ValueError(
                f"Dreams takes frames of {height}x{width}, got {frames.shape[-2]}x{frames.shape[-1]}; resize them "
                f"first (framecast.read_video(…, size=({height}, {width})))"
            )
        parts = [self.vae.encode(part)[0] for part in torch.split(_flat(frames), _CHUNK)]
        return rearrange(torch.cat(parts), "(b t) z -> b t z", b=len(frames))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames (b, t, c, 64, 64) in 0…1 of latents (b, t, z). The context is not needed."""
        parts = [self.vae.decode(part).clamp(0, 1) for part in torch.split(z.flatten(0, 1), _CHUNK)]
        return rearrange(torch.cat(parts), "(b t) c h w -> b t c h w", b=len(z))

    def controls(self) -> tuple[Control, ...]:
        """The two temperatures of a mixture, or that of discrete codes, if there is a distribution to sample from."""
        weights, sigma = (
            Control(name=name, label=f"Temperature: {label}", low=0.0, high=2.0, description=text)
            for name, label, text in (
                ("weight_temperature", "which future", _WEIGHTS),
                ("sigma_temperature", "how much noise", _SIGMA),
            )
        )
        if self.config.code == "discrete":  # a choice, without noise around it
            return (weights,)
        return (weights, sigma) if self.config.head in DRAWING else ()

    def get_latent(self, state: RolloutState) -> Tensor:
        """The latent of the last frame, (b, z)."""
        return state["latents"][:, -1]

    def with_latent(self, state: RolloutState, z: Tensor) -> RolloutState:
        """A copy of the state in which the last frame has the latent z (b, z)."""
        return {**state, "latents": torch.cat([state["latents"][:, :-1], z[:, None].to(state["latents"])], 1)}

    def initial_state(
        self, frames: Tensor, actions: Tensor | None, samples: int, generator: Generators
    ) -> RolloutState:
        """That of each clip, with the memory's state; with latents drawn as published where the config asks for it.

        Args:
            actions: the last T - 1, (b, T - 1, a).
        """
        c, state = self.config, super().initial_state(frames, actions, samples, generator)
        state |= {} if "seed" in state or c.resample else new_seed(len(frames) * samples, generator, frames)
        if not c.resample:  # as published: from a draw
            logvar = rearrange(self.vae.encode(_flat(frames))[1], "(b t) z -> b t z", b=len(frames))
            latents = state["latents"]
            noise = step_normal(state, tuple(latents.shape[1:]))
            state["latents"] = latents + (logvar / 2).exp().repeat(samples, 1, 1) * noise
            state = next_tick(state)
        if c.recurrence == "carried":
            before = state["latents"][:, :-1]
            if self.action_size:
                before = torch.cat([before, state["actions"]], -1)
            # With T = 1 nothing precedes the last latent: one step over nothing would already change the state.
            hidden = self.rnn(before)[1] if c.context > 1 else self._fresh(state["latents"])
            state |= {f"state{i}": value for i, value in enumerate(hidden)}
        return state

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """latents: the last T, (b, T, z); the newest is that of the last frame, and may be overwritten.
        weight_temperature, sigma_temperature: (b,), the config's; may be changed between frames.  actions: the last
        T - 1, (b, T - 1, a)."""
        c, latents = self.config, self.encode(frames)
        rows = latents.new_ones(len(latents))
        state = {
            "latents": latents,
            "weight_temperature": c.weight_temperature * rows,
            "sigma_temperature": c.sigma_temperature * rows,
        }
        if self.action_size:
            if actions is None and c.context > 1:
                raise ValueError(f"Dreams needs the {c.context - 1} actions of its context, got 0")
            state["actions"] = latents.new_zeros(len(frames), 0, self.action_size) if actions is None else actions
        if c.background == "last":
            state |= {"last": frames[:, -1], "last_latent": latents[:, -1]}
        if self.shares is not None:
            state |= {"last": frames[:, -1], "lead": torch.zeros(len(frames), dtype=torch.int64, device=frames.device)}
        return state

    def _fresh(self, latents: Tensor) -> Sequence[Tensor]:
        if isinstance(self.rnn, GridMemory):
            return self.rnn.fresh(latents)
        parts = 2 if self.config.cell == "lstm" else 1
        return [latents.new_zeros(len(latents), size) for size in self.config.memory_sizes for _ in range(parts)]

    @torch.no_grad()
    def rollout_latent(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The next state, with one further latent, and that latent, (s b, z).

        Args:
            action: ((s b), a), what is done at the last frame, for a model with actions.
        """
        c, latents, new = self.config, state["latents"], dict(state)
        x = latents if c.recurrence == "window" else latents[:, -1:]
        if self.action_size:
            if action is None:
                wanted = f"((s b), {self.action_size})"
                raise ValueError(f"Dreams predicts from actions: pass the action at each frame, {wanted}")
            known = torch.cat([state["actions"], action[:, None].to(latents)], 1)
            x = torch.cat([x, known[:, -x.shape[1] :]], -1)
            new["actions"] = known[:, 1:]
        if "lead" in state:
            new["lead"] = state["lead"] + 1
        beside: list[Any] = [state[f"state{i}"] for i in range(sum(k.startswith("state") for k in state))]
        if isinstance(self.rnn, PictureMemory):
            beside = [self.decode(latents[:, -c.memory_frames :]), self.vae]
        out, after = self.rnn(x, *beside)
        if c.recurrence == "carried":
            new |= {f"state{i}": value for i, value in enumerate(after)}
        latent = self._next(out[:, -1], state)
        new["latents"] = torch.cat([latents[:, 1:], latent[:, None]], 1)
        return next_tick(new), latent

    def draw_frames(self, state: RolloutState, latents: Tensor) -> Tensor:
        """Frames of latents, decoded together; the state is that after the last of them."""
        frames = self.decode(latents)
        if isinstance(self.vae, GridVAE) and self.vae.gate is not None:
            n = frames.shape[1]
            last, base = (state[k].repeat_interleave(n, 0) for k in ("last", "last_latent"))
            drawn = self.vae.gated(frames.flatten(0, 1), latents.flatten(0, 1), last, base)
            frames = drawn.view(frames.shape)
        return frames if self.shares is None else shrunk(frames, state["last"], self.shares, state["lead"])

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Set the shares of the change from the last true frame that are kept, from held-out clips."""
        if self.shares is not None:
            fit_shares(self, self.shares, batches)

    def _next(self, out: Tensor, state: RolloutState) -> Tensor:
        if self.config.head not in DRAWING:
            return self._code(out, self.config.head)
        rows = [-1, *[1] * (out.ndim - 2)]  # a temperature holds for all cells of a clip
        law, weight = self.law(out, self.config.head), state["weight_temperature"].view(rows)
        uniform = step_uniform(state, tuple(law.logits.shape[1:]))
        if isinstance(law, Choice):
            return law.sample(weight, uniform).flatten(1)
        *cells, _, size = law.mean.shape[1:]
        sigma, normal = state["sigma_temperature"].view(rows), step_normal(state, (*cells, size), draw=1)
        latent = law.sample(weight, sigma, self.config.sigma_is_variance, uniform, normal)
        return latent.flatten(1).clamp(-REACH, REACH) if self.config.latent == "grid" else latent


def _resize(config: DreamsConfig) -> tuple[int, int] | None:
    """The only size of frames of a config; None where cells of a grid divide frames of any size."""
    return (SIDE, SIDE) if config.latent == "frame" else None


def _flat(frames: Tensor) -> Tensor:
    return rearrange(frames, "b t c h w -> (b t) c h w")


def _drawn(mean: Tensor, logvar: Tensor) -> Tensor:
    """One draw of N(mean, exp(logvar)), by torch's global generator, which the engine seeds at every step."""
    return mean + (logvar / 2).exp() * torch.randn_like(mean)
