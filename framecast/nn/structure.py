"""Structure vectors: the encoder that reads one off a frame, the recurrent network that continues them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framecast.nn.colour import to_grey
from framecast.nn.norm import LayerNorm
from framecast.nn.peephole import PeepholeCell
from framecast.nn.precision import full_precision
from framecast.nn.vgg import Convention, VGGTrunk

#: Of the noise input.
NOISE_SIZE = 100


class Encoder(nn.Module):
    """A frame's structure vector, its encoding: the convolutions of VGG, dropout, one linear layer.

    size: of the encoding, E.  side: of the square frames, px.  widths, convention: see `VGGTrunk`.  keep: probability
    of keeping a feature while training.  grey: look at luminance only.  normalise: encodings of length 1.
    Starts from He's weights: with the published start, a normal of sd 0.01, the encodings of different frames would
    differ by 1e-9.
    """

    def __init__(
        self,
        size: int,
        side: int,
        channels: int,
        widths: Sequence[Sequence[int]],
        convention: Convention,
        keep: float = 1.0,
        grey: bool = False,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = VGGTrunk(widths, channels, convention)
        self.keep = nn.Dropout(1 - keep)
        self.out = nn.Linear(widths[-1][-1] * (side // 2 ** len(widths)) ** 2, size)
        self.grey, self.normalise = grey and channels == 3, normalise
        for layer in self.trunk.convolutions:
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.out.weight, std=1e-4, a=-2e-4, b=2e-4)
        nn.init.zeros_(self.out.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(b, c, h, w) in 0…1 to (b, E) float32."""
        features = self.keep(self.trunk(to_grey(images) if self.grey else images).flatten(1))
        return self._out(features)

    @full_precision
    def _out(self, features: Tensor) -> Tensor:
        encoding: Tensor = self.out(features)
        return F.normalize(encoding, dim=-1, eps=1e-12) if self.normalise else encoding


class StructurePredictor(nn.Module):
    """The next encoding from this one and the action: a stack of recurrent cells with shortcuts, in float32.

    size: of encodings, E.  actions: numbers in an action; all layers have n = E + actions units.  depth: cells above
    the first; every second one has a layer norm.  What the cell two below the top held at the step before goes back
    into the first one.  noise: sd of the 100 noise inputs.  state_noise: sd of the noise added to the states while
    training, as a share of theirs.  normalise: encodings of length 1.  change: what comes out is added to the
    encoding that went in.
    Source: the published code of Wichers et al. 2018 (21 cells, the 19th fed back).
    """

    def __init__(
        self,
        size: int,
        actions: int,
        depth: int = 20,
        noise: float = 0.0,
        state_noise: float = 0.0,
        normalise: bool = False,
        change: bool = False,
    ) -> None:
        super().__init__()
        n = size + actions
        self.pre = nn.Linear(n, n)
        self.noise = nn.Linear(NOISE_SIZE, n) if noise else None
        self.feedback = nn.Parameter(torch.empty(2 * n))
        inputs = [3 * n] + [n if k % 2 else 2 * n for k in range(1, depth + 1)]
        self.cells = nn.ModuleList(PeepholeCell(width, n) for width in inputs)
        self.norms = nn.ModuleList(LayerNorm(n) for _ in inputs[::2])
        self.out = nn.Linear(n, size)
        self.normalise, self.change, self.noise_sd, self.state_sd = normalise, change, noise, state_noise
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif not name.startswith("norms"):
                nn.init.trunc_normal_(p, std=1e-2, a=-2e-2, b=2e-2)

    def start(self, batch: int) -> Tensor:
        """States before the first step, (b, cells + 1, 2n): zeros, then what is fed back into cell 0, learned."""
        cells = self.feedback.new_zeros(batch, len(self.cells), len(self.feedback))
        return torch.cat([cells, self.feedback.expand(batch, 1, -1)], 1)

    @full_precision
    def forward(
        self, encoding: Tensor, action: Tensor, states: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step.  encoding: (b, E).  action: (b, a).  states: (b, cells + 1, 2n).  Returns: (b, E), new states."""
        pre = self.pre(torch.cat([encoding, action], -1))
        if self.noise is not None:
            shape = (len(pre), NOISE_SIZE)
            pre = pre + self.noise(self.noise_sd * torch.randn(shape, generator=generator, device=pre.device))
        pre = F.relu(pre)
        before, new = states.unbind(1), []
        p = torch.cat([pre, before[-1]], -1)
        for k, cell in enumerate(self.cells):
            out, state = cell(torch.cat([p, pre], -1) if k and k % 2 == 0 else p, before[k])
            out = out if k % 2 else self.norms[k // 2](out)
            p = p + out if k else out
            new.append(state)
        found = torch.stack(new, 1)
        if self.training and self.state_sd:
            size = found.std(-1).mean(0)[:, None]
            found = found + nn.init.trunc_normal_(torch.empty_like(found)) * size * self.state_sd
        back = found[:, -3:-2]  # the cell two below the top, from the step before
        encoding = encoding + self.out(p) if self.change else self.out(p)
        encoding = F.normalize(encoding, dim=-1, eps=1e-12) if self.normalise else encoding
        return encoding, torch.cat([found, back], 1)
