"""Networks of cross convolutional networks (Visual Dynamics), arXiv 1607.02586."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from framecast.models.visual_dynamics.config import VisualDynamicsConfig
from framecast.nn.conv import SameConv, SameTransposed
from framecast.nn.precision import widen

#: Constant added to the variance in batch norm, as published.
_EPS = 1e-5
#: Periods in the code of a lead time, from 2 frames, at which things blink, to 256.
_PERIODS = 15
#: First bias of the weight of the last frame, before the softmax: most of every pixel is copied.
_LAST_BIAS = 3.0
#: First bias of the opacity of new colours, before the sigmoid: hardly anything is covered.
_OPACITY_BIAS = -3.0

#: Modules of a layer that is activated and normalised.
_FIRST = 3


def _activated(layer: nn.Conv2d, slope: float, momentum: float) -> list[nn.Module]:
    """A convolution, a (leaky) ReLU, and the normalisation after it, which is the published order."""
    activation = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
    return [layer, activation, nn.BatchNorm2d(layer.out_channels, eps=_EPS, momentum=momentum)]


def lead_code(lead: Tensor) -> Tensor:
    """Sines and cosines of lead times, (n, 2 `_PERIODS`), periods 2, 2.8, 4, … 256 frames.

    Args:
        lead: (n,) frames after the last of the context.
    """
    rates = math.pi * 2 ** (-0.5 * torch.arange(_PERIODS, device=lead.device))
    angles = lead.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class ImageEncoder(nn.Module):
    """Feature maps of the first frame at every scale, by separate networks, or each with the next coarser maps."""

    def __init__(self, config: VisualDynamicsConfig, channels: int):
        super().__init__()
        self.finest = config.finest
        self.scales = nn.ModuleList(self._scale(config, channels) for _ in range(config.num_scales))
        self.down: nn.ModuleList | None = None
        if config.image_down:
            width = config.image[0][0]
            self.down = nn.ModuleList(SameConv(config.maps, width, 3) for _ in range(config.num_scales - 1))

    @staticmethod
    def _scale(config: VisualDynamicsConfig, channels: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for width, kernel, stride in config.image:
            layers += _activated(SameConv(channels, width, kernel, stride), config.image_slope, config.bn_momentum)
            channels = width
        return nn.Sequential(*layers[:-2])

    def forward(self, frame: Tensor) -> list[Tensor]:
        """Maps (b, maps, h_k, w_k), finest scale first.

        Args:
            frame: (b, c, h, w) in -1…1; several context frames as channels.
        """
        h, w = frame.shape[-2:]
        maps: list[Tensor] = []
        for k, scale in reversed(list(enumerate(self.scales))):
            size = (self.finest * h // 2**k, self.finest * w // 2**k)
            x = frame if size == (h, w) else F.interpolate(frame, size, mode="bilinear", align_corners=False)
            if self.down is not None and maps:
                assert isinstance(scale, nn.Sequential)
                x = scale[:_FIRST](x)
                x = scale[_FIRST:](x + self.down[k](_resized(maps[0], (x.shape[-2], x.shape[-1]))))
            else:
                x = scale(x)
            maps.insert(0, x)
        return maps

    def start_independent(self) -> None:
        """No influence of coarser scales at first."""
        for layer in self.down or ():
            assert isinstance(layer, nn.Conv2d)
            nn.init.zeros_(layer.weight)


class MotionEncoder(nn.Module):
    """Mean and log-variance of z from two frames."""

    def __init__(self, config: VisualDynamicsConfig, channels: int):
        super().__init__()
        self.split, self.clamp, self.pool = config.split, config.logvar_clamp, config.pool
        inputs, layers = 2 * channels, list[nn.Module]()
        for width, kernel, stride, padded in config.motion:
            make = SameConv if padded else nn.Conv2d
            layers += _activated(make(inputs, width, kernel, stride), config.slope, config.bn_momentum)
            inputs = width
        self.layers = nn.Sequential(*layers[:-2])

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """mean, logvar: (b, z) each.

        Args:
            first: frames (b, c, h, w) in -1…1.
            second: frames (b, c, h, w) in -1…1.
        """
        x = widen(self.layers(torch.cat([first, second], 1)))
        if self.pool:
            x = x.mean((2, 3), keepdim=True)
        if self.split == "channel":
            mean, logvar = x.flatten(1).chunk(2, 1)
        else:  # channels last, then split: the upper rows of the grid, and the lower
            flat = rearrange(x, "b c i j -> b (i j c)")
            height, width = x.shape[-2:]
            mean, logvar = (rearrange(half, "b (i j c) -> b (c i j)", i=height, j=width) for half in flat.chunk(2, 1))
        return mean, logvar.clamp(-self.clamp, self.clamp)


class KernelDecoder(nn.Module):
    """Kernels for every map of every scale from z."""

    def __init__(self, config: VisualDynamicsConfig):
        super().__init__()
        self.config = config
        inputs, layers = config.z_channels + (2 * _PERIODS if config.horizon > 1 else 0), list[nn.Module]()
        for width in (*config.kernel_widths, config.num_scales * config.maps):
            layers += _activated(SameConv(inputs, width, config.kernel_size), config.slope, config.bn_momentum)
            inputs = width
        self.layers = nn.Sequential(*layers[:-2])

    def forward(self, z: Tensor, lead: Tensor) -> list[Tensor]:
        """Kernels (b, maps, k, k), finest scale first.

        Args:
            z: (b, z).
            lead: lead times (b,) in frames; they count where the horizon is above 1.
        """
        k, side = self.config.kernel_size, self.config.z_side
        x = rearrange(z, "b (c i j) -> b c i j", i=side, j=side).expand(-1, -1, k, k)
        if self.config.horizon > 1:
            x = torch.cat([x, lead_code(lead).to(x.dtype)[:, :, None, None].expand(-1, -1, k, k)], 1)
        x = self.layers(x)
        return list(x.chunk(self.config.num_scales, 1))


class MotionDecoder(nn.Module):
    """The difference image from the convolved maps of all scales, and logits of what each pixel is made of."""

    def __init__(self, config: VisualDynamicsConfig, channels: int):
        super().__init__()
        self.upsample = config.upsample
        inputs = config.num_scales * config.maps
        self.enlarge: nn.ModuleList | None = None
        layers: list[nn.Module] = []
        if config.upsample == "transposed":
            first = config.reduction // config.finest
            self.enlarge = nn.ModuleList(
                SameTransposed(config.maps, config.maps, 9, first * 2**k) for k in range(config.num_scales)
            )
            layers.append(nn.BatchNorm2d(inputs, eps=_EPS, momentum=config.bn_momentum))
        for width, kernel in config.decoder:
            layers += _activated(SameConv(inputs, width, kernel), config.decoder_slope, config.bn_momentum)
            inputs = width
        self.weights = config.context + 1 if config.output == "mixed" else 0
        outputs = (channels + self.weights) * (4 if config.upsample == "subpixel" else 1)
        layers.append(SameConv(inputs, outputs, config.decoder_last))
        self.layers = nn.Sequential(*layers)
        # Layers of their own, so that weights trained without them can be continued.
        self.frame: nn.Conv2d | None = None
        if config.decoder_frame:
            width, kernel = config.decoder[0]
            pixels = channels * (4 if config.upsample == "subpixel" else 1)
            self.frame = SameConv(pixels, width, max(kernel, 3))
        self.cover: nn.Conv2d | None = None
        if config.output == "composed":
            cell = 4 if config.upsample == "subpixel" else 1
            self.cover = SameConv(inputs, (channels + 1) * cell, config.decoder_last)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int], frame: Tensor) -> Tensor:
        """(s b, c + n, h, w): difference image in units of -1…1, and with mixed output n logits; with composed output
        (s b, 2 c + 1, h, w): difference image, new colours in -1…1 and the logit of their opacity.

        Args:
            maps: (s b, maps, h_k, w_k), moved.
            size: (h, w) of the frame.
            frame: (b, c, h, w) in -1…1, the last one.
        """
        if self.enlarge is not None:
            x = torch.cat([layer(each) for layer, each in zip(self.enlarge, maps, strict=True)], 1)
            return widen(self._drawn(x, frame))
        half = self.upsample == "subpixel"
        wanted = (size[0] // 2, size[1] // 2) if half else size
        x = torch.cat([_resized(each, wanted) for each in maps], 1)
        x = widen(self._drawn(x, frame))
        return F.pixel_shuffle(x, 2) if half else x

    def _drawn(self, x: Tensor, frame: Tensor) -> Tensor:
        """All outputs (s b, n, h, w) of the enlarged maps (s b, maps, h, w), and of the whole frame (b, c, ., .)."""
        layers = list(self.layers)
        if self.frame is not None:
            first = 1 if self.enlarge is not None else 0  # after the normalisation, where there is one
            for layer in layers[: first + 1]:
                x = layer(x)
            still = self.frame(F.pixel_unshuffle(frame, 2) if self.upsample == "subpixel" else frame)
            x = x + still.repeat(len(x) // len(still), 1, 1, 1)
            layers = layers[first + 1 :]
        for layer in layers[:-1]:
            x = layer(x)
        drawn: Tensor = layers[-1](x)
        return drawn if self.cover is None else torch.cat([drawn, self.cover(x)], 1)

    def start_without_frame(self) -> None:
        """No influence of the frame at first."""
        assert self.frame is not None
        nn.init.zeros_(self.frame.weight)

    def start_uncovered(self) -> None:
        """Hardly any new colours at first, with composed output: the difference image is added as without them."""
        assert self.cover is not None
        assert self.cover.bias is not None
        cell = 4 if self.upsample == "subpixel" else 1
        with torch.no_grad():
            self.cover.weight.mul_(0.1)
            self.cover.bias[-cell:] = _OPACITY_BIAS

    def start_as_copy(self) -> None:
        """Hardly any change at first, with mixed output: the last frame has nearly all weight."""
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        with torch.no_grad():
            last.weight.mul_(0.1)
            cell = last.out_channels // (4 if self.upsample == "subpixel" else 1)
            each = last.bias.view(cell, -1)
            each[cell - 2] = _LAST_BIAS


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)
