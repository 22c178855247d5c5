"""Drawing by analogy: alignment of the doubling layer, the blend, and the shortcut that computes the anchor once."""

import numpy as np
import torch

from framecast.models.hierarchical.networks import AnalogyNetwork, Discriminator, DoublingConv, blend


def test_doubling_is_aligned_as_tensorflow_does():
    """y[2i + k] += w[k] x[i] for k = 0, 1, 2; what falls beyond twice the size is dropped."""
    layer = DoublingConv(1, 1).double()
    x = torch.randn(1, 1, 3, 3).double()
    w, expected = layer.weight.detach().numpy()[0, 0], np.full((7, 7), float(layer.bias.detach()))
    for i in range(3):
        for j in range(3):
            expected[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += w * float(x[0, 0, i, j])
    np.testing.assert_allclose(layer(x).detach().numpy()[0, 0], expected[:6, :6], atol=1e-12)


def test_blend_takes_each_pixel_from_one_of_two():
    drawn, frame = torch.randn(2, 3, 4, 5, 5), torch.rand(2, 3, 5, 5)
    images, mask, _ = blend(drawn, frame)
    for b in range(2):
        for t in range(3):
            m = 1 / (1 + torch.exp(-drawn[b, t, 3]))
            torch.testing.assert_close(images[b, t], m * drawn[b, t, :3] + (1 - m) * frame[b])
            torch.testing.assert_close(mask[b, t, 0], m)


def test_precomputed_anchor_gives_the_joined_convolution():
    torch.manual_seed(0)
    van = AnalogyNetwork(6, 32, 3, d=4).double().eval()
    frame, first, targets = (torch.randn(*s).double() for s in ((2, 3, 32, 32), (2, 6), (2, 3, 6)))
    images, *_ = van(frame, van.anchor(frame, first), targets)
    for t in range(3):  # as published: the two halves are joined on channels for every frame
        maps = van.structure(targets[:, t])[1]
        a, b = van.difference(van.image(frame) - van.structure(first)[1]), van.target(maps)
        joined = torch.nn.functional.conv2d(torch.cat([a, b], 1), van.join.weight, van.join.bias, padding=1)
        drawn = van.decoder(maps + van.analogy(joined))
        torch.testing.assert_close(images[:, t], blend(drawn[:, None], frame)[0][:, 0])


def test_negative_entries_of_an_encoding_are_not_seen():
    van = AnalogyNetwork(6, 32, 3, d=4).eval()
    one, other = torch.randn(2, 1, 6)
    other = torch.where(one < 0, -other.abs(), one)
    torch.testing.assert_close(van.structure(one)[1], van.structure(other)[1])


def test_critic_output_depends_on_the_whole_sequence_and_its_own_past():
    torch.manual_seed(0)
    critic = Discriminator(6, 32, d=4)
    structures = torch.randn(2, 3, 6 + 8 * 16 + 16 * 16)
    for t in range(3):
        other = structures.clone()
        other[:, t] += 1
        assert not torch.allclose(critic(structures), critic(other), atol=1e-7)
