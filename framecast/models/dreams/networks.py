"""Variational autoencoder, recurrent networks and the vision loss of the dreams family (World Models)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from framecast.models.dreams.config import DRAWING, DreamsConfig, Head
from framecast.nn.doubling import DoubledConvTranspose2d
from framecast.nn.gru import rolled_gru
from framecast.nn.mixture import Mixture, gaussian_kl
from framecast.nn.precision import full_precision

#: Kernels of the decoder's four transposed convolutions, which bring 1x1 to 5, 13, 30 and 64 px.
_DECODER_KERNELS = (5, 5, 6, 6)

#: Channels the decoder starts from, at 1x1.
_DECODER_START = 1024


def vision_terms(frames: Tensor, decoded: Tensor, mean: Tensor, logvar: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Squared error summed over a frame, and KL of its latent, floored as in World Models; both averaged over frames.

    Args:
        frames: (n, c, h, w) in 0…1.
        decoded: (n, c, h, w) in 0…1.
        mean: (n, z).
        logvar: (n, z).
    """
    error = (frames - decoded).square().sum((1, 2, 3)).mean()
    return error, gaussian_kl(mean, logvar).sum(-1).clamp(min=floor).mean()


class PointConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution of 1x1 images as a matrix product, which is much faster on a CPU (docs/log.md)."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        # In the order a channels-last weight lies in memory: any other copies all of it, every time.
        channels, height, width = self.weight.shape[1:]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        out: Tensor = (x.flatten(1) @ weight).view(-1, height, width, channels)
        return (out if self.bias is None else out + self.bias.to(out)).permute(0, 3, 1, 2)


class VAE(nn.Module):
    """Variational autoencoder of 64x64 frames. Convolutions without padding, no normalisation."""

    def __init__(self, config: DreamsConfig, channels: int) -> None:
        super().__init__()
        widths = (channels, *config.encoder_widths)
        convolutions: list[nn.Module] = []
        for a, b in pairwise(widths):
            convolutions += [nn.Conv2d(a, b, 4, stride=2), nn.ReLU()]
        features = 4 * widths[-1]
        self.encoder = nn.ModuleDict(
            {
                "layers": nn.Sequential(*convolutions, nn.Flatten()),
                "mean": nn.Linear(features, config.code_size),
                "logvar": nn.Linear(features, config.code_size),
            }
        )
        widths = (_DECODER_START, *config.decoder_widths, channels)
        layers: list[nn.Module] = [nn.Linear(config.code_size, _DECODER_START), nn.Unflatten(1, (_DECODER_START, 1, 1))]
        for i, ((a, b), kernel) in enumerate(zip(pairwise(widths), _DECODER_KERNELS, strict=True)):
            layers.append(DoubledConvTranspose2d(a, b, kernel) if i else PointConvTranspose2d(a, b, kernel, stride=2))
            layers.append(nn.ReLU())
        self.decoder = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, 64, 64) in 0…1 -> mean and log variance, (n, z) each, float32."""
        features = self.encoder["layers"](frames.contiguous(memory_format=torch.channels_last))
        return self.encoder["mean"](features).float(), self.encoder["logvar"](features).float()

    def decode(self, latents: Tensor) -> Tensor:
        """(n, z) -> frames (n, c, 64, 64) in 0…1, float32."""
        frames: Tensor = self.decoder(latents)
        return frames.float()


class Memory(nn.Module):
    """Recurrent layers over latents (and actions), then one head. Always in full precision."""

    def __init__(self, config: DreamsConfig, inputs: int, head: Head) -> None:
        super().__init__()
        self.window = config.recurrence == "window"
        cell = nn.GRU if config.cell == "gru" else nn.LSTM
        sizes = (inputs, *config.memory_sizes)
        self.layers = nn.ModuleList(cell(a, b, batch_first=True) for a, b in pairwise(sizes))
        outputs = config.code_size
        if head in DRAWING:
            outputs = Mixture.outputs(config.components(head), config.code_size, config.joint)
        self.out = nn.Linear(sizes[-1], outputs)

    @full_precision
    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Output of the head at every step, (b, t, outputs), and the state after the last, tensors (b, width).

        Of a window the output of the last step alone, (b, 1, outputs): only it has seen all of the window.

        Args:
            x: (b, t, inputs).
            state: as returned; none begins from nothing.
        """
        left, after = list(state), []
        for layer in self.layers:
            if isinstance(layer, nn.LSTM):
                hidden = (left.pop(0)[None].contiguous(), left.pop(0)[None].contiguous()) if state else None
                x, (h, c) = layer(x, hidden)
                after += [h[0], c[0]]
            elif isinstance(layer, nn.GRU) and not state and x.device.type == "cpu" and torch.is_grad_enabled():
                x, h = rolled_gru(layer, x)
                after.append(h)
            else:
                x, h = layer(x, left.pop(0)[None].contiguous() if state else None)
                after.append(h[0])
        return self.out(x[:, -1:] if self.window else x), tuple(after)


def glorot(module: nn.Module) -> None:
    """Fill with Keras' initial weights, which the published runs used: Glorot's uniform, orthogonal recurrences, biases
    0."""
    for name, p in module.named_parameters():
        if p.ndim < 2:
            nn.init.zeros_(p)
        elif "weight_hh" in name:
            nn.init.orthogonal_(p)
        else:
            nn.init.xavier_uniform_(p)
