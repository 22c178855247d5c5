"""The convolutions of VGG-16, at any width, and their ImageNet weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.nn.tensors import read_tensors

Convention = Literal["slim", "torchvision"]

#: Feature maps of VGG-16, one row per block.
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

#: x * scale - shift of red, green and blue in 0…1. Slim's weights come from Caffe: bytes less their mean (times 256, as
#: the published video code has it); torchvision's were trained on values less their mean, divided by their std.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PREPARED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "slim": ((256.0,) * 3, (123.68, 116.78, 103.94)),
    "torchvision": (tuple(1 / s for s in _STD), tuple(m / s for m, s in zip(_MEAN, _STD, strict=True))),
}
#: Positions of the thirteen convolutions in torchvision's `features`.
_TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_REMEDY = (
    "give a VGG-16 as .safetensors, .npz or a .pth that holds tensors alone (docs/models/hierarchical.md shows how to "
    "turn a TensorFlow checkpoint into .npz)"
)


class VGGTrunk(nn.Module):
    """Blocks of 3x3 convolutions with ReLU, each block followed by a 2x2 max pool.

    Args:
        widths: feature maps, one row a block; `VGG16` is the published network.
        channels: of the images.
        convention: normalisation of images in 0…1, stored with the weights as buffers.

    Source:
        Simonyan and Zisserman 2015 (arXiv 1409.1556), configuration D without its fully connected layers.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, widths: Sequence[Sequence[int]] = VGG16, channels: int = 3, convention: Convention = "slim"
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = channels
        for row in widths:
            layers: list[nn.Module] = []
            for width in row:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = width
            # ReLU after the pool: the same values and gradients, on a quarter of the numbers
            blocks.append(nn.Sequential(*layers[:-1], nn.MaxPool2d(2), layers[-1]))
        self.blocks = nn.Sequential(*blocks)
        self.register_buffer("scale", torch.empty(channels, 1, 1))
        self.register_buffer("shift", torch.empty(channels, 1, 1))
        self.prepare_as(convention)

    def prepare_as(self, convention: Convention) -> None:
        """Set the normalisation of images to that of a convention; with other than three channels, to its average."""
        for buffer, values in zip((self.scale, self.shift), _PREPARED[convention], strict=True):
            found = torch.tensor(values)
            buffer.copy_((found if len(buffer) == 3 else found.mean().expand(len(buffer)))[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """(b, c, h, w) in 0…1 to the last block's maps (b, widths[-1][-1], h / 2^blocks, w / 2^blocks)."""
        features: Tensor = self.blocks(images * self.scale - self.shift)
        return features

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """All convolutions, first to last."""
        return [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]


@torch.no_grad()
def load_imagenet(trunk: VGGTrunk, path: Path, convention: Convention | None = None) -> int:
    """Fill the trunk with ImageNet weights from a file and set their normalisation; the number of tensors filled.

    Args:
        path: .safetensors, .pth / .pt (weights only) or .npz. Names determine the convention: `features.0.weight` … is
            torchvision's; `vgg_16/conv1/conv1_1/weights` …, `conv1_1/weights` or `conv1_1_W` (with kernels as h, w, in,
            out) is Slim's and Caffe's.
        convention: the required one; None accepts either.

    Raises:
        UserError: if the file cannot be read, lacks a layer, has other sizes or is of the other convention.
    """
    tensors = read_tensors(path, _REMEDY)
    found: Convention | None = None
    if any(re.search(r"(^|\.)features\.0\.weight$", name) for name in tensors):
        found = "torchvision"
    elif any(re.search(r"conv1_1", name) for name in tensors):
        found = "slim"
    if found is None:
        raise UserError(
            f"{path}: has no tensors named as in VGG-16 (got {', '.join(list(tensors)[:3])}); expected torchvision's "
            "(features.0.weight) or Slim's (vgg_16/conv1/conv1_1/weights)"
        )
    if convention is not None and convention != found:
        raise UserError(
            f"{path}: holds weights of the {found} convention but the encoder is to prepare its images as {convention} "
            f"does, which would change their scale 58 times; set model.encoder-input to {found} or auto"
        )
    layers = trunk.convolutions
    if [tuple(c.weight.shape[:2]) for c in layers] != _VGG16_SHAPES:
        raise UserError(f"{path}: has the weights of VGG-16, but the encoder has other widths or channels")
    for k, layer in enumerate(layers):
        for parameter, value in zip((layer.weight, layer.bias), _layer(tensors, k, found, path), strict=True):
            assert parameter is not None
            if value.shape != parameter.shape:
                raise UserError(
                    f"{path}: convolution {_name(k)} has shape {tuple(value.shape)}, VGG-16 {tuple(parameter.shape)}"
                )
            parameter.copy_(value)
    trunk.prepare_as(found)
    return 2 * len(layers)


_FLAT = [width for row in VGG16 for width in row]
_VGG16_SHAPES = list(zip(_FLAT, [3, *_FLAT[:-1]], strict=True))


def _name(k: int) -> str:
    """Caffe's name of convolution `k`, such as conv3_2."""
    for block, row in enumerate(VGG16):
        if k < len(row):
            return f"conv{block + 1}_{k + 1}"
        k -= len(row)
    raise IndexError(k)


def _layer(tensors: Mapping[str, Tensor], k: int, convention: Convention, path: Path) -> tuple[Tensor, Tensor]:
    """Weight (out, in, h, w) and bias of one convolution."""
    if convention == "torchvision":
        patterns = [rf"(^|\.)features\.{_TORCHVISION[k]}\.{part}$" for part in ("weight", "bias")]
    else:
        patterns = [rf"(^|/){_name(k)}[/_.]({part})(:0)?$" for part in ("weights?|W|kernel", "bias(es)?|b")]
    found = []
    for pattern in patterns:
        value = next((v for name, v in tensors.items() if re.search(pattern, name)), None)
        if value is None:
            raise UserError(f"{path}: has no tensor of {_name(k)}; use the whole VGG-16")
        found.append(value.float())
    weight, bias = found
    if convention == "slim" and weight.ndim == 4 and weight.shape[:2] == (3, 3):
        weight = weight.permute(3, 2, 0, 1)
    return weight, bias.flatten()
