"""Generator and discriminator of multi-scale adversarial prediction, arXiv 1511.05440."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.models.multiscale_gan.config import MultiscaleGANConfig
from framecast.nn.precision import widen
from framecast.nn.scales import enlarge, pyramid_sizes

#: Factor of the output of a network of changes: Adam's first steps are as large for small errors as for large ones,
#: and at full size they would disturb an image that is nearly right.
CHANGE = 0.1

#: First bias of the gates of new frames: most of every pixel is copied, and the gradient of the gate is not small.
GATE_BIAS = -1.0

#: Height and slope of the two forms of tanh.
TANH = {"plain": (1.0, 1.0), "scaled": (1.7159, 2 / 3)}


class ScaleOutput(NamedTuple):
    """Output of a scale.

    Attributes:
        frame: the prediction, (b, outputs, h, w) in -1…1, or near it where changes are added or tanh is scaled.
        new: the frame before gating, likewise; the same without gates.
        gate: share of the new frame in every pixel, (b, t', h, w) in 0…1; one number, 1, without gates.
    """

    frame: Tensor
    new: Tensor
    gate: Tensor


class GeneratorScale(nn.Module):
    """One scale of the generator: convolutions that keep the size, ReLU between them, tanh or a change at the end."""

    def __init__(self, inputs: int, row: int, outputs: int, config: MultiscaleGANConfig):
        super().__init__()
        self.gates = config.future if config.output == "gated" else 0
        channels = (inputs, *config.rows("generator_widths")[row], outputs + self.gates)
        layers: list[nn.Module] = []
        for a, b, kernel in zip(channels[:-1], channels[1:], config.rows("generator_kernels")[row], strict=True):
            layers += [nn.Conv2d(a, b, kernel, padding=kernel // 2), rectifier(config.generator_slope)]
        self.layers = nn.Sequential(*layers[:-1])
        self.residual, self.output = config.residual, config.output
        self.height, self.slope = TANH[config.tanh]

    def forward(self, context: Tensor, guess: Tensor | None, last: Tensor) -> ScaleOutput:
        """Frames at this scale.

        Args:
            context: (b, inputs, h, w) at this scale.
            guess: the coarser prediction, upsampled to this scale.
            last: the last context frame, repeated for every output frame, (b, outputs, h, w).
        """
        x: Tensor = self.layers(context if guess is None else torch.cat([context, guess], 1))
        x = widen(x)  # tanh in bf16 would cost a quarter of a grey level at every recursion
        if self.output == "change":
            frame = last + CHANGE * x
            return ScaleOutput(frame, frame, frame.new_ones(()))
        x, gates = x[:, : last.shape[1]], x[:, last.shape[1] :]
        new = self.height * torch.tanh(self.slope * (x + guess if self.residual and guess is not None else x))
        if not self.gates:
            return ScaleOutput(new, new, new.new_ones(()))
        m = gates.sigmoid()
        return ScaleOutput(last + m.repeat_interleave(last.shape[1] // self.gates, 1) * (new - last), new, m)

    @torch.no_grad()
    def begin_at(self, mean: Tensor, guessed: bool) -> None:
        """Set the last biases so that weights of 0 would give the new colour `mean` (outputs,), in -1…1."""
        logits = (mean / self.height).clamp(-0.98, 0.98).atanh() / self.slope
        self._last_bias()[: len(mean)] = logits - (mean if guessed and self.residual else 0)

    @torch.no_grad()
    def begin_gates(self) -> None:
        """Set the biases of the gates to `GATE_BIAS`."""
        bias = self._last_bias()
        bias[len(bias) - self.gates :] = GATE_BIAS

    def _last_bias(self) -> Tensor:
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        return last.bias


class Generator(nn.Module):
    """Predicts the next frames at every scale, each from the context and the next coarser prediction."""

    def __init__(self, config: MultiscaleGANConfig, channels: int):
        super().__init__()
        self.noise_level = bool(config.context_noise)
        inputs, outputs = config.context * channels + self.noise_level, config.future * channels
        self.channels, self.future = channels, config.future
        self.scales = nn.ModuleList(
            GeneratorScale(inputs + (outputs if k else 0), k, outputs, config) for k in range(config.num_scales)
        )

    def forward(self, contexts: Sequence[Tensor], level: Tensor | None = None) -> list[ScaleOutput]:
        """Predictions at every scale, coarse to fine.

        Args:
            contexts: (b, t c, h, w) per scale; coarse to fine.
            level: of the context's noise, (b,) in 0…1; None for contexts without noise.
        """
        outputs: list[ScaleOutput] = []
        for scale, context in zip(self.scales, contexts, strict=True):
            b, _, h, w = context.shape
            guess = enlarge(outputs[-1].frame, (h, w)) if outputs else None
            last = context[:, -self.channels :].repeat(1, self.future, 1, 1)
            if self.noise_level:
                plane = context.new_zeros(b, 1, h, w) if level is None else level.view(b, 1, 1, 1).expand(b, 1, h, w)
                context = torch.cat([context, plane], 1)
            outputs.append(scale(context, guess, last))
        return outputs


def rectifier(slope: float) -> nn.Module:
    """ReLU, with a negative slope or without."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


class DiscriminatorScale(nn.Sequential):
    """One scale of the discriminator: unpadded convolutions, maybe a 2x2 max pool, fully connected layers, a logit."""

    def __init__(
        self,
        inputs: int,
        side: int,
        widths: Sequence[int],
        kernels: Sequence[int],
        hidden: Sequence[int],
        pool: bool,
        slope: float,
    ):
        layers: list[nn.Module] = []
        patch = side
        for width, kernel in zip(widths, kernels, strict=True):
            layers += [nn.Conv2d(inputs, width, kernel), rectifier(slope)]
            inputs, side = width, side - kernel + 1
        if pool:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        if side < 1:
            raise UserError(
                f"the discriminator's kernels {tuple(kernels)} do not fit its {patch}x{patch} patch; "
                "use a larger model.patch, smaller model.discriminator_kernels or fewer scales"
            )
        layers.append(nn.Flatten())
        inputs *= side * side
        for width in hidden:
            layers += [nn.Linear(inputs, width), rectifier(slope)]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, 1))


class Discriminator(nn.Module):
    """Discriminator of patches at every scale, one network each."""

    def __init__(self, config: MultiscaleGANConfig, channels: int):
        super().__init__()
        inputs = channels * (config.future + (config.context if config.conditioned else 0))
        sides = [side for side, _ in pyramid_sizes(config.patch, config.patch, config.num_scales)]
        tables = zip(
            sides,
            config.rows("discriminator_widths"),
            config.rows("discriminator_kernels"),
            config.rows("discriminator_hidden"),
            strict=True,
        )
        self.scales = nn.ModuleList(
            DiscriminatorScale(
                inputs,
                side,
                widths,
                kernels,
                hidden,
                pool=config.pool == "every" or k == config.num_scales - 1,
                slope=config.leaky_slope,
            )
            for k, (side, widths, kernels, hidden) in enumerate(tables)
        )

    def normalise(self) -> None:
        """Divide the weights of every layer by their largest singular value, by power iteration in training."""
        for layer in list(self.modules()):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.utils.parametrizations.spectral_norm(layer)

    def forward(self, patches: Sequence[Tensor]) -> list[Tensor]:
        """Logits that the frames are real, (b, 1) per scale.

        Args:
            patches: (b, channels, side, side), coarse to fine.
        """
        return [scale(patch) for scale, patch in zip(self.scales, patches, strict=True)]
