"""Hierarchical long-term prediction: structure is predicted recurrently, pixels are generated once per frame.

Paper: Wichers, Villegas, Erhan, Lee, "Hierarchical Long-term Video Prediction without Supervision", ICML 2018, arXiv
1806.04768. An encoder turns a frame into a small vector e_t, a recurrent predictor continues these vectors (with the
actions, if there are any), and a visual analogy network (VAN) draws each future frame from the first frame, its vector
and the predicted one, blended with the first frame by a mask. No pixel is fed back, so pixel errors do not accumulate.
The mode decides how the three are trained: a list of phases.

What deviates from the paper and the published code, and why, is noted at each field of the config, in config.py, and in
docs/models/hierarchical.md. The first `context` frames are encoded; every frame but the first is drawn and trained on.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from framecast.core.types import Batch
from framecast.models.base import RolloutState
from framecast.models.hierarchical.config import HierarchicalConfig
from framecast.models.hierarchical.networks import NOISE_SIZE
from framecast.models.hierarchical.objectives import Objectives
from framecast.models.inputs import Frames, as_frames
from framecast.models.seeds import Generators, next_tick, step_normal
from framecast.nn.shrinkage import change_sums, shrinkage


class Hierarchical(Objectives):
    """Predicts a small vector per frame and draws every frame from the first one, for hundreds of frames."""

    Config = HierarchicalConfig
    family = "hierarchical long-term prediction"
    paper = (
        "Wichers, Villegas, Erhan, Lee: Hierarchical Long-term Video Prediction without Supervision, ICML 2018, "
        "arXiv 1806.04768"
    )
    actions = "optional"
    config: HierarchicalConfig

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
        masks = self._drawn(state["scene"], state["anchor"], encodings[..., : self.config.encoding_size]).mask
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
        the context.  With shares also last: the last true frame, and lead: the number of frames predicted, (b, 1)."""
        encodings, kept = self.encode(frames), self.config.scene
        scene = self._padded(frames[:, :kept])
        state = {
            "scene": scene,
            "anchor": self.van.anchor(scene, encodings[:, kept - 1]),
            "encodings": encodings,
            "commands": self._commands(actions, frames, frames.shape[1] - 1),
        }
        return (
            state if self.shares is None else {**state, "last": frames[:, -1], "lead": frames.new_zeros(len(frames), 1)}
        )

    @torch.no_grad()
    def rollout_latent(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """One step of the predictor, and its encoding (s b, E); with shares followed by the number of frames predicted
        before. Without actions a model that was trained with them uses the mean action of its data."""
        command = self._commands(None if action is None else action[:, None], state["scene"], 1)[:, 0]
        encoding, states = self.predictor(state["encoding"], command, state["states"], self._noise(state))
        new = {**next_tick(state), "encoding": encoding, "states": states}
        if self.shares is None:
            return new, encoding
        return {**new, "lead": state["lead"] + 1}, torch.cat([encoding, state["lead"]], -1)

    def draw_frames(self, state: RolloutState, latents: Tensor) -> Tensor:
        """Frames of encodings (s b, t, E), drawn from the context. With shares each frame is the last true one and
        the share of its lead time of the change from it, as `latents` then hold lead times too, (s b, t, E + 1)."""
        encodings = latents[..., : self.config.encoding_size]
        frames = self._drawn(state["scene"], state["anchor"], encodings).frames.clamp(0, 1)
        if self.shares is None:
            return frames
        share = self.shares[latents[..., -1].long().clamp_max(len(self.shares) - 1)]
        return torch.lerp(state["last"][:, None], frames, share[..., None, None, None])

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Set the shares of the change from the last true frame that are kept, from held-out clips."""
        if self.shares is not None:
            self.shares.fill_(1)
            sums = []
            for batch in batches:
                count = batch.future.shape[1]
                forecast = self.predict(batch.context, count, self.batch_actions(batch, count))[0]
                sums.append(change_sums(forecast, batch.future, batch.context[:, -1:]))
            self.shares.copy_(shrinkage(torch.cat(sums, 1)) if sums else self.shares)

    def _noise(self, state: RolloutState) -> Tensor | None:
        """Noise of this step, where the predictor has any."""
        return step_normal(state, (NOISE_SIZE,)) if self.stochastic else None
