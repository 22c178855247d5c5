"""Latents on a grid of cells, and a recurrent memory over such grids, for small objects that move (dreams family).

A single vector for a whole frame leaves out what covers few pixels. Here every cell of the frame has a latent of its
own, from its own pixels only: what does not change keeps its latent exactly, and what moves changes few cells.

Axes: `b` clips, `t` time, `n` frames, `y x` rows and columns of the grid, `c` numbers of a cell. The latent of a frame
is the vector z = y x c, cells in rows, so that it has the same interface as that of a whole frame.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from framecast.core.errors import UserError
from framecast.core.types import ClipSpec
from framecast.models.dreams.config import CELL_FACTOR, DreamsConfig
from framecast.nn.film import FilmBlock
from framecast.nn.fsq import bounded, quantise
from framecast.nn.init import zero
from framecast.nn.mixture import Mixture
from framecast.nn.precision import autocast_off

#: Steps of the past in which a changed cell counts as moving.
MOVED = 4

#: Pixels around a changed one that weigh as much as it does.
_AROUND = 2

#: Log variance of a cell's latent at the start: narrow, or its noise would hide from the decoder what it encodes.
_LOGVAR = -4.0

#: Largest magnitude of a number of a dreamt latent. Those of frames are near N(0, 1); means relative to the last latent
#: would grow without a bound until they overflow.
REACH = 8.0

#: First logit of the gate between a drawn frame and its background.
GATE_BIAS = -1.0

#: Least difference of a mean latent that is a change of its cell; the same pixels give the same latent up to rounding.
CHANGE = 0.05


def grid_of(config: DreamsConfig, spec: ClipSpec) -> tuple[int, int]:
    """Rows and columns of cells in a frame.

    Raises:
        UserError: cells do not divide the frame.
    """
    side = config.cell_side
    if spec.height % side or spec.width % side:
        raise UserError(
            f"model.cell_side {side} does not divide frames of {spec.height}x{spec.width} px; "
            f"use --size {_divisible(spec.height, side)}x{_divisible(spec.width, side)} or another model.cell_side"
        )
    return spec.height // side, spec.width // side


def _divisible(length: int, side: int) -> int:
    return max(1, round(length / side)) * side


def weighted_error(frames: Tensor, decoded: Tensor, still: Tensor, change_weight: float) -> Tensor:
    """Squared error with weights 1 + change_weight * |frame - still picture|, the largest of channels and of 5x5 px.

    A weight on the changed pixels alone would let a sprite wipe out the walls around it.

    Args:
        frames: (n, c, h, w) in 0…1.
        decoded: (n, c, h, w) in 0…1.
        still: (c, h, w), or (n, c, h, w) of crops, in 0…1.
        change_weight: at least 0.

    Returns:
        Sum over a frame, averaged over frames.
    """
    changed = (frames - still).abs().amax(1, keepdim=True)
    weight = 1 + change_weight * functional.max_pool2d(changed, 2 * _AROUND + 1, stride=1, padding=_AROUND)
    return (weight * (frames - decoded).square()).sum((1, 2, 3)).mean()


def crops_of_change(frames: Tensor, still: Tensor, side: int, count: int) -> tuple[Tensor, Tensor]:
    """Crops of `count` x `count` cells around a cell of each frame, and of the still picture at the same places.

    The cell is drawn by its difference from the still picture in 85 % of frames, uniformly in the others; its place
    within the crop is random. Crops are as large as the frame where that has fewer cells.

    Args:
        frames: (n, c, h, w) in 0…1.
        still: (c, h, w) in 0…1.
        side: of a cell, px.
        count: cells along a side of a crop, at least 1.
    """
    n, _, height, width = frames.shape
    rows, columns = min(count, height // side), min(count, width // side)
    difference = functional.avg_pool2d((frames - still).abs().mean(1, keepdim=True), side).flatten(1) + 1e-6
    odds = 0.85 * difference / difference.sum(1, keepdim=True) + 0.15 / difference.shape[1]
    cell = torch.multinomial(odds, 1)[:, 0]
    offset = torch.rand(n, 2, device=frames.device)
    top = (cell // (width // side) - (offset[:, 0] * rows).long()).clamp(0, height // side - rows) * side
    left = (cell % (width // side) - (offset[:, 1] * columns).long()).clamp(0, width // side - columns) * side
    y = (top[:, None] + torch.arange(rows * side, device=frames.device))[:, :, None]
    x = (left[:, None] + torch.arange(columns * side, device=frames.device))[:, None]
    index = torch.arange(n, device=frames.device)[:, None, None]
    return frames[index, :, y, x].permute(0, 3, 1, 2), still[:, y, x].permute(1, 0, 2, 3)


def moving_cells(means: Tensor, grid: tuple[int, int]) -> Tensor:
    """Whether something changes in or beside a cell, (b, t - 1, y x) bool, of mean latents (b, t, z).

    A cell is marked at a step if it or one of its 8 neighbours changes in this step or the three before. A mark of
    changes in the target alone would depend on the outcome and bias the odds of rare events.
    """
    cells = rearrange(means, "b t (y x c) -> b t y x c", y=grid[0], x=grid[1])
    changed = ((cells[:, 1:] - cells[:, :-1]).abs() > CHANGE).any(-1).float()
    wide = functional.pad(changed, (1, 1, 1, 1, MOVED - 1, 0))
    return functional.max_pool3d(wide[:, None], (MOVED, 3, 3), stride=1)[:, 0].flatten(2) > 0


class Residual(nn.Module):
    """x + conv3x3(ReLU(conv3x3(ReLU(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same."""
        corrected: Tensor = x + self.second(functional.relu(self.first(functional.relu(x))))
        return corrected


class GridVAE(nn.Module):
    """Autoencoder with a latent for every cell of a frame: Gaussian (variational), or a discrete code.

    The encoder sees one cell at a time, as its difference from a still picture, the median of the first batch; the
    decoder sees neighbouring cells, and adds its output to the logit of that picture.

    Args:
        config: of the model.
        channels: of a frame.
        grid: rows and columns of cells.
    """

    still: Tensor

    def __init__(self, config: DreamsConfig, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        side, size = config.cell_side, config.code_size
        first, last = config.grid_widths
        self.side, self.size = side, size
        self.levels = config.levels if config.code == "discrete" else None
        self.encoder = nn.ModuleDict(
            {
                "layers": nn.Sequential(
                    nn.PixelUnshuffle(side),
                    nn.Conv2d(channels * side**2, first, 1),
                    nn.ReLU(),
                    nn.Conv2d(first, first, 1),
                    nn.ReLU(),
                ),
                "mean": nn.Conv2d(first, size, 1),
            }
        )
        if self.levels is None:
            logvar = nn.Conv2d(first, size, 1)
            zero(logvar)
            assert logvar.bias is not None
            nn.init.constant_(logvar.bias, _LOGVAR)
            self.encoder["logvar"] = logvar
        factor = side // CELL_FACTOR
        self.decoder = nn.Sequential(
            nn.Conv2d(size, first, 3, padding=1),
            Residual(first),
            nn.ReLU(),
            nn.Conv2d(first, last * factor**2, 1),
            nn.PixelShuffle(factor),
            Residual(last),
            nn.ReLU(),
            nn.Conv2d(last, channels * CELL_FACTOR**2, 3, padding=1),
            nn.PixelShuffle(CELL_FACTOR),
        )
        self.gate = _gate(config, size) if config.background == "last" else None
        self.register_buffer("still", torch.full((channels, grid[0] * side, grid[1] * side), 0.5))

    def gated(self, drawn: Tensor, latents: Tensor, frame: Tensor, base: Tensor) -> Tensor:
        """frame + m * (drawn - frame), the drawn frames where the gate m is open.

        Args:
            drawn: decoded frames or crops, (n, c, h, w) in 0…1.
            latents: of them, (n, z).
            frame: the background, (n, c, h, w) in 0…1.
            base: its latents, (n, z).

        Returns:
            (n, c, h, w) in 0…1, float32.
        """
        assert self.gate is not None
        rows = frame.shape[-2] // self.side
        pair = torch.cat(
            [rearrange(x, "n (y x c) -> n c y x", y=rows, c=self.size) for x in (latents, base, latents - base)], 1
        )
        m = self.gate(pair.contiguous(memory_format=torch.channels_last)).float().sigmoid()
        return torch.lerp(frame.float(), drawn.float(), m)

    def set_still(self, frames: Tensor) -> None:
        """Set the still picture to the median of frames (n, c, h, w) in 0…1."""
        self.still.copy_(frames.median(0).values)

    def encode(self, frames: Tensor, still: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (n, z) each, float32, of frames or crops of whole cells.

        Discrete codes are their own mean, without a variance: its logarithm is -inf.

        Args:
            frames: (n, c, h, w) in 0…1.
            still: the still picture at the places of the crops, (n, c, h, w); None for whole frames.
        """
        still = self.still if still is None else still
        features = self.encoder["layers"]((frames - still).contiguous(memory_format=torch.channels_last))
        mean = rearrange(self.encoder["mean"](features), "n c y x -> n y x c").float()
        if self.levels is not None:
            code = quantise(mean, self.levels).flatten(1)
            return code, torch.full_like(code, -torch.inf)
        logvar = rearrange(self.encoder["logvar"](features), "n c y x -> n (y x c)")
        return mean.flatten(1), logvar.float()

    def before_rounding(self, frames: Tensor) -> Tensor:
        """Numbers of the discrete codes of frames (n, c, h, w) before rounding, (n, y x, c), levels being 1 apart.

        The gradient reaches the frames, and not the encoder.
        """
        assert self.levels is not None
        weights = {name: p.detach() for name, p in self.encoder.named_parameters()}
        names = ("layers", "mean")
        x = (frames - self.still).contiguous(memory_format=torch.channels_last)
        for name in names:
            own = {k.removeprefix(f"{name}."): p for k, p in weights.items() if k.startswith(f"{name}.")}
            x = functional_call(self.encoder[name], own, (x,))
        return bounded(rearrange(x, "n c y x -> n (y x) c").float(), self.levels)

    def decode(self, latents: Tensor, still: Tensor | None = None) -> Tensor:
        """Frames or crops (n, c, h, w) in 0…1, float32, of latents (n, z); still as in `encode`."""
        still = self.still if still is None else still
        rows = still.shape[-2] // self.side
        cells = rearrange(latents, "n (y x c) -> n c y x", y=rows, c=self.size)
        change = self.decoder(cells.contiguous(memory_format=torch.channels_last))
        frames: Tensor = (change.float() + still.clamp(0.01, 0.99).logit()).sigmoid()
        return frames


def _gate(config: DreamsConfig, size: int) -> nn.Sequential:
    """Share of the drawn frame in every pixel, a logit, of the latents of both frames and their difference."""
    width = config.grid_widths[1]
    last = nn.Conv2d(width, config.cell_side**2, 3, padding=1)
    zero(last)
    assert last.bias is not None
    nn.init.constant_(last.bias, GATE_BIAS)  # most of every pixel is kept, and the gradient of the gate is not small
    return nn.Sequential(nn.Conv2d(3 * size, width, 3, padding=1), nn.ReLU(), last, nn.PixelShuffle(config.cell_side))


class GridMemory(nn.Module):
    """Convolutional recurrent network over grids of latents (and actions), then a mixture for the change of each cell.

    Residual blocks see the last two grids, positions and, by FiLM, the action; a convolutional GRU keeps what two grids
    do not show; a second block sees in addition the mean and maximum over the whole grid. The mixture's means are
    relative to the cell's latent, so that the start is persistence.

    Source: Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video Representations", 2016, arXiv
    1511.06432 (convolutional GRU).

    Args:
        config: of the model.
        actions: size of an action, 0 without.
        grid: rows and columns.
        components: Gaussians of the mixture.
    """

    def __init__(self, config: DreamsConfig, actions: int, grid: tuple[int, int], components: int) -> None:
        super().__init__()
        self.size, self.grid, self.actions = config.code_size, grid, actions
        self.components = components
        width, (hidden,) = config.memory_width, config.memory_sizes
        self.stem = nn.Conv2d(2 * self.size, width, 3, padding=1)
        self.positions = nn.Parameter(0.02 * torch.randn(1, width, *grid))
        self.before = nn.ModuleList(FilmBlock(width, max(1, actions)) for _ in range(config.memory_blocks))
        self.gates = nn.Conv2d(width, 3 * hidden, 1)
        self.recurrent = nn.Conv2d(hidden, 3 * hidden, 3, padding=1)
        self.join = nn.Conv2d(width + hidden, width, 1)
        self.after = nn.ModuleList(FilmBlock(width, max(1, actions) + 2 * hidden) for _ in range(config.memory_blocks))
        self.out = nn.Conv2d(width, Mixture.outputs(components, self.size, config.joint), 1)

    def fresh(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """State before latents (b, t, z + a): an empty hidden grid, and the first grid as the one before."""
        hidden = x.new_zeros(len(x), self.recurrent.in_channels, *self.grid)
        return hidden, self._cells(x[:, :1])[:, 0]

    def _cells(self, x: Tensor) -> Tensor:
        """Grids (b, t, c, y, x) of latents and actions (b, t, z + a)."""
        y, width = self.grid
        return rearrange(x[..., : self.size * y * width], "b t (y x c) -> b t c y x", y=y, x=width)

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Mixture outputs of every cell at every step, (b, t, y x, outputs), float32, and the state after the last.

        Args:
            x: (b, t, z + a), latents and actions.
            state: as returned; none is that of `fresh`.
        """
        (b, t), cells = x.shape[:2], self._cells(x)
        action = x[..., -self.actions :].flatten(0, 1) if self.actions else x.new_zeros(b * t, 1)
        hidden, before = state or self.fresh(x)
        past = torch.cat([before[:, None], cells[:, :-1]], 1)
        maps = torch.cat([cells, cells - past], 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        maps = self.stem(maps) + self.positions
        for block in self.before:
            maps = block(maps, action)
        maps = functional.relu(maps)
        states, hidden = self._recur(rearrange(self.gates(maps), "(b t) c y x -> t b c y x", b=b), hidden)
        pooled = torch.cat([states.mean((2, 3)), states.amax((2, 3)), action.to(states)], 1)
        maps = self.join(torch.cat([maps, states.to(maps)], 1))
        for block in self.after:
            maps = block(maps, pooled)
        with autocast_off(x):
            out = self._relative(self.out(functional.relu(maps.float())), cells.flatten(0, 1).float())
        return rearrange(out, "(b t) c y x -> b t (y x) c", b=b), (hidden, cells[:, -1])

    def _recur(self, gates: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden grids of all steps, (b t, c, y, x), and the last; gates (t, b, 3 c, y, x) from the input."""
        states = []
        for given in gates.float():
            kept = self.recurrent(hidden.contiguous(memory_format=torch.channels_last)).float()
            (ir, iu, ic), (hr, hu, hc) = given.chunk(3, 1), kept.chunk(3, 1)
            update = torch.sigmoid(iu + hu)
            candidate = torch.tanh(ic + torch.sigmoid(ir + hr) * hc)
            hidden = update * hidden + (1 - update) * candidate
            states.append(hidden)
        return rearrange(torch.stack(states, 1), "b t c y x -> (b t) c y x"), hidden

    def _relative(self, out: Tensor, cells: Tensor) -> Tensor:
        """The outputs with the cell's latent added to every component's mean."""
        block = self.components * self.size
        return torch.cat([out[:, :block] + cells.repeat(1, self.components, 1, 1), out[:, block:]], 1)
