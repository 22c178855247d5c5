"""VGG's convolutions: sizes, preparation of images, and weights of both conventions, distinguished by their names."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from framecast.core.errors import UserError
from framecast.nn import vgg
from framecast.nn.vgg import VGG16, VGGTrunk, load_imagenet

PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
NARROW = ((2, 3), (4, 4), (5, 5, 5), (6, 6, 6), (6, 6, 6))


@pytest.fixture
def narrow(monkeypatch):
    """A trunk that passes for VGG-16 at a ten-thousandth of its size."""
    flat = [width for row in NARROW for width in row]
    monkeypatch.setattr(vgg, "_VGG16_SHAPES", list(zip(flat, [3, *flat[:-1]], strict=True)))
    return VGGTrunk(NARROW)


def tensors(trunk):
    return [(torch.randn_like(c.weight), torch.randn_like(c.bias)) for c in trunk.convolutions]


def names():
    return [f"conv{b + 1}_{k + 1}" for b, row in enumerate(VGG16) for k in range(len(row))]


def test_thirteen_convolutions_and_a_thirty_second_of_the_size():
    with torch.device("meta"):
        trunk = VGGTrunk()
        assert trunk(torch.zeros(2, 3, 64, 64)).shape == (2, 512, 2, 2)
    assert len(trunk.convolutions) == 13
    assert sum(p.numel() for p in trunk.parameters()) == 14_714_688


def test_images_are_prepared_as_each_convention_has_it():
    trunk = VGGTrunk(((2,),))
    image = torch.tensor([0.5, 0.25, 1.0]).view(1, 3, 1, 1)
    found = (image * trunk.scale - trunk.shift).flatten()
    torch.testing.assert_close(found, torch.tensor([128 - 123.68, 64 - 116.78, 256 - 103.94]))
    trunk.prepare_as("torchvision")
    found = (image * trunk.scale - trunk.shift).flatten()
    torch.testing.assert_close(found, torch.tensor([0.015 / 0.229, -0.206 / 0.224, 0.594 / 0.225]))
    assert "scale" in trunk.state_dict()  # it travels with the weights
    assert VGGTrunk(((2,),), channels=1).shift.shape == (1, 1, 1)


@pytest.mark.parametrize("prefix", ["", "vgg."])
def test_torchvision_weights(narrow, tmp_path, prefix):
    values = tensors(narrow)
    table = {}
    for place, (weight, bias) in zip(PLACES, values, strict=True):
        table |= {f"{prefix}features.{place}.weight": weight, f"{prefix}features.{place}.bias": bias}
    torch.save({**table, "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg16.pth")
    assert load_imagenet(narrow, tmp_path / "vgg16.pth") == 26
    for layer, (weight, bias) in zip(narrow.convolutions, values, strict=True):
        assert torch.equal(layer.weight, weight)
        assert torch.equal(layer.bias, bias)
    assert float(narrow.scale[0]) == pytest.approx(1 / 0.229)


@pytest.mark.parametrize(
    ("weight_name", "bias_name"),
    [
        ("vgg_16/{block}/{name}/weights", "vgg_16/{block}/{name}/biases"),
        ("{name}_W", "{name}_b"),
        ("vgg_16/{block}/{name}/weights:0", "vgg_16/{block}/{name}/biases:0"),
    ],
)
def test_slim_weights_have_their_kernels_turned(narrow, tmp_path, weight_name, bias_name):
    narrow.prepare_as("torchvision")
    values, table = tensors(narrow), {}
    for name, (weight, bias) in zip(names(), values, strict=True):
        words = {"name": name, "block": name.split("_")[0]}
        table[weight_name.format(**words)] = weight.permute(2, 3, 1, 0).contiguous().numpy()
        table[bias_name.format(**words)] = bias.numpy()
    np.savez(tmp_path / "vgg.npz", **table)
    load_imagenet(narrow, tmp_path / "vgg.npz")
    for layer, (weight, bias) in zip(narrow.convolutions, values, strict=True):
        assert torch.equal(layer.weight, weight)
        assert torch.equal(layer.bias, bias)
    assert float(narrow.scale[0]) == 256


def test_mismatched_files_are_refused_in_one_sentence(narrow, tmp_path):
    def refused(path, sentence, trunk=narrow, convention=None):
        with pytest.raises(UserError, match=re.escape(sentence)):
            load_imagenet(trunk, path, convention)

    table = {}
    for place, (weight, bias) in zip(PLACES, tensors(narrow), strict=True):
        table |= {f"features.{place}.weight": weight, f"features.{place}.bias": bias}
    whole = tmp_path / "whole.safetensors"
    save_file(table, whole)
    refused(whole, "holds weights of the torchvision convention", convention="slim")
    refused(whole, "other widths or channels", VGGTrunk(((2, 3),)))
    save_file({k: v for k, v in table.items() if k != "features.12.bias"}, tmp_path / "part.safetensors")
    refused(tmp_path / "part.safetensors", "has no tensor of conv3_2")
    save_file({**table, "features.2.bias": torch.zeros(9)}, tmp_path / "odd.safetensors")
    refused(tmp_path / "odd.safetensors", "conv1_2 has shape (9,)")
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "has no tensors named as in VGG-16 (got layer.weight)")
    refused(tmp_path / "none.pth", "no such weights file")
    (tmp_path / "vgg_16.ckpt").write_bytes(b"not a torch file")
    refused(tmp_path / "vgg_16.ckpt", "cannot be read as weights")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "has no named tensors")
