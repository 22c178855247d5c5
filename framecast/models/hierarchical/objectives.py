"""Networks, modes and losses of hierarchical long-term prediction, arXiv 1806.04768: what is trained, and on what.

`Objectives` builds the three networks, runs them over a clip and gives the loss and the phases of each mode; the
forecast itself is in predictor.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.schedules import between, every
from framecast.core.types import Batch, ClipRequest, ClipSpec, GradClip, Loss, Optimiser, Phase, Stage
from framecast.models.base import Predictor
from framecast.models.hierarchical.config import HierarchicalConfig
from framecast.models.hierarchical.losses import (
    as_loss,
    critic_gap,
    critic_sequences,
    encoding_loss,
    gradient_penalty,
    pose_loss,
    psnr_parts,
)
from framecast.models.hierarchical.networks import AnalogyNetwork, Discriminator, Drawn, Encoder, StructurePredictor
from framecast.nn.colour import shift_hue
from framecast.nn.losses import change_error, lp
from framecast.nn.vgg import load_imagenet

#: Frames drawn at a time outside training.
CHUNK = 64


class Objectives(Predictor):
    """Encoder, predictor and VAN over a clip, and the losses of the modes that train them."""

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
        found: Tensor = self.encoder(self._padded(frames).flatten(0, 1))
        return found.reshape(*frames.shape[:2], -1)

    def _padded(self, frames: Tensor) -> Tensor:
        """Frames (b, t, c, h, w) with repeated edges below and on the right, at the size of the networks."""
        if not any(self.padding):
            return frames
        padded = F.pad(frames.flatten(0, 1), self.padding, mode="replicate")
        return padded.reshape(*frames.shape[:2], *padded.shape[1:])

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames (b, t, c, h, w) in 0…1 of encodings (b, t, E), drawn from the first frame of `context`, or, with
        another background, from its last `scene` frames."""
        if context is None and not self.config.first_frame:
            return self._draw(z.new_zeros(len(z), 1, self.spec.channels, *self.side), z[:, 0], z).frames.clamp(0, 1)
        if context is None:
            raise ValueError(f"{type(self).__name__}.decode draws from a first frame: give context (b, t, c, h, w)")
        kept = self.config.scene
        frames = context[:, :1] if self.config.background == "first" else context[:, -kept:]
        frames = torch.cat([*[frames[:, :1]] * (kept - frames.shape[1]), frames], 1)
        return self._draw(frames, self.encode(frames[:, -1:])[:, 0], z).frames.clamp(0, 1)

    def _roll(self, encodings: Tensor, commands: Tensor) -> Tensor:
        """Predicted encodings ê_1 … ê_n (b, n, E): the true ones go in first, then what came out.

        Args:
            encodings: e_0 … (b, context, E).
            commands: (b, n, a).
        """
        states, found = self.predictor.start(len(encodings)), list[Tensor]()
        for t in range(commands.shape[1]):
            here = encodings[:, t] if t < encodings.shape[1] else found[-1]
            here, states = self.predictor(here, commands[:, t], states)
            found.append(here)
        return torch.stack(found, 1)

    def _draw(self, scene: Tensor, encoding: Tensor, targets: Tensor) -> Drawn:
        """What the VAN draws of encodings (b, t, E).

        Args:
            scene: true frames of the background, (b, `scene`, c, h, w).
            encoding: that of the last of them, (b, E).
        """
        scene = self._padded(scene)
        return self._drawn(scene, self.van.anchor(scene, encoding), targets)

    def _drawn(self, scene: Tensor, anchor: Tensor, targets: Tensor) -> Drawn:
        """The same from padded frames and their share of the analogy, without the padding."""
        h, w = self.side
        if torch.is_grad_enabled():
            return Drawn(*(x[..., :h, :w] for x in self.van(scene, anchor, targets)))
        parts = [self.van(scene, anchor, part) for part in torch.split(targets, max(1, CHUNK // len(scene)), 1)]
        return Drawn(*(torch.cat(each, 1)[..., :h, :w] for each in zip(*parts, strict=True)))

    def _commands(self, actions: Tensor | None, like: Tensor, count: int) -> Tensor:
        """Actions (b, count, a) as they are, or zeros where there are none."""
        if actions is None or not self.spec.action_size:
            return like.new_zeros(len(like), count, self.action_size)
        return actions[:, :count]

    # ------------------------------------------------------------------------------------------------- training

    def stages(self) -> list[Stage]:
        """One stage, as long as the run; mode predictor uses precomputed encodings."""
        if self.config.mode != "predictor":
            return super().stages()
        alone = self.prediction_loss
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

        def phase(name: str, loss: Callable[[Batch, int], Loss], modules: tuple[str, ...], lr: float) -> Phase:
            return Phase(name=name, loss=loss, modules=modules, optimiser=Optimiser(lr=lr), clip=clip, group=c.mode)

        if c.mode == "individual":
            return [
                phase("encoder", self.encoder_pose_loss, ("encoder",), rates.encoder_lr),
                phase("predictor", self.pose_prediction_loss, ("predictor",), rates.predictor_lr),
                phase("van", self.van_on_pose_loss, ("van",), rates.van_lr),
            ]
        if c.mode == "predictor":
            return [phase("predictor", self.prediction_loss, ("predictor",), rates.predictor_lr)]
        if c.mode == "e2e-pose" and c.pose_optimisers == "each":
            return [
                phase("all", self.van_loss, ("",), rates.all_lr),
                phase("encoder", self.encoder_pose_loss, ("encoder",), rates.encoder_lr),
                phase("predictor", self.predictor_pose_loss, ("predictor",), rates.predictor_lr),
            ]
        if c.mode == "epva-gan":
            joint = [
                phase("generator", self.generator_loss, ("encoder", "predictor"), rates.predictor_lr),
                phase("van", self.van_on_encoding_loss, ("encoder", "van"), rates.van_lr),
            ]
            critic = phase("critic", self.critic_loss, ("discriminator",), rates.discriminator_lr)
            critic = replace(critic, clip=GradClip(), group=None, should_run=between(c.critic_steps + 1))
            return [replace(p, should_run=every(c.critic_steps + 1)) for p in joint] + [critic]
        loss = {"e2e": self.van_loss, "epva": self.epva_loss, "e2e-pose": self.e2e_pose_loss}[c.mode]
        return [phase(c.mode, loss, ("",), rates.all_lr)]

    def van_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Pixels drawn from predicted encodings against the truth. Only the context reaches the encoder."""
        frames, commands = self._clip(batch)
        encodings = self.encode(frames[:, : self.config.context])
        return as_loss(van=self._pixels(frames, encodings, self._roll(encodings, commands)))

    def epva_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Pixels drawn from true encodings, + alpha(step) times predicted against true encodings."""
        frames, commands = self._clip(batch)
        count, head = frames.shape[1], frames.shape[1]
        if self.training and 0 < self.config.rolled < count:
            head = self.config.rolled
            later = 1 + torch.randperm(count - 1, device=frames.device)[: self.config.drawn or count]
            frames = torch.cat([frames[:, :head], frames[:, later]], 1)
        encodings = self.encode(frames)
        predicted = self._roll(encodings[:, : self.config.context], commands[:, : head - 1])
        apart = self._apart(predicted, encodings[:, :head])
        if head < count:  # the background and those that are drawn
            kept = self.config.scene
            frames, encodings = (torch.cat([x[:, :kept], x[:, head:]], 1) for x in (frames, encodings))
        parts = {"van_on_enc": self._reconstruction(frames, encodings), "enc_pred": apart}
        total = parts["van_on_enc"] + self.config.weight(step) * parts["enc_pred"]
        return as_loss(total, **parts, spread=encodings.std((0, 1)).mean())

    def van_on_encoding_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Pixels drawn from true encodings against the truth."""
        frames, _ = self._clip(batch)
        return as_loss(van_on_enc=self._reconstruction(frames, self.encode(frames)))

    def prediction_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Predicted against true encodings, which are constants here; explained: the fraction of their variance."""
        encodings = batch.latents.get("encodings")
        if encodings is None:
            frames, _ = self._clip(batch)
            encodings = self.encodings(Batch(context=frames, future=frames[:, :0]))["encodings"]
        commands = self._commands(batch.actions, encodings, encodings.shape[1] - 1)
        predicted = self._roll(encodings[:, : self.config.context], commands)
        apart, target = self._apart(predicted, encodings), encodings[:, 1:]
        spread = (target - target.mean((0, 1))).square().mean()
        return as_loss(enc_pred=apart, explained=1 - (predicted - target).square().mean() / spread.clamp_min(1e-12))

    @torch.no_grad()
    def encodings(self, batch: Batch) -> dict[str, Tensor]:
        """Those of the context's frames, (b, t, E)."""
        return {"encodings": self.encode(batch.context)}

    def _reconstruction(self, frames: Tensor, encodings: Tensor) -> Tensor:
        targets = encodings[:, 1:]
        if self.training and self.config.encoding_noise:
            targets = targets + nn.init.trunc_normal_(torch.empty_like(targets)) * self.config.encoding_noise
        return self._pixels(frames, encodings, targets)

    def _pixels(self, frames: Tensor, encodings: Tensor, targets: Tensor) -> Tensor:
        """Squared error of the frames after the background's, drawn from their encodings; while training, of `drawn`
        random ones. What changes may count more, and the new frames alone may count too.

        Args:
            frames: (b, t, c, h, w).
            encodings: of the background's frames at least, (b, `scene` or more, E).
            targets: encodings of frames 1 …, (b, t - 1, E).
        """
        kept = self.config.scene
        truth, targets = frames[:, kept:], targets[:, kept - 1 :]
        count = targets.shape[1]
        if self.training and 0 < self.config.drawn < count:
            chosen = torch.randperm(count, device=frames.device)[: self.config.drawn]
            targets, truth = targets[:, chosen], truth[:, chosen]
        drawn = self._draw(frames[:, :kept], encodings[:, kept - 1], targets)

        def error(images: Tensor) -> Tensor:
            if not self.config.change_weight:
                return lp(images, truth, 2.0)
            return change_error(images, truth, frames[:, kept - 1 : kept], self.config.change_weight)

        found = error(drawn.frames)
        return found + self.config.new_weight * error(drawn.new) if self.config.new_weight else found

    def _apart(self, predicted: Tensor, encodings: Tensor) -> Tensor:
        return encoding_loss(predicted, encodings[:, 1:], self.config.encoding_loss)

    def encoder_pose_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Encodings' first numbers against the pose, all frames."""
        frames, _ = self._clip(batch)
        return as_loss(pose_from_enc=self._off(self.encode(frames), self._pose(batch)))

    def predictor_pose_loss(self, batch: Batch, step: int = 0) -> Loss:
        """The same of predicted encodings, from frame 1 on."""
        frames, commands = self._clip(batch)
        predicted = self._roll(self.encode(frames[:, : self.config.context]), commands)
        return as_loss(pose_from_pred=self._off(predicted, self._pose(batch)[:, 1:]))

    def pose_prediction_loss(self, batch: Batch, step: int = 0) -> Loss:
        """The predictor run on true poses, then on its own, against the pose."""
        poses = self._pose(batch)
        commands = self._commands(batch.actions, poses, poses.shape[1] - 1)
        predicted = self._roll(poses[:, : self.config.context], commands)
        return as_loss(pose_from_pred_on_pose=self._off(predicted, poses[:, 1:]))

    def van_on_pose_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Pixels drawn from true poses against the truth."""
        frames, poses = self._clip(batch)[0], self._pose(batch)
        return as_loss(van_on_pose=self._pixels(frames, poses, poses[:, 1:]))

    def e2e_pose_loss(self, batch: Batch, step: int = 0) -> Loss:
        """van_loss + pose_weight times the pose losses of true and predicted encodings."""
        frames, commands = self._clip(batch)
        poses, encodings = self._pose(batch), self.encode(frames)
        predicted = self._roll(encodings[:, : self.config.context], commands)
        van = self._pixels(frames, encodings, predicted)
        ours, theirs = self._off(encodings, poses), self._off(predicted, poses[:, 1:])
        total = van + self.config.pose_weight * (ours + theirs)
        return as_loss(total, van=van, pose_from_enc=ours, pose_from_pred=theirs)

    def _pose(self, batch: Batch) -> Tensor:
        return torch.cat([batch.extras[name].float().flatten(2) for name in self.config.pose], -1)

    def _off(self, encodings: Tensor, poses: Tensor) -> Tensor:
        return pose_loss(encodings[..., : poses.shape[-1]], poses, self.config.either_sign)

    def generator_loss(self, batch: Batch, step: int = 0) -> Loss:
        """-(critic of predicted - critic of true structures) + alpha times predicted against true encodings.

        The true term stays, so its gradient too reaches the encoder, through the VAN's structure encoder, which is
        not trained here. Source: equation 7 of the paper, with one score for a sequence, as in the code.
        """
        frames, commands = self._clip(batch)
        encodings = self.encode(frames)
        predicted = self._roll(encodings[:, : self.config.context], commands)
        gap = -self._verdict(*self._sequences(encodings, predicted))
        apart = self._apart(predicted, encodings)
        return as_loss(gap + self.config.alpha * apart, generator=gap, enc_pred=apart)

    def critic_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Critic of predicted - critic of true structures + the gradient penalty between them.

        Source:
            Gulrajani et al. 2017 (arXiv 1704.00028), equation 3, at points between; or the cross-entropy of a plain
            discriminator, true labels smoothed to 0.875.
        """
        frames, commands = self._clip(batch)
        with torch.no_grad():
            encodings = self.encode(frames)
            real, fake = self._sequences(encodings, self._roll(encodings[:, : self.config.context], commands))
        gap = self._verdict(real, fake)
        if self.config.critic == "gan" or not torch.is_grad_enabled():
            return as_loss(critic=gap)
        penalty = gradient_penalty(self._critic(), real, fake)
        return as_loss(gap + self.config.penalty * penalty, critic=gap, penalty=penalty)

    def _sequences(self, encodings: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
        return critic_sequences(self.van.structure, encodings, predicted, self.config.critic_context)

    def _verdict(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the critic without its penalty."""
        return critic_gap(self._critic(), real, fake, self.config.critic)

    def _critic(self) -> Discriminator:
        if self.discriminator is None:
            raise UserError(
                f"these weights of mode {self.config.mode} have no critic; train one from them with --init-from and "
                "--model.mode epva-gan"
            )
        return self.discriminator

    # --- validation

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """The mode's objective (of epva-gan without its critic), and measures of the whole chain.

        Parts besides: van, van_on_enc and enc_pred whatever the mode; PSNR in dB of frames from predicted encodings
        (psnr_*), from true ones (psnr_on_enc_*) and of repeating the first frame (psnr_first_*), per image, over
        context and forecast apart, and pooled over the batch as published.
        """
        losses = {
            "individual": (self.encoder_pose_loss, self.pose_prediction_loss, self.van_on_pose_loss),
            "e2e": (self.van_loss,),
            "predictor": (self.prediction_loss,),
            "e2e-pose": (self.e2e_pose_loss,),
        }
        terms = [loss(batch, step) for loss in losses.get(self.config.mode, (self.epva_loss,))]
        total = torch.stack([term.total for term in terms]).sum()
        parts = {name: part for term in terms for name, part in term.parts.items()}
        with torch.no_grad():
            return Loss(total, {**parts, **self._measures(batch)})

    def _measures(self, batch: Batch) -> dict[str, Tensor]:
        frames, commands = self._clip(batch)
        encodings, context, kept = self.encode(frames), self.config.context, self.config.scene
        predicted = self._roll(encodings[:, :context], commands)
        truth, scene, first = frames[:, kept:], frames[:, :kept], encodings[:, kept - 1]
        made = {
            "psnr": self._draw(scene, first, predicted[:, kept - 1 :]).frames,
            "psnr_on_enc": self._draw(scene, first, encodings[:, kept:]).frames,
            "psnr_first": frames[:, kept - 1 : kept].expand_as(truth),
        }
        found = {
            "van": lp(made["psnr"], truth, 2.0),
            "van_on_enc": lp(made["psnr_on_enc"], truth, 2.0),
            "enc_pred": self._apart(predicted, encodings),
        }
        for name, images in made.items():
            found |= psnr_parts(name, images, truth, context - kept)
        return found

    def _clip(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The whole clip (b, t, c, h, w), with random hue in training if configured, and its commands (b, t - 1, a)."""
        frames = torch.cat([batch.context, batch.future], 1)
        if self.config.hue and self.training and frames.shape[2] == 3:
            frames = shift_hue(frames, torch.rand(len(frames), device=frames.device) - 0.5)
        return frames, self._commands(batch.actions, frames, frames.shape[1] - 1)
