"""Hierarchical long-term prediction: structure is predicted recurrently, pixels are generated once per frame.

Paper: Wichers, Villegas, Erhan, Lee, "Hierarchical Long-term Video Prediction without Supervision", ICML 2018, arXiv
1806.04768. An encoder turns a frame into a small vector e_t, a recurrent predictor continues these vectors (with the
actions, if there are any), and a visual analogy network (VAN) draws each future frame from the first frame, its vector
and the predicted one, blended with the first frame by a mask. No pixel is fed back, so pixel errors do not accumulate.
The mode decides how the three are trained: a list of phases.

What deviates from the paper and the published code, and why, is noted at each field of the config, in config.py, and in
docs/models/hierarchical.md. The first `context` frames are encoded; every frame after those of the background is drawn
and trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.schedules import between, every
from framecast.core.types import Batch, ClipRequest, ClipSpec, GradClip, Loss, Optimiser, Phase, Stage
from framecast.models.base import Predictor, RolloutState
from framecast.models.hierarchical import objectives
from framecast.models.hierarchical.config import HierarchicalConfig
from framecast.models.hierarchical.networks import (
    NOISE_SIZE,
    AnalogyNetwork,
    Discriminator,
    Drawn,
    Encoder,
    StructurePredictor,
)
from framecast.models.inputs import Frames, as_frames
from framecast.models.seeds import Generators, next_tick, step_normal
from framecast.models.shrink import fit_shares, shrunk
from framecast.nn.colour import shift_hue
from framecast.nn.vgg import load_imagenet

#: Frames drawn at a time outside training.
CHUNK = 64
#: Largest side of frames, px: every pixel has a weight for every number of an encoding.
LARGEST = 512


class Hierarchical(Predictor):
    """Predicts a small vector per frame and draws every frame from the first one, for hundreds of frames."""

    Config = HierarchicalConfig
    family = "hierarchical long-term prediction"
    paper = (
        "Wichers, Villegas, Erhan, Lee: Hierarchical Long-term Video Prediction without Supervision, ICML 2018, "
        "arXiv 1806.04768"
    )
    actions = "optional"
    config: HierarchicalConfig
    shares: Tensor | None

    def __init__(self, config: HierarchicalConfig, spec: ClipSpec) -> None:
        super().__init__(config, spec)
        self.action_size = spec.action_size or config.blank_actions
        self.stochastic = config.predictor_noise > 0
        if config.posed:
            config.check_pose(spec)
        c, size = config, config.encoding_size
        self.side = (config.size, config.size) if config.size else (spec.height, spec.width)
        if max(self.side) > LARGEST:
            raise UserError(
                f"frames of {self.side[0]}x{self.side[1]} are too large for networks that encode whole frames, the "
                f"largest side is {LARGEST} px; use --size 128, or --model.size 64"
            )
        side = tuple(-(-s // config.step) * config.step for s in self.side)  # networks work on padded frames
        self.padding = (0, side[1] - self.side[1], 0, side[0] - self.side[0])
        side = (side[0], side[1])
        prepared = "slim" if c.encoder_input == "auto" else c.encoder_input
        self.encoder = Encoder(
            size, side, spec.channels, c.encoder_widths, prepared, c.encoder_keep, c.grey_encoder, c.normalise
        )
        self.predictor = StructurePredictor(
            size,
            self.action_size,
            c.predictor_depth,
            c.predictor_noise,
            c.state_noise,
            c.normalise,
            c.predict_change,
        )
        self.van = AnalogyNetwork(
            size,
            side,
            spec.channels,
            c.van_width,
            c.van_keep,
            c.van_leak,
            c.first_frame,
            c.scene,
            c.background == "mixed",
            c.skips,
            c.mask_bias,
        )
        self.discriminator = Discriminator(size, config.size, c.van_width) if c.mode == "epva-gan" else None
        self.calibration_horizon = c.shrink
        self.register_buffer("shares", torch.ones(c.shrink) if c.shrink else None)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def request(cls, config: HierarchicalConfig) -> ClipRequest:
        """Whole clips at the model's size, with poses where the mode needs them."""
        return ClipRequest(
            context=config.context,
            future=config.future,
            stride=config.stride,
            resize=(config.size, config.size) if config.size else None,
            extras=config.pose if config.posed else (),
        )

    @classmethod
    def fit_to_data(cls, config: HierarchicalConfig, holds: Callable[[ClipRequest], bool]) -> HierarchicalConfig:
        """With shares, the config with the longest future, halved again and again, and then the longest context that
        the data have."""
        while config.shrink and config.future > 1 and not holds(cls.request(config)):
            future = config.future // 2
            config = replace(config, future=future, shrink=min(config.shrink, future))
        while config.shrink and config.context > 2 and not holds(cls.request(config)):
            config = replace(config, context=config.context - 1)
        return config

    @classmethod
    def frame_size(cls, config: HierarchicalConfig, spec: ClipSpec) -> tuple[int, int]:
        """`size`, or the training size: the linear layers have one weight per pixel of the smallest map."""
        return (config.size, config.size) if config.size else (spec.height, spec.width)

    def subnetworks(self) -> dict[str, nn.Module]:
        """encoder, predictor, van, and discriminator where there is one."""
        parts: dict[str, nn.Module] = {"encoder": self.encoder, "predictor": self.predictor, "van": self.van}
        return parts if self.discriminator is None else {**parts, "discriminator": self.discriminator}

    def import_weights(self, path: Path) -> int:
        """Fill the encoder's convolutions with ImageNet weights of either convention; how many tensors."""
        convention = self.config.encoder_input
        return load_imagenet(self.encoder.trunk, path, None if convention == "auto" else convention)

    # ------------------------------------------------------------------------------------------------ the chain

    def encode(self, frames: Tensor) -> Tensor:
        """Encodings (b, t, E) of frames (b, t, c, h, w) in 0…1."""
        if tuple(frames.shape[-2:]) != self.side:
            raise ValueError(
                f"{type(self).__name__} takes frames of {self.side[0]}x{self.side[1]}, got "
                f"{frames.shape[-2]}x{frames.shape[-1]}; bring them to that size"
            )
        found: Tensor = self.encoder(self.padded(frames).flatten(0, 1))
        return found.reshape(*frames.shape[:2], -1)

    def padded(self, frames: Tensor) -> Tensor:
        """Frames (b, t, c, h, w) with repeated edges below and on the right, at the size of the networks."""
        if not any(self.padding):
            return frames
        padded = F.pad(frames.flatten(0, 1), self.padding, mode="replicate")
        return padded.reshape(*frames.shape[:2], *padded.shape[1:])

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames (b, t, c, h, w) in 0…1 of encodings (b, t, E), drawn from the first frame of `context`, or, with
        another background, from its last `scene` frames."""
        if context is None and not self.config.first_frame:
            return self.draw(z.new_zeros(len(z), 1, self.spec.channels, *self.side), z[:, 0], z).frames.clamp(0, 1)
        if context is None:
            raise ValueError(f"{type(self).__name__}.decode draws from a first frame: give context (b, t, c, h, w)")
        kept = self.config.scene
        frames = context[:, :1] if self.config.background == "first" else context[:, -kept:]
        frames = torch.cat([*[frames[:, :1]] * (kept - frames.shape[1]), frames], 1)
        return self.draw(frames, self.encode(frames[:, -1:])[:, 0], z).frames.clamp(0, 1)

    def roll(self, encodings: Tensor, commands: Tensor) -> Tensor:
        """Predicted encodings ê_1 … ê_n (b, n, E): the true ones go in first, then what came out.

        Args:
            encodings: e_0 … (b, context, E).
            commands: (b, n, a).
        """
        states, found = self.predictor.start(len(encodings)), list[Tensor]()
        cells = self.predictor.rolled()
        for t in range(commands.shape[1]):
            here = encodings[:, t] if t < encodings.shape[1] else found[-1]
            here, states = self.predictor(here, commands[:, t], states, cells=cells)
            found.append(here)
        return torch.stack(found, 1)

    def draw(self, scene: Tensor, encoding: Tensor, targets: Tensor) -> Drawn:
        """What the VAN draws of encodings (b, t, E).

        Args:
            scene: true frames of the background, (b, `scene`, c, h, w).
            encoding: that of the last of them, (b, E).
        """
        scene = self.padded(scene)
        return self.draw_padded(scene, self.van.anchor(scene, encoding), targets)

    def draw_padded(self, scene: Tensor, anchor: Tensor, targets: Tensor) -> Drawn:
        """The same from padded frames and their share of the analogy, without the padding."""
        h, w = self.side
        if torch.is_grad_enabled():
            return Drawn(*(x[..., :h, :w] for x in self.van(scene, anchor, targets)))
        parts = [self.van(scene, anchor, part) for part in torch.split(targets, max(1, CHUNK // len(scene)), 1)]
        return Drawn(*(torch.cat(each, 1)[..., :h, :w] for each in zip(*parts, strict=True)))

    def commands_of(self, actions: Tensor | None, like: Tensor, count: int) -> Tensor:
        """Actions (b, count, a) as they are, or zeros where there are none."""
        if actions is None or not self.spec.action_size:
            return like.new_zeros(len(like), count, self.action_size)
        return actions[:, :count]

    # ------------------------------------------------------------------------------------------------- training

    def stages(self) -> list[Stage]:
        """One stage, as long as the run; mode predictor uses precomputed encodings."""
        if self.config.mode != "predictor":
            return super().stages()
        alone = partial(objectives.prediction_loss, self)
        return [Stage(name="predictor", phases=self.phases(), precompute_latents=self.encodings, loss=alone)]

    def initialize_from_batch(self, batch: Batch) -> None:
        """Reject mode predictor without `--init-from`: its encoder would stay random."""
        if self.config.mode == "predictor":
            raise UserError(
                "mode predictor trains on the encodings of a trained encoder; give its run with "
                "--init-from, or use mode epva"
            )

    def phases(self) -> list[Phase]:
        """The mode as a list of phases: which loss trains which networks, and when."""
        c, rates = self.config, self.config.optim
        clip = GradClip(kind="tensor", value=rates.clip) if rates.clip else GradClip()

        def phase(name: str, loss: Callable[..., Loss], modules: tuple[str, ...], lr: float) -> Phase:
            return Phase(
                name=name,
                loss=partial(loss, self),
                modules=modules,
                optimiser=Optimiser(lr=lr),
                clip=clip,
                group=c.mode,
            )

        if c.mode == "individual":
            return [
                phase("encoder", objectives.encoder_pose_loss, ("encoder",), rates.encoder_lr),
                phase("predictor", objectives.pose_prediction_loss, ("predictor",), rates.predictor_lr),
                phase("van", objectives.van_on_pose_loss, ("van",), rates.van_lr),
            ]
        if c.mode == "predictor":
            return [phase("predictor", objectives.prediction_loss, ("predictor",), rates.predictor_lr)]
        if c.mode == "e2e-pose" and c.pose_optimisers == "each":
            return [
                phase("all", objectives.van_loss, ("",), rates.all_lr),
                phase("encoder", objectives.encoder_pose_loss, ("encoder",), rates.encoder_lr),
                phase("predictor", objectives.predictor_pose_loss, ("predictor",), rates.predictor_lr),
            ]
        if c.mode == "epva-gan":
            joint = [
                phase("generator", objectives.generator_loss, ("encoder", "predictor"), rates.predictor_lr),
                phase("van", objectives.van_on_encoding_loss, ("encoder", "van"), rates.van_lr),
            ]
            critic = phase("critic", objectives.critic_loss, ("discriminator",), rates.discriminator_lr)
            critic = replace(critic, clip=GradClip(), group=None, should_run=between(c.critic_steps + 1))
            return [replace(p, should_run=every(c.critic_steps + 1)) for p in joint] + [critic]
        loss = {"e2e": objectives.van_loss, "epva": objectives.epva_loss, "e2e-pose": objectives.e2e_pose_loss}[c.mode]
        return [phase(c.mode, loss, ("",), rates.all_lr)]

    @torch.no_grad()
    def encodings(self, batch: Batch) -> dict[str, Tensor]:
        """Those of the context's frames, (b, t, E)."""
        return {"encodings": self.encode(batch.context)}

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """The mode's objective and measures of the whole chain, see `objectives.objective`."""
        return objectives.objective(self, batch, step)

    def clip_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The whole clip (b, t, c, h, w), with random hue in training if configured, and its commands (b, t - 1, a)."""
        frames = torch.cat([batch.context, batch.future], 1)
        if self.config.hue and self.training and frames.shape[2] == 3:
            frames = shift_hue(frames, torch.rand(len(frames), device=frames.device) - 0.5)
        return frames, self.commands_of(batch.actions, frames, frames.shape[1] - 1)

    # ---------------------------------------------------------------------------------------------- prediction

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """context, truth and prediction; reconstruction from true encodings, and the prediction's masks as grey."""
        count = batch.future.shape[1]
        masks = self.masks(batch.context, count, self.batch_actions(batch, count)).expand_as(batch.future)
        rebuilt = self.reconstruct(torch.cat([batch.context, batch.future], 1))[:, -count:]
        return {**super().preview(batch), "reconstruction": rebuilt, "mask": masks}

    @torch.no_grad()
    def masks(self, context: Frames, horizon: int, actions: Frames | None = None, normalise: bool = False) -> Tensor:
        """Weight of newly drawn pixels against the first frame in every pixel of the prediction: (b, horizon, 1, h, w)
        in 0…1.

        Args:
            normalise: divide by each mask's largest value, as the published outputs are.
        """
        frames = as_frames(context, self)[:, -self.num_context :]
        given = None if actions is None else torch.as_tensor(actions, dtype=torch.float32, device=frames.device)
        given = None if given is None else given[:, -(frames.shape[1] + horizon - 1) :]
        state, encodings = self._unrolled(frames, horizon, given, 1, None)
        masks = self.draw_padded(state["scene"], state["anchor"], encodings).mask
        return masks / masks.amax((2, 3, 4), keepdim=True).clamp_min(1e-12) if normalise else masks

    def views(
        self, context: Frames, horizon: int, actions: Frames | None = None, known: Frames | None = None
    ) -> dict[str, Tensor]:
        """mask: of the forecast.  reconstruction: what is known of the future, drawn from its own encodings."""
        found = {"mask": self.masks(context, horizon, actions)}
        if known is not None and known.shape[1]:
            first = as_frames(context, self)[:, -self.num_context :][:, : self.config.scene]
            found["reconstruction"] = self.reconstruct(torch.cat([first, as_frames(known, self)], 1))
        return found

    @torch.no_grad()
    def reconstruct(self, frames: Frames) -> Tensor:
        """The frames after those of the background drawn from their own encodings: a reconstruction, not a forecast.

        Args:
            frames: (b, t, c, h, w), t above `scene`, which is 1 with the first frame as background.

        Returns:
            (b, t - `scene`, c, h, w) in 0…1.
        """
        frames, kept = as_frames(frames, self), self.config.scene
        return self.decode(self.encode(frames[:, kept:]), frames[:, :kept])

    def initial_state(
        self, frames: Tensor, actions: Tensor | None, samples: int, generator: Generators
    ) -> RolloutState:
        """That of each clip after the predictor's steps over the context.  states, encoding: of the predictor, and its
        next input."""
        state = super().initial_state(frames, actions, samples, generator)
        encodings, commands = state.pop("encodings"), state.pop("commands")
        state |= {"encoding": encodings[:, -1], "states": self.predictor.start(len(encodings))}
        for t in range(commands.shape[1]):
            _, states = self.predictor(encodings[:, t], commands[:, t], state["states"], self._noise(state))
            state = {**next_tick(state), "states": states}
        return state

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """scene, anchor: the frames of the background, padded, and their share of the analogy.  encodings, commands: of
        the context.  With shares also last: the last true frame, and lead: the number of frames predicted, (b,)."""
        encodings, kept = self.encode(frames), self.config.scene
        scene = self.padded(frames[:, :kept])
        state = {
            "scene": scene,
            "anchor": self.van.anchor(scene, encodings[:, kept - 1]),
            "encodings": encodings,
            "commands": self.commands_of(actions, frames, frames.shape[1] - 1),
        }
        if self.shares is not None:
            state |= {"last": frames[:, -1], "lead": torch.zeros(len(frames), dtype=torch.int64, device=frames.device)}
        return state

    @torch.no_grad()
    def rollout_latent(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """One step of the predictor, and its encoding (s b, E). Without actions a model that was trained with them uses
        the mean action of its data."""
        command = self.commands_of(None if action is None else action[:, None], state["scene"], 1)[:, 0]
        encoding, states = self.predictor(state["encoding"], command, state["states"], self._noise(state))
        new = {**next_tick(state), "encoding": encoding, "states": states}
        if "lead" in state:
            new["lead"] = state["lead"] + 1
        return new, encoding

    def draw_frames(self, state: RolloutState, latents: Tensor) -> Tensor:
        """Frames of encodings (s b, t, E), drawn from the context; the state is that after the last of them.

        With shares each is the last true frame and the share of its lead time of the change from it.
        """
        frames = self.draw_padded(state["scene"], state["anchor"], latents).frames.clamp(0, 1)
        return frames if self.shares is None else shrunk(frames, state["last"], self.shares, state["lead"])

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Set the shares of the change from the last true frame that are kept, from held-out clips."""
        if self.shares is not None:
            fit_shares(self, self.shares, batches)

    def _noise(self, state: RolloutState) -> Tensor | None:
        """Noise of this step, where the predictor has any."""
        return step_normal(state, (NOISE_SIZE,)) if self.stochastic else None
