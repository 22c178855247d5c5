"""LPIPS: the published network and formula, from both formats of weights files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from framecast.core.errors import UserError
from framecast.metrics.lpips import LEAST, LPIPS, SCALE, SHIFT, WIDTHS
from framecast.metrics.weights import read_weights

_PLACES = ((0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3))


def tensors(form):
    """Random numbers in the shapes of AlexNet and the five heads, named as in one of the two forms in circulation."""
    g, out = torch.Generator().manual_seed(0), {}
    for i, (layer, inputs, outputs, kernel) in enumerate(_PLACES):
        base = f"net.slice{i + 1}.{layer}" if form == "class" else f"features.{layer}"
        out[f"{base}.weight"] = (
            torch.randn(outputs, inputs, kernel, kernel, generator=g) * (2 / inputs / kernel**2) ** 0.5
        )
        out[f"{base}.bias"] = 0.1 * torch.randn(outputs, generator=g)
        out[f"lin{i}.model.1.weight"] = torch.rand(1, outputs, 1, 1, generator=g)
    if form == "class":
        out["scaling_layer.shift"] = torch.zeros(1, 3, 1, 1)
    return out


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "alex.safetensors"
    save_file(tensors("class"), path)
    return path


def by_hand(x, y, values):
    """Of one image pair (3, h, w) in 0…1, with torch's own layers in the order of the published code."""
    layers = []
    for i, (layer, inputs, outputs, kernel) in enumerate(_PLACES):
        if layer in (3, 6):
            layers.append((None, nn.MaxPool2d(3, 2)))
        conv = nn.Conv2d(inputs, outputs, kernel, 4 if layer == 0 else 1, {11: 2, 5: 2, 3: 1}[kernel])
        conv.weight.data, conv.bias.data = values[f"features.{layer}.weight"], values[f"features.{layer}.bias"]
        layers.append((i, nn.Sequential(conv, nn.ReLU())))
    total = 0.0
    a, b = (((v * 2 - 1) - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None] for v in (x, y))
    a, b = a[None], b[None]
    for number, layer in layers:
        a, b = layer(a), layer(b)
        if number is not None:
            p, q = (v[0].detach().numpy() for v in (a, b))
            p, q = (v / (np.sqrt((v**2).sum(0)) + 1e-10) for v in (p, q))
            head = values[f"lin{number}.model.1.weight"][0, :, 0, 0].numpy()
            total += float((head[:, None, None] * (p - q) ** 2).sum(0).mean())
    return total


def test_lpips_equals_the_published_formula_for_both_file_formats(file, tmp_path):
    values = tensors("parts")
    torch.save(values, tmp_path / "alex.pth")
    x, y = torch.rand(2, 1, 2, 3, 40, 47, generator=torch.Generator().manual_seed(1))
    for path in (file, tmp_path / "alex.pth"):
        metric = LPIPS(read_weights(path))
        got = metric(x, y)
        assert got.shape == (1, 2)
        assert got[0].tolist() == pytest.approx([by_hand(x[0, i], y[0, i], values) for i in range(2)], rel=1e-4)
        assert metric(x, x).abs().max() == 0
    assert sum(p.numel() for p in metric.convolutions.parameters()) == 2_469_696
    assert sum(p.numel() for p in metric.heads) == sum(WIDTHS)


def test_grey_is_repeated_and_small_frames_are_refused(file):
    metric = LPIPS(read_weights(file))
    grey = torch.rand(2, 1, 1, 1, LEAST, LEAST)
    wide = grey.expand(-1, -1, -1, 3, -1, -1)
    assert metric(*grey).item() == pytest.approx(metric(*wide).item())
    with pytest.raises(UserError, match=r"LPIPS needs frames of at least 31x31, got \(30, 40\)"):
        metric(torch.rand(1, 1, 3, 30, 40), torch.rand(1, 1, 3, 30, 40))


def test_invalid_weights_files_are_refused(file, tmp_path):
    weights = read_weights(file)
    assert read_weights(file, weights.sha256[:12]).sha256 == weights.sha256
    with pytest.raises(UserError, match=r"expected SHA-256 00000000, got .*…; use the file that the digest belongs to"):
        read_weights(file, "00000000")
    with pytest.raises(UserError, match="use the file that the digest belongs to"):
        read_weights(file, weights.sha256[:4])
    with pytest.raises(UserError, match="no such weights file"):
        read_weights(tmp_path / "none.pt")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cannot be read as weights \(SafetensorError\)"):
        read_weights(tmp_path / "cut.safetensors")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UserError, match="cannot be read as weights"):
        read_weights(tmp_path / "text.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")  # a pickled object is code
    with pytest.raises(UserError, match="cannot be read as weights"):
        read_weights(tmp_path / "module.pt")
    torch.save({"a": 3}, tmp_path / "numbers.pt")
    with pytest.raises(UserError, match="has no named tensors"):
        read_weights(tmp_path / "numbers.pt")
    values = tensors("parts")
    for change, sentence in (
        (
            {"features.3.weight": torch.zeros(192, 64, 3, 3)},
            r"has shape \(192, 64, 3, 3\), AlexNet with LPIPS heads has",
        ),
        ({"lin2.model.1.weight": None}, "heads.2 is missing, expected AlexNet with LPIPS heads"),
        ({"lin0.model.1.weight": -torch.ones(1, 64, 1, 1)}, "has negative LPIPS weights"),
    ):
        torch.save({k: v for k, v in {**values, **change}.items() if v is not None}, tmp_path / "bad.pt")
        with pytest.raises(UserError, match=sentence):
            LPIPS(read_weights(tmp_path / "bad.pt"))
