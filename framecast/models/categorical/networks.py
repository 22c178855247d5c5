"""Networks of the categorical family: what is known of a scene as tensors, and a U-Net conditioned by FiLM.

Axes: `b` clips, `k` colours of the palette, `h w` one frame. Frames are palette indices (b, h, w), int64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from framecast.models.categorical.config import CategoricalConfig
from framecast.nn.film import FilmBlock
from framecast.nn.init import zero

#: Steps after which a colour counts as never seen at a pixel; the traces have then decayed to 0.
NEVER = 1000.0

#: Least logarithm of a trace.
_LEAST = -80.0

#: Least share of frames with a colour of the scene.
_SCENE = 0.5

#: Halvings of a frame's sides within the network: the first convolution and two strided ones.
_HALVINGS = 3


@dataclass(frozen=True)
class History:
    """What is known before a step: all that the network sees of the past.

    Attributes:
        frames: the last frames as palette indices, oldest first, (b, t, h, w) int64.
        since: steps since each pixel last had each colour, (b, k, h, w) float, at most NEVER.
        present: consecutive frames up to now that show each colour, (b, k) float.
        actions: the last actions, oldest first, (b, n, a); a = 0 without actions.
    """

    frames: Tensor
    since: Tensor
    present: Tensor
    actions: Tensor

    @classmethod
    def of(cls, frames: Tensor, actions: Tensor | None, colours: int, config: CategoricalConfig, size: int) -> History:
        """The history after some frames.

        Args:
            frames: palette indices (b, t, h, w), int64.
            actions: (b, t - 1, a), or None.
            colours: number of colours k.
            config: of the model.
            size: size a of an action.
        """
        b, t, h, w = frames.shape
        # channels last in training, as the network's inputs
        empty = frames.new_full((b, h, w, colours) if torch.is_grad_enabled() else (b, colours, h, w), -1)
        last = empty.permute(0, 3, 1, 2) if torch.is_grad_enabled() else empty
        for i in range(t):
            last.scatter_(1, frames[:, i : i + 1], i)
        since = torch.where(last < 0, NEVER, (t - 1 - last).float())
        seen = torch.zeros(b * t, colours, device=frames.device)
        seen.scatter_(1, frames.reshape(b * t, -1), 1.0)
        absent = 1 - rearrange(seen, "(b t) k -> b t k", b=b).flip(1)
        present = (absent.cumsum(1) == 0).float().sum(1)
        count = config.actions_seen - 1
        past = torch.zeros(b, count, size, device=frames.device)
        if actions is not None and size and min(count, actions.shape[1]):
            past = torch.cat([past, actions], 1)[:, -count:]
        need = config.frames
        shown = frames[:, -need:] if t >= need else torch.cat([frames[:, :1].expand(-1, need - t, -1, -1), frames], 1)
        return cls(shown, since, present, past)

    def advance(self, frame: Tensor, action: Tensor) -> History:
        """The history one step later.

        Args:
            frame: the new frame, palette indices (b, h, w).
            action: the action that led to it, (b, a).
        """
        since = (self.since + 1).clamp_(max=NEVER).scatter_(1, frame[:, None], 0.0)
        shown = (_least(since) == 0).float()
        return History(
            torch.cat([self.frames[:, 1:], frame[:, None]], 1),
            since,
            (self.present + 1) * shown,
            torch.cat([self.actions, action[:, None]], 1)[:, 1:],
        )

    def where(self, chosen: Tensor, other: History) -> History:
        """This history in the clips that are chosen, (b,) bool, the other one elsewhere."""

        def pick(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(chosen.view(-1, *[1] * (a.ndim - 1)), a, b)

        names = ("frames", "since", "present", "actions")
        return History(*(pick(getattr(self, name), getattr(other, name)) for name in names))


class Clock(nn.Module):
    """Vector (b, d) of how long each colour has been away and has been there.

    A serve that follows a fixed pause, or the end of a timed phase, cannot be predicted from a few frames. Each age has
    an entry of its own up to `steps`, and its logarithm.

    Args:
        colours: number of colours.
        steps: largest age.
        limit: age at which the clock stops, at most `steps`: the longest that a context can show.
        size: of the vector.
    """

    def __init__(self, colours: int, steps: int, limit: int, size: int) -> None:
        super().__init__()
        self.steps, self.limit = steps, min(steps, limit)
        self.table = nn.Embedding(2 * colours * (steps + 1), size)
        nn.init.normal_(self.table.weight, std=0.02)
        self.logarithm = nn.Linear(2 * colours, size)

    def forward(self, history: History) -> Tensor:
        """The vector of a history."""
        ages = torch.cat([_least(history.since), history.present], 1).clamp(max=self.limit)
        rows = ages.long() + torch.arange(ages.shape[1], device=ages.device) * (self.steps + 1)
        table: Tensor = self.table(rows).sum(1)
        logarithm: Tensor = self.logarithm(torch.log1p(ages) / math.log1p(self.steps))
        return table + logarithm


class Network(nn.Module):
    """U-Net from a history and an action to logits of every pixel's next colour, and features of the whole scene.

    Args:
        config: of the model.
        colours: number of colours k.
        height, width: of a frame, px.
        actions: size of an action, 0 without.
    """

    common: Tensor

    def __init__(self, config: CategoricalConfig, colours: int, height: int, width: int, actions: int) -> None:
        super().__init__()
        self.config, self.colours, self.size = config, colours, (height, width)
        self.padded = tuple(-(-side // 2**_HALVINGS) * 2**_HALVINGS for side in self.size)
        widths, d = config.widths, config.condition
        first, middle, bottom = widths
        self.act = nn.Linear(max(1, actions * config.actions_seen), d)
        self.clock = Clock(colours, config.clock, config.history, d) if config.clock else None
        self.mix = nn.Linear(d, d)
        areas, presence = config.areas or (0,) * colours, config.presence or (1.0,) * colours
        # the colour that all chasers have for a while is large too, but most frames lack it
        common = [area > config.rare_area and share >= _SCENE for area, share in zip(areas, presence, strict=True)]
        self.register_buffer("common", torch.tensor(common).view(-1, 1, 1), persistent=False)
        planes = (config.frames + len(config.traces) + config.background) * colours
        self.stem = nn.Conv2d(planes, first, 2, stride=2)  # space to depth, then a 1x1 convolution
        if config.positions:
            self.positions = nn.ParameterList(
                nn.Parameter(0.02 * torch.randn(1, c, self.padded[0] >> i, self.padded[1] >> i))
                for i, c in enumerate(widths, 1)
            )
        counts = config.blocks
        self.down = nn.ModuleList(
            nn.ModuleList(FilmBlock(c, d) for _ in range(n)) for c, n in zip(widths, counts, strict=True)
        )
        self.up = nn.ModuleList(
            nn.ModuleList(FilmBlock(c, d) for _ in range(n)) for c, n in zip(widths[:2], counts[:2], strict=True)
        )
        self.shrink = nn.ModuleList([nn.Conv2d(first, middle, 2, stride=2), nn.Conv2d(middle, bottom, 2, stride=2)])
        self.grow = nn.ModuleList([nn.Conv2d(middle, 4 * first, 1), nn.Conv2d(bottom, 4 * middle, 1)])
        self.pooled = nn.Linear(2 * bottom, d)
        zero(self.pooled)
        self.head = nn.Conv2d(first, 4 * colours, 1)
        zero(self.head)
        self.copy = nn.Parameter(torch.tensor(float(config.copy_logit)))
        if config.background:
            self.uncover = nn.Parameter(torch.tensor(float(config.copy_logit) / 2))

    def forward(self, history: History, action: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (b, k, h, w), float32, and features of the scene (b, 2 bottom + 2 first + d).

        Args:
            history: before the step.
            action: (b, a), the action at the last frame.
        """
        condition, behind = self._condition(history, action), self.background(history)
        x, skips = self.stem(self._planes(history, behind)), []
        for i in (0, 1):
            x = _through(self.down[i], self._place(x, i), condition)
            skips.append(x)
            x = self.shrink[i](x)
        bottom = list(self.down[2].children())
        x = _through(bottom[: len(bottom) // 2], self._place(x, 2), condition)
        condition = condition + self.pooled(_pool(x))
        x = _through(bottom[len(bottom) // 2 :], x, condition)
        scene = _pool(x)
        for i in (1, 0):
            grown = functional.pixel_shuffle(self.grow[i](x), 2)
            x = skips[i] + grown.contiguous(memory_format=torch.channels_last)
            x = _through(self.up[i], x, condition)
        # one_hot would read the largest index
        last = (history.frames[:, -1, ..., None] == torch.arange(self.colours, device=x.device)).permute(0, 3, 1, 2)
        h, w = self.size
        change = _enlarged(self._headed(functional.relu(x)))[:, :, :h, :w]
        logits = change.float() + self.copy * last.float()
        if behind is not None:
            logits = logits + self.uncover * behind
        return logits, torch.cat([scene, _pool(x), condition], 1).float()

    def background(self, history: History) -> Tensor | None:
        """The scene without its objects: the newest common colour of each pixel, (b, k, h, w) of 0 and 1.

        All zero where a pixel had none in the history; None without the option.
        """
        if not self.config.background:
            return None
        since, newest = torch.where(self.common, history.since, NEVER).min(1, keepdim=True)
        colours = torch.arange(self.colours, device=since.device).view(1, -1, 1, 1)
        return ((newest == colours) & (since < NEVER)).float()

    def _planes(self, history: History, behind: Tensor | None) -> Tensor:
        """Input maps (b, (t + traces + 1) k, h, w), padded with zeros to a size that can be halved; channels last.

        In training made as (b, h, w, channels), and in the precision of the convolutions, of which 0 and 1 are numbers.
        """
        device, axis = history.since.device, 3 if torch.is_grad_enabled() else 1
        narrow = axis == 3 and torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if narrow else torch.float32
        # bounded, since numbers too small for the usual format take ten times as long
        traces = [torch.exp((math.log(decay) * history.since).clamp_(min=_LEAST)) for decay in self.config.traces]
        maps = [x.to(dtype) for x in (*traces, *([] if behind is None else [behind]))]
        if axis == 3:
            rows = torch.eye(self.colours, dtype=dtype, device=device)
            places = history.frames.permute(0, 2, 3, 1)
            shown = rows.index_select(0, places.flatten()).view(*places.shape[:3], -1)
            maps = [x.permute(0, 2, 3, 1) for x in maps]
        else:
            colours = torch.arange(self.colours, device=device).view(-1, 1, 1)
            shown = rearrange((history.frames[:, :, None] == colours).float(), "b t k h w -> b (t k) h w")
        planes = torch.cat([shown, *maps], axis)
        planes = planes.permute(0, 3, 1, 2) if axis == 3 else planes
        (h, w), (height, width) = self.size, self.padded
        planes = functional.pad(planes, (0, width - w, 0, height - h)) if (h, w) != (height, width) else planes
        return planes.contiguous(memory_format=torch.channels_last)

    def _condition(self, history: History, action: Tensor) -> Tensor:
        led = torch.cat([history.actions, action[:, None]], 1).flatten(1)
        if not led.shape[1]:
            led = led.new_zeros(len(led), 1)
        vector: Tensor = self.act(led)
        if self.clock is not None:
            vector = vector + self.clock(history)
        mixed: Tensor = functional.relu(self.mix(functional.relu(vector)))
        return mixed

    def _headed(self, x: Tensor) -> Tensor:
        """The head's maps, in training in full precision a product of matrices: its gradient needs no other layout."""
        if not torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
            return self.head(x)  # type: ignore[no-any-return]
        weight = self.head.weight.flatten(1)
        return functional.linear(x.permute(0, 2, 3, 1), weight, self.head.bias).permute(0, 3, 1, 2)

    def _place(self, x: Tensor, level: int) -> Tensor:
        return x + self.positions[level] if self.config.positions else x


class Outcomes(nn.Module):
    """Logits of the reward's class, of termination and of truncation, from features of the scene.

    Args:
        features: number of features.
        rewards: number of different rewards; 0 for none.
        flags: number of yes-or-no outcomes.
    """

    def __init__(self, features: int, rewards: int, flags: int) -> None:
        super().__init__()
        self.rewards = rewards
        self.layers = nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, rewards + flags))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of rewards (b, r) and of flags (b, f), from features (b, n)."""
        found = self.layers(features).float()
        return found[:, : self.rewards], found[:, self.rewards :]


def _through(blocks: nn.Module | list[nn.Module], x: Tensor, condition: Tensor) -> Tensor:
    for block in blocks.children() if isinstance(blocks, nn.Module) else blocks:
        x = block(x, condition)
    return x


def _enlarged(x: Tensor) -> Tensor:
    """`functional.pixel_shuffle(x, 2)`, in training channels last, which saves its gradient copies."""
    if not torch.is_grad_enabled():
        return functional.pixel_shuffle(x, 2)
    return rearrange(x, "b (k i j) h w -> b h i w j k", i=2, j=2).flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)


def _least(x: Tensor) -> Tensor:
    """Minimum over the frame, (b, c), of x (b, c, h, w); with channels last it takes ten times as long."""
    return x.contiguous().amin((2, 3))


def _pool(x: Tensor) -> Tensor:
    """Mean and maximum over the frame, (b, 2c), of x (b, c, h, w)."""
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
