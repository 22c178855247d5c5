"""Drawings contain the layers of the built model."""

from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from framecast.core.types import ClipRequest, ClipSpec, Loss
from framecast.models.base import Predictor
from framecast.models.baselines import CopyLast, CopyLastConfig
from framecast.models.multiscale_gan.config import default, small, tiny
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.reporting.figure import draw_model, watch

CLIP = ClipSpec(channels=3, height=32, width=32)


def words(svg):
    """All texts of a drawing; parsing proves that it is well-formed."""
    return [node.text for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def drawing():
    return draw_model(MultiscaleGAN(small(), CLIP), CLIP)


def test_drawing_contains_model_paper_and_totals(drawing):
    text = words(drawing)
    assert "MultiscaleGAN" in text
    assert f"{225_376 + 2_128_548:,} parameters" in text
    assert "225,376 parameters" in text
    assert "2,128,548 parameters" in text
    assert any("arXiv 1511.05440" in line for line in text)


def test_drawing_contains_kernels_channels_and_output_sizes(drawing):
    text = words(drawing)
    assert "Conv2d 7×7 15 → 16" in text  # first of the finest generator
    assert "16 × 32 × 32" in text
    assert "Conv2d 3×3 12 → 16" in text  # first of the coarsest
    assert "16 × 4 × 4" in text
    assert "MaxPool2d 2×2" in text
    assert "Linear 4,608 → 256" in text
    assert text.count("scales.0") == 2


def test_every_layer_with_weights_is_recorded_once_with_its_size():
    model = MultiscaleGAN(tiny(), CLIP)
    seen = watch(model, CLIP)
    assert sum(layer.parameters for layer in seen.values()) == sum(p.numel() for p in model.parameters())
    assert seen["generator.scales.3.layers.0"].out == (8, 32, 32)
    assert seen["discriminator.scales.3.0"].out == (8, 28, 28)


def test_paper_widths_are_drawn_as_counted():
    text = words(draw_model(MultiscaleGAN(default(), CLIP), CLIP))
    assert "12,569,740 parameters" in text
    assert "20,640,388 parameters" in text
    assert "512 × 32 × 32" in text


def test_drawing_does_not_change_the_model():
    model = MultiscaleGAN(tiny(), CLIP)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    draw_model(model, CLIP)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_model_without_layers_is_drawn_with_a_note():
    text = words(draw_model(CopyLast(CopyLastConfig(), CLIP), CLIP))
    assert "No layers: there is nothing to train." in text
    assert "0 parameters" in text


class Recurrent(Predictor):
    """Other kinds of layer: an LSTM, whose output is a tuple, a strided convolution, a name that needs escaping."""

    Config = CopyLastConfig
    paper = "<Nobody & nothing>"

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4), nn.ReLU())
        self.memory = nn.LSTM(256, 8, batch_first=True)
        self.back = nn.Linear(8, 3)

    @classmethod
    def request(cls, config):
        return ClipRequest(context=1)

    def frame(self, context):
        code = self.encoder(context[:, -1]).flatten(1)[:, None]
        return self.back(self.memory(code)[0])[:, :, :, None, None].sigmoid().expand_as(context[:, -1:])

    def loss(self, batch, step=0):
        error = (self.frame(batch.context) - batch.future).abs().mean()
        return Loss(error, {"l1": error.detach()})

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        return self.frame(context)[None].repeat(samples, 1, horizon, 1, 1, 1)


def test_other_kinds_of_layer():
    text = words(draw_model(Recurrent(CopyLastConfig(), CLIP), CLIP))
    assert "Conv2d 4×4 /4 3 → 4" in text
    assert "LSTM 256 → 8" in text
    assert "Linear 8 → 3" in text
    assert "BatchNorm2d" in text
    assert "<Nobody & nothing>" in text


def test_long_lines_are_written_smaller():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.a_layer = nn.ConvTranspose2d(3, 3, (5, 3), (3, 2), (1, 0), (0, 1))

    svg = draw_model(Shown(Wide()), CLIP, "named by its user")
    assert "named by its user" in words(svg)
    (line,) = [n for n in ElementTree.fromstring(svg).iter() if (n.text or "").startswith("ConvTranspose2d")]
    assert line.text == "ConvTranspose2d 5×3 /3×2 3 → 3"
    assert float(line.get("style").removeprefix("font-size:").removesuffix("px")) < 12.5


class Shown(Predictor):
    """A model of one layer that keeps nothing of what it sees."""

    Config = CopyLastConfig

    def __init__(self, layer):
        super().__init__(CopyLastConfig(), CLIP)
        self.part = layer

    @classmethod
    def request(cls, config):
        return ClipRequest(context=1)

    def loss(self, batch, step=0):
        return Loss(self.part.a_layer(batch.context[:, 0]).mean(), {})

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        return context[None, :, -1:].expand(samples, -1, horizon, -1, -1, -1)
