"""A memory over grids that sees decoded pictures, and the loss of a memory on its own grids (dreams family).

A code of a cell hides by how many pixels an object has moved within it, and what is next to a wall: both are plain in
the decoded picture. Trained on true grids only, a memory never sees the errors of its own; trained on its own for long
after it has left the truth, it learns to hedge. Hence recursion with a return to the truth.

Axes: `b` clips, `t` time, `y x` rows and columns of the grid, `c` numbers of a cell.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from framecast.core.types import Batch, Loss
from framecast.models.dreams.config import DreamsConfig, Head
from framecast.models.dreams.grid import CHANGE, MOVED, REACH, GridVAE, moving_cells
from framecast.nn.film import FilmBlock
from framecast.nn.fsq import Choice, codebook, indices, unit
from framecast.nn.init import zero
from framecast.nn.mixture import Mixture
from framecast.nn.precision import autocast_off

if TYPE_CHECKING:
    from framecast.models.dreams.predictor import Dreams

#: Time constants, in frames, of the traces of changed cells.
_TRACES = (2.0, 8.0, 30.0)

#: Size of the vector of actions and clock, and number of last actions in it.
_CONDITION, _ACTIONS = 64, 4

#: First logit, relative to the others, of the code that a cell has now.
_COPY = 2.0

#: First scale, before softplus, of squared distances from the numbers of the next picture, in levels.
_SCALE = 2.0

#: Difference of a decoded pixel, in 0…1, that is visible.
_VISIBLE = 0.25


class PictureMemory(nn.Module):
    """U-Net from the last grids, their decoded pictures, and ages, to a distribution of the next code of each cell.

    Ages: steps since each cell changed, as traces; the least of them over the grid, a clock of how long nothing has
    moved, conditions the blocks together with the last actions. There are learned position maps at both sizes of the
    grid. For discrete codes the network draws the next picture, whose code under the encoder is the likeliest one; a
    second output corrects the logits.

    Source: Ronneberger et al., "U-Net", 2015, arXiv 1505.04597; Perez et al., "FiLM", 2018, arXiv 1709.07871.

    Args:
        config: of the model.
        actions: size of an action, 0 without.
        grid: rows and columns.
        components: Gaussians of the mixture; not used for discrete codes.
        channels: of a frame.
    """

    codes: Tensor

    def __init__(
        self, config: DreamsConfig, actions: int, grid: tuple[int, int], components: int, channels: int
    ) -> None:
        super().__init__()
        self.size, self.grid, self.actions, self.side = config.code_size, grid, actions, config.cell_side
        self.frames, self.context = config.memory_frames, config.context
        self.levels = config.levels if config.code == "discrete" else None
        self.components = components
        width, (bottom,) = config.memory_width, config.memory_sizes
        rows, columns = (-(-n // 2) for n in grid)
        self.act = nn.Linear(max(1, actions) * min(_ACTIONS, config.context), _CONDITION)
        self.clock = nn.Embedding(config.context, _CONDITION)
        nn.init.normal_(self.clock.weight, std=0.02)
        seen = self.frames * (channels * self.side**2 + self.size) + len(_TRACES)
        self.stem = nn.Conv2d(seen, width, 1)
        self.positions = nn.Parameter(0.02 * torch.randn(1, width, *grid))
        self.below = nn.Parameter(0.02 * torch.randn(1, bottom, rows, columns))
        self.down = FilmBlock(width, _CONDITION)
        self.shrink = nn.Conv2d(width, bottom, 2, stride=2)
        self.before = nn.ModuleList(FilmBlock(bottom, _CONDITION) for _ in range(config.memory_blocks))
        self.pooled = nn.Linear(2 * bottom, _CONDITION)
        zero(self.pooled)
        self.after = nn.ModuleList(FilmBlock(bottom, _CONDITION) for _ in range(config.memory_blocks))
        self.grow = nn.Conv2d(bottom, 4 * width, 1)
        self.up = nn.ModuleList(FilmBlock(width, _CONDITION) for _ in range(2))
        if self.levels is None:
            self.out = nn.Conv2d(width, Mixture.outputs(components, self.size, config.joint), 1)
        else:
            self.out = nn.Conv2d(width, math.prod(self.levels), 1)
            self.copy = nn.Parameter(torch.tensor(_COPY))
            self.change = nn.Conv2d(width, channels * self.side**2, 1)
            zero(self.change)
            self.scale = nn.Parameter(torch.tensor(_SCALE))
            codes = codebook(self.levels)
            self.register_buffer("codes", codes * unit(self.levels, codes), persistent=False)
        zero(self.out)

    def forward(self, x: Tensor, pictures: Tensor, vae: GridVAE) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs of every cell for the step after the window, (b, 1, y x, outputs), float32, and no state.

        Args:
            x: (b, T, z + a), latents and actions of the window.
            pictures: decoded frames of the last `memory_frames` latents, (b, frames, channels, h, w) in 0…1.
            vae: of the codes.
        """
        cells = self._cells(x)
        condition, since = self._condition(x, cells)
        maps = [functional.pixel_unshuffle(pictures.flatten(1, 2), self.side), cells[:, -self.frames :].flatten(1, 2)]
        maps += [torch.exp(-since / tau)[:, None] for tau in _TRACES]
        y = self.stem(torch.cat(maps, 1).contiguous(memory_format=torch.channels_last)) + self.positions
        y = skip = self.down(y, condition)
        rows, columns = self.grid
        y = self.shrink(functional.pad(y, (0, columns % 2, 0, rows % 2))) + self.below
        for block in self.before:
            y = block(y, condition)
        condition = condition + self.pooled(torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1))
        for block in self.after:
            y = block(y, condition)
        y = skip + functional.pixel_shuffle(self.grow(y), 2)[:, :, :rows, :columns]
        y = y.contiguous(memory_format=torch.channels_last)
        for block in self.up:
            y = block(y, condition)
        y = functional.relu(y)
        near: Tensor | None = None
        after: tuple[Tensor, ...] = ()
        if self.levels is not None:
            picture = pictures[:, -1] + functional.pixel_shuffle(self.change(y), self.side)
            near, after = vae.before_rounding(picture), (picture,)
        out = self.out(y)
        with autocast_off(x):
            out = rearrange(out.float(), "b c y x -> b (y x) c")
            last = rearrange(cells[:, -1].float(), "b c y x -> b (y x) c")
            return self._relative(out, last, near)[:, None], after

    def _cells(self, x: Tensor) -> Tensor:
        rows, columns = self.grid
        return rearrange(x[..., : self.size * rows * columns], "b t (y x c) -> b t c y x", y=rows, x=columns)

    def _condition(self, x: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The vector (b, d) of actions and clock, and the steps since each cell changed, (b, y, x), at most T - 1."""
        steps = cells.shape[1]
        changed = ((cells[:, 1:] - cells[:, :-1]).abs() > CHANGE).any(2)
        place = torch.arange(1, steps, device=x.device).view(-1, 1, 1)
        last = (changed * place).amax(1) if steps > 1 else x.new_zeros(len(x), *self.grid)
        since = steps - 1 - last
        count = min(_ACTIONS, self.context)
        led = x[:, -count:, -self.actions :].flatten(1) if self.actions else x.new_zeros(len(x), count)
        vector = functional.relu(self.act(led) + self.clock(since.flatten(1).amin(1).long()))
        return vector, since.float()

    def _relative(self, out: Tensor, last: Tensor, near: Tensor | None) -> Tensor:
        """The outputs relative to the last grid, whose latents are added to all means, or to the next picture's code.

        Args:
            out: (b, y x, outputs).
            last: numbers of the last grid, (b, y x, c).
            near: those of the next picture before rounding, of discrete codes.
        """
        if self.levels is not None:
            assert near is not None
            # -s |near - code|^2 without what is the same for all codes, as one product
            s = functional.softplus(self.scale)
            code = torch.cat([self.codes, self.codes.square().sum(1, keepdim=True)], 1)
            rows = torch.cat([2 * s * near, -s.expand(*near.shape[:-1], 1)], 2).flatten(0, 1)
            logits = torch.addmm(out.flatten(0, 1), rows, code.T)
            now = indices(last, self.levels).flatten()[:, None]
            return logits.scatter_add(1, now, self.copy.expand(len(logits), 1)).view_as(out)
        block = self.components * self.size
        return torch.cat([out[..., :block] + last.repeat(1, 1, self.components), out[..., block:]], -1)


def grid_loss(model: Dreams, batch: Batch, head: Head) -> Loss:
    """Negative log likelihood of the cells, averaged with a larger weight on moving cells.

    Without a carried state the loss is that of `recursion` frames, the first after true grids, the others after as many
    of the memory's own samples in a row as the ramp allows; a clip returns to the true grids when more than
    `reset_cells` cells are drawn visibly otherwise.

    Parts: nll, nats per latent of a frame; moving_nll, nats per moving cell; with recursion reset, the share of
    returns; picture, the squared error of the next picture per cell, where the memory draws one.
    """
    found = model.encoded(batch)
    z, means, led = model.drawn_latents(found), found.get("mean", found.get("z")), None
    assert means is not None
    if model.action_size:
        if batch.actions is None:
            raise ValueError("this model was built for actions but the batch has none")
        led = batch.actions
    if model.config.recurrence == "carried":
        moving = moving_cells(means, model.grid)
        x = z[:, :-1] if led is None else torch.cat([z[:, :-1], led], -1)
        nll = _nll(model, model.recurrent(head)(x)[0], z[:, 1:], head)
        return _weighted(model, nll, moving, {})
    recent = means[:, max(0, model.config.context - MOVED) :]
    moving = moving_cells(recent, model.grid)[:, -model.config.recursion :]
    return _recursive(model, z, led, moving, head, batch.elapsed)


def _recursive(model: Dreams, z: Tensor, led: Tensor | None, moving: Tensor, head: Head, elapsed: float) -> Loss:
    config = model.config
    window, steps = config.context, config.recursion
    assert z.shape[1] == window + steps, (z.shape, window, steps)
    depth = steps
    if model.training and config.recursion_ramp:
        depth = min(steps, 1 + int(elapsed / config.recursion_ramp * steps))
    count = config.memory_frames if config.grid_memory == "pictures" else 1
    with torch.no_grad():
        # pictures of the true grids from the last `count` of the context on
        true = model.decode(z[:, window - count :]) if steps > 1 or config.grid_memory == "pictures" else None
    own, shown = z[:, :window], None if true is None else true[:, :count]
    losses, errors, marks, resets = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
    for k in range(steps):
        x = own if led is None else torch.cat([own, led[:, k : k + window].to(own)], -1)
        out, after = model.recurrent(head)(x, *([shown, model.vae] if config.grid_memory == "pictures" else []))
        out, target = out[:, -1], z[:, window + k]
        losses.append(_nll(model, out, target, head))
        if config.code == "discrete" and config.grid_memory == "pictures":
            assert true is not None
            errors.append(_picture_error(after[0], true[:, count + k], config))
        mark = moving[:, k]
        if config.code == "discrete" and k:
            mark = mark | moving_cells(torch.cat([own[:, -MOVED:], target[:, None]], 1), model.grid)[:, -1]
        marks.append(mark)
        if k + 1 == steps:
            break
        assert true is not None
        assert shown is not None
        with torch.no_grad():
            drawn = _drawn(model, out.detach(), head)
            picture, truth = model.decode(drawn[:, None]), true[:, count + k : count + k + 1]
            left = _left(picture[:, 0], truth[:, 0], config) | torch.tensor((k + 1) % depth == 0, device=z.device)
            resets.append(left.float().mean())
            back, followed = z[:, k + 1 : k + 1 + window], torch.cat([own[:, 1:], drawn[:, None]], 1)
            own = torch.where(left[:, None, None], back, followed)
            seen = torch.cat([shown[:, 1:], picture], 1)
            shown = torch.where(left.view(-1, 1, 1, 1, 1), true[:, k + 1 : k + 1 + count], seen)
    parts = {"reset": torch.stack(resets).mean()} if resets else {}
    found = _weighted(model, torch.stack(losses, 1), torch.stack(marks, 1), parts)
    if not errors:
        return found
    weight = 1 + config.change_weight * torch.stack(marks, 1)
    error = (weight * torch.stack(errors, 1)).sum() / weight.sum()
    return Loss(found.total + config.picture_weight * error, {**found.parts, "picture": error.detach()})


def _picture_error(picture: Tensor, truth: Tensor, config: DreamsConfig) -> Tensor:
    """Squared error of a picture (b, c, h, w), summed over each cell, (b, y x)."""
    error = (picture.float() - truth).square().sum(1, keepdim=True)
    return config.cell_side**2 * functional.avg_pool2d(error, config.cell_side).flatten(1)


def _drawn(model: Dreams, out: Tensor, head: Head) -> Tensor:
    """One draw of a grid (b, z) at the config's temperatures, by torch's global generator."""
    c, law = model.config, model.law(out, head)
    if isinstance(law, Choice):
        return law.sample(c.weight_temperature).flatten(1)
    latent = law.sample(c.weight_temperature, c.sigma_temperature, c.sigma_is_variance)
    return latent.flatten(1).clamp(-REACH, REACH)


def _left(picture: Tensor, truth: Tensor, config: DreamsConfig) -> Tensor:
    """Whether a clip has left the truth, (b,) bool, by decoded frames (b, c, h, w)."""
    if not config.reset_cells:
        return torch.zeros(len(picture), dtype=torch.bool, device=picture.device)
    visible = ((picture - truth).abs().amax(1, keepdim=True) > _VISIBLE).float()
    return functional.max_pool2d(visible, config.cell_side).flatten(1).sum(1) > config.reset_cells


def _nll(model: Dreams, out: Tensor, target: Tensor, head: Head) -> Tensor:
    law = model.law(out, head)
    return -law.log_prob(rearrange(target, "... (n c) -> ... n c", c=model.config.code_size))


def _weighted(model: Dreams, nll: Tensor, moving: Tensor, parts: dict[str, Tensor]) -> Loss:
    """Loss of nats (b, t, n) of cells, some of them moving, (b, t, n) bool."""
    weight = 1 + model.config.change_weight * moving
    inside = (nll * moving).sum() / moving.sum().clamp(min=1)
    parts = {"nll": nll.sum(-1).mean().detach(), "moving_nll": inside.detach(), **parts}
    return Loss((weight * nll).sum() / weight.sum(), parts)
