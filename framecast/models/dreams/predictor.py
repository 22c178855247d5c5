"""Dreams: frames become a few numbers, a recurrent network learns how those go on, a decoder shows what it imagines.

Published code: gaborvecsei/Neural-Network-Dreams (2018), after Ha, Schmidhuber, "World Models", 2018, arXiv 1803.10122;
the mixture density output is Bishop 1994, "Mixture Density Networks", NCRG/94/004.

Six steps, as published: a variational autoencoder is trained on single frames (stage `vision`), all frames are encoded
once, windows are cut from the codes, a recurrent network is trained on them (stage `memory`), it goes on from a few
real codes by its own draws, and the decoder makes frames of them. Squared error would teach it the mean of all
possible futures; a mixture of Gaussians keeps them apart. Actions condition the memory where the data have them.

What deviates from the published codes, and why, is said at each field of the config and in docs/models/dreams.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, GradClip, Loss, Optimiser, Phase, Stage, StopCondition
from framecast.models.base import Control, Frames, Predictor, RolloutState, as_frames
from framecast.nn.mixture import Mixture, Spread, gaussian_kl
from framecast.nn.precision import full_precision

Head = Literal["mdn", "gaussian", "linear", "softmax-mse"]
HEADS = ("mdn", "gaussian", "linear", "softmax-mse")
#: Those that put out a distribution to draw from.
DRAWING = ("mdn", "gaussian")

#: Side of the frames, px: what four unpadded convolutions of kernel 4 and stride 2 bring to 2x2.
SIDE = 64
#: Kernels of the decoder's four transposed convolutions, which bring 1x1 to 5, 13, 30 and 64 px.
_DECODER_KERNELS = (5, 5, 6, 6)
#: Channels the decoder starts from, at 1x1.
_DECODER_START = 1024
#: Frames decoded at a time.
_CHUNK = 256
_WEIGHTS = "Of the futures it holds possible: at 0 always the likeliest, above 1 unlikely ones more often."
_SIGMA = "How far a frame may stray from the future it follows: at 0 not at all, at 1 as far as was learned."


# ------------------------------------------------------------------------------------------------ configuration


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam for both stages, as published (its older runs used rmsprop)."""

    vision_lr: float = 1e-3
    """Learning rate of the autoencoder, above 0; World Models has 1e-4."""
    memory_lr: float = 1e-3
    """Learning rate of the recurrent network, above 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two averages, each in 0…1."""
    eps: float = 1e-8
    """Added to Adam's denominator, above 0; Keras has 1e-7."""
    clip: float | None = None
    """Bound on the norm of the memory's gradient, above 0; none as published. World Models bounds each value by 1."""

    def __post_init__(self) -> None:
        for name in ("vision_lr", "memory_lr", "eps", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"optim.{name} must be above 0, got {value}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"optim.betas must lie in 0…1, below 1, got {self.betas}")


@dataclass(frozen=True, kw_only=True)
class DreamsConfig:
    """Autoencoder, memory, mixture, and how the two stages end."""

    # --- what goes in
    context: int = 10
    """Codes T seen before the first imagined one, at least 1; published runs have 4, 5, 10 and 24."""
    stride: int = 1
    """Source frames a model frame, at least 1."""
    use_actions: bool = True
    """Let actions condition the memory where the data have them."""
    # --- vision
    code_size: int = 32
    """Numbers a frame becomes, at least 1."""
    encoder_widths: tuple[int, ...] = (32, 64, 64, 128)
    """Channels of the encoder's four convolutions; World Models has 32, 64, 128, 256."""
    decoder_widths: tuple[int, ...] = (64, 64, 32)
    """Channels of the decoder's first three transposed convolutions; World Models has 128, 64, 32."""
    kl_weight: float = 1.0
    """Weight of the KL term against the squared error summed over the frame, at least 0."""
    kl_floor: float = 0.0
    """Nats a frame below which the KL term does not push, at least 0; World Models has 0.5 per number, 16 in all."""
    start_at_mean: bool = True
    """Begin with the decoder's last biases at the mean of the first batch; off, at 0 as published. From there the whole
    decoder is first driven down (or up) together, and on dark scenes it stays at the mean picture for long."""
    # --- memory
    cell: Literal["gru", "lstm"] = "gru"
    """Kind of the recurrent layers."""
    memory_sizes: tuple[int, ...] = (32, 64, 128)
    """Widths of the recurrent layers; World Models has one of 256."""
    recurrence: Literal["window", "carried"] = "window"
    """"window": from nothing over the last T codes, for every frame anew, and trained on the code after them, as
    published. "carried": the state goes on from frame to frame, and every step of a sequence is trained, as in World
    Models."""
    sequence: int = 32
    """Codes of a training sequence where the state is carried, at least T; World Models has 1,000."""
    head: Head = "mdn"
    """What the memory puts out: mdn, a mixture of Gaussians; gaussian, a single one; linear, the code by squared error;
    softmax-mse, the published first version, whose codes are forced to be positive and to sum to 1."""
    compare: tuple[Head, ...] = ()
    """Further heads, each with a memory of its own, trained beside on the same batches of the same codes, to compare
    dreams with and without a mixture."""
    # --- mixture
    mixtures: int = 10
    """Components, at least 1; World Models has 5."""
    joint: bool = True
    """One choice of component for all numbers of a code, as published; off, each number has a mixture of its own, as in
    World Models."""
    spread: Spread = "elu"
    """What makes a standard deviation: elu, ELU(x) + 1, or exp as in World Models."""
    sigma_floor: float = 1e-3
    """Added to every standard deviation, above 0; published 1e-8, which lets the likelihood spike."""
    # --- codes and draws
    resample: bool = True
    """Draw a training code anew from its Gaussian whenever it is used, and start dreams from its mean, as World Models
    does; off, one draw is kept, and dreams start from a draw, as published."""
    weight_temperature: float = 1.0
    """Divides the mixture's logits, at least 0; 0 takes the likeliest component."""
    sigma_temperature: float = 1.0
    """Multiplies the variance of a draw, at least 0; 0 takes the component's mean."""
    sigma_is_variance: bool = False
    """Take sigma for a variance when drawing, as the published code does by mistake: the noise becomes sqrt(sigma)."""
    # --- how the stages end
    vision_patience: int | None = 5
    """Validations without a better loss after which vision ends, its best weights restored; none: the share."""
    vision_share: float = 0.5
    """Share of steps or budget that vision may use at most, above 0 and below 1."""
    memory_patience: int | None = 10
    """Validations without a better loss after which memory ends; the best weights are kept. none ends with the run."""
    # --- films left in the run folder
    reconstruction_frames: int = 1000
    """Frames of the film original | reconstruction, at most; 0 leaves it out."""
    dream_frames: int = 300
    """Frames of the film of a dream; 0 leaves it out."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisers of the two stages."""

    def __post_init__(self) -> None:
        require_least(self, "model.", context=1, stride=1, code_size=1, sequence=1, mixtures=1)
        require_least(self, "model.", kl_weight=0, kl_floor=0, weight_temperature=0, sigma_temperature=0)
        require_least(self, "model.", reconstruction_frames=0, dream_frames=0)
        for name, count in (("encoder_widths", 4), ("decoder_widths", 3)):
            if len(getattr(self, name)) != count or min(getattr(self, name)) < 1:
                raise UserError(f"model.{name} must be {count} numbers of at least 1, got {getattr(self, name)}")
        if not self.memory_sizes or min(self.memory_sizes) < 1:
            raise UserError(f"model.memory_sizes must be numbers of at least 1, got {self.memory_sizes}")
        choices: dict[str, tuple[str, ...]] = {"cell": ("gru", "lstm"), "recurrence": ("window", "carried")}
        choices |= {"head": HEADS, "spread": ("elu", "exp")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"model.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        heads = (self.head, *self.compare)
        if len(set(heads)) != len(heads) or not set(heads) <= set(HEADS):
            raise UserError(f"model.compare names heads beside {self.head} once each, got {self.compare}")
        if not self.sigma_floor > 0:
            raise UserError(f"model.sigma_floor must be above 0, got {self.sigma_floor}")
        if not 0 < self.vision_share < 1:
            raise UserError(f"model.vision_share must lie between 0 and 1, got {self.vision_share}")
        for name in ("vision_patience", "memory_patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"model.{name} must be at least 1 or none, got {getattr(self, name)}")
        if self.recurrence == "carried" and self.sequence < self.context:
            raise UserError(f"model.sequence {self.sequence} is shorter than model.context {self.context}; lengthen it")

    def components(self, head: Head) -> int:
        """Gaussians that a head puts out."""
        return {"mdn": self.mixtures, "gaussian": 1}.get(head, 0)


def default() -> DreamsConfig:
    """The published networks, their sampling, noise floor and use of the posterior repaired."""
    return DreamsConfig()


def original() -> DreamsConfig:
    """The published code, literal: codes drawn once, sigma taken for a variance, no noise floor to speak of."""
    return DreamsConfig(
        sigma_floor=1e-8,
        resample=False,
        sigma_is_variance=True,
        start_at_mean=False,
        memory_patience=None,
        optim=OptimConfig(eps=1e-7),
    )


def world_models() -> DreamsConfig:
    """The World Models networks: a wider autoencoder, an LSTM of 256, five one-dimensional mixtures a number."""
    return DreamsConfig(
        encoder_widths=(32, 64, 128, 256),
        decoder_widths=(128, 64, 32),
        kl_floor=16.0,
        cell="lstm",
        memory_sizes=(256,),
        recurrence="carried",
        mixtures=5,
        joint=False,
        spread="exp",
        optim=OptimConfig(vision_lr=1e-4, clip=1.0),
    )


def small() -> DreamsConfig:
    """Half the channels of the autoencoder, the published memory; for minutes on two cores."""
    return DreamsConfig(encoder_widths=(16, 32, 32, 64), decoder_widths=(32, 32, 16))


def tiny() -> DreamsConfig:
    """Narrow layers and short windows in the same shape; for tests."""
    return DreamsConfig(
        context=3,
        code_size=4,
        encoder_widths=(4, 8, 8, 8),
        decoder_widths=(8, 8, 8),
        memory_sizes=(16,),
        mixtures=2,
        vision_patience=None,
        memory_patience=None,
        reconstruction_frames=12,
        dream_frames=12,
        optim=OptimConfig(vision_lr=3e-3, memory_lr=1e-2),
    )


PROFILES: dict[str, Callable[[], DreamsConfig]] = {
    "default": default,
    "original": original,
    "world-models": world_models,
    "small": small,
    "tiny": tiny,
}


# ------------------------------------------------------------------------------------------- losses and networks


def vision_terms(frames: Tensor, decoded: Tensor, mean: Tensor, logvar: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Squared error summed over a frame, and KL of its code, floored as in World Models; both means over frames.

    frames, decoded: (n, c, h, w) in 0…1.  mean, logvar: (n, z).
    """
    error = (frames - decoded).square().sum((1, 2, 3)).mean()
    return error, gaussian_kl(mean, logvar).clamp(min=floor).mean()


class PointConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of 1x1 pictures: as a matrix product it is much faster on a CPU (docs/log.md)."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        # In the order a channels-last weight lies in memory: any other copies all of it, every time.
        channels, height, width = self.weight.shape[1:]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        out: Tensor = (x.flatten(1) @ weight).view(-1, height, width, channels)
        return (out if self.bias is None else out + self.bias.to(out)).permute(0, 3, 1, 2)


class VAE(nn.Module):
    """64x64 frames to Gaussians over codes, and codes to frames. Convolutions without padding, no normalisation."""

    def __init__(self, config: DreamsConfig, channels: int) -> None:
        super().__init__()
        widths = (channels, *config.encoder_widths)
        convolutions: list[nn.Module] = []
        for a, b in pairwise(widths):
            convolutions += [nn.Conv2d(a, b, 4, stride=2), nn.ReLU()]
        features = 4 * widths[-1]
        self.encoder = nn.ModuleDict(
            {
                "layers": nn.Sequential(*convolutions, nn.Flatten()),
                "mean": nn.Linear(features, config.code_size),
                "logvar": nn.Linear(features, config.code_size),
            }
        )
        widths = (_DECODER_START, *config.decoder_widths, channels)
        layers: list[nn.Module] = [nn.Linear(config.code_size, _DECODER_START), nn.Unflatten(1, (_DECODER_START, 1, 1))]
        for i, ((a, b), kernel) in enumerate(zip(pairwise(widths), _DECODER_KERNELS, strict=True)):
            kind = nn.ConvTranspose2d if i else PointConvTranspose2d
            layers += [kind(a, b, kernel, stride=2), nn.ReLU()]
        self.decoder = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, 64, 64) in 0…1 -> mean and log variance, (n, z) each, float32."""
        features = self.encoder["layers"](frames.contiguous(memory_format=torch.channels_last))
        return self.encoder["mean"](features).float(), self.encoder["logvar"](features).float()

    def decode(self, latents: Tensor) -> Tensor:
        """(n, z) -> frames (n, c, 64, 64) in 0…1, float32."""
        frames: Tensor = self.decoder(latents)
        return frames.float()


class Memory(nn.Module):
    """Recurrent layers over codes (and actions), then what one head needs. Always in full precision."""

    def __init__(self, config: DreamsConfig, inputs: int, head: Head) -> None:
        super().__init__()
        cell = nn.GRU if config.cell == "gru" else nn.LSTM
        sizes = (inputs, *config.memory_sizes)
        self.layers = nn.ModuleList(cell(a, b, batch_first=True) for a, b in pairwise(sizes))
        outputs = config.code_size
        if head in DRAWING:
            outputs = Mixture.outputs(config.components(head), config.code_size, config.joint)
        self.out = nn.Linear(sizes[-1], outputs)

    @full_precision
    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the head reads at every step, (b, t, outputs), and the state after the last, tensors (b, width).
        x: (b, t, inputs).  state: as returned; none begins from nothing."""
        left, after = list(state), []
        for layer in self.layers:
            if isinstance(layer, nn.LSTM):
                hidden = (left.pop(0)[None].contiguous(), left.pop(0)[None].contiguous()) if state else None
                x, (h, c) = layer(x, hidden)
                after += [h[0], c[0]]
            else:
                x, h = layer(x, left.pop(0)[None].contiguous() if state else None)
                after.append(h[0])
        return self.out(x), tuple(after)


def glorot(module: nn.Module) -> None:
    """Keras' starting weights, which the published runs had: Glorot's uniform, orthogonal recurrences, biases 0."""
    for name, p in module.named_parameters():
        if p.ndim < 2:
            nn.init.zeros_(p)
        elif "weight_hh" in name:
            nn.init.orthogonal_(p)
        else:
            nn.init.xavier_uniform_(p)


# ------------------------------------------------------------------------------------------------- the predictor


class Dreams(Predictor):
    """Variational autoencoder and mixture-density recurrent network: imagines video code by code."""

    Config = DreamsConfig
    family = "VAE and mixture-density RNN"
    paper = "Ha, Schmidhuber: World Models, 2018, arXiv 1803.10122; Bishop: Mixture Density Networks, NCRG/94/004, 1994"
    stochastic = True
    actions = "optional"
    config: DreamsConfig

    def __init__(self, config: DreamsConfig, spec: ClipSpec) -> None:
        super().__init__(config, spec)
        self.vae = VAE(config, spec.channels)
        self.action_size = spec.action_size if config.use_actions else 0
        inputs = config.code_size + self.action_size
        self.rnn = Memory(config, inputs, config.head)
        self.compared = nn.ModuleDict({head: Memory(config, inputs, head) for head in config.compare})
        glorot(self)
        # What the class leaves open is settled by head and data.
        self.stochastic = config.head in DRAWING
        self.actions = "required" if self.action_size else "none"
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def request(cls, config: DreamsConfig) -> ClipRequest:
        """T frames and the one after them; where the state is carried, a whole sequence and the one after it."""
        future = 1 if config.recurrence == "window" else config.sequence + 1 - config.context
        return ClipRequest(context=config.context, future=future, stride=config.stride, resize=(SIDE, SIDE))

    @classmethod
    def inference_only(cls, config: DreamsConfig) -> DreamsConfig:
        """Without the memories of the heads compared."""
        return replace(config, compare=())

    def subnetworks(self) -> dict[str, nn.Module]:
        """vae and rnn, and the memories of the heads compared, by head."""
        return {"vae": self.vae, "rnn": self.rnn, **self.compared}

    def using(self, head: Head) -> Dreams:
        """The same model, weights shared, dreaming with another of the heads it was trained with.

        Raises: ValueError naming those there are.
        """
        if head == self.config.head:
            return self
        if head not in self.compared:
            known = ", ".join((self.config.head, *self.config.compare))
            raise ValueError(f"this model was trained with {known}; train with model.compare to have {head} too")
        other = copy.copy(self)
        other._modules = {**self._modules, "rnn": self.compared[head], "compared": nn.ModuleDict()}
        other.config = replace(self.config, head=head, compare=())
        other.stochastic = head in DRAWING
        return other

    # ------------------------------------------------------------------------------------------------ training

    def stages(self) -> list[Stage]:
        """vision on single frames until patience or share ends; memory on windows of codes encoded once."""
        c = self.config
        vision, *memory = self.phases()
        return [
            Stage(
                name="vision",
                phases=[vision],
                until=StopCondition(patience=c.vision_patience, max_fraction=c.vision_share),
                request=ClipRequest(context=1, future=0, resize=(SIDE, SIDE)),
                loss=self.vision_loss,
            ),
            Stage(
                name="memory",
                phases=memory,
                until=StopCondition(patience=c.memory_patience),
                precompute_latents=self.latents,
                loss=self.memory_loss,
            ),
        ]

    def phases(self) -> list[Phase]:
        """vision trains the autoencoder; memory, and one phase a compared head, the recurrent networks."""
        optim = self.config.optim

        def adam(lr: float) -> Optimiser:
            return Optimiser(lr=lr, betas=optim.betas, eps=optim.eps)

        clip = GradClip() if optim.clip is None else GradClip(kind="global", value=optim.clip)
        memory: dict[str, tuple[str, Callable[[Batch, int], Loss]]] = {"memory": ("rnn", self.memory_loss)}
        memory |= {head: (f"compared.{head}", partial(self._memory_loss, head=head)) for head in self.config.compare}
        return [
            Phase(name="vision", loss=self.vision_loss, modules=("vae",), optimiser=adam(optim.vision_lr)),
            *(
                Phase(name=name, loss=loss, modules=(module,), optimiser=adam(optim.memory_lr), clip=clip)
                for name, (module, loss) in memory.items()
            ),
        ]

    def initialize_from_batch(self, batch: Batch) -> None:
        """The decoder's last biases such that it begins with the mean colour of the batch."""
        if not self.config.start_at_mean:
            return
        mean = _flat(torch.cat([batch.context, batch.future], 1)).mean((0, 2, 3)).clamp(0.01, 0.99)
        last = self.vae.decoder[-2]
        assert isinstance(last, nn.ConvTranspose2d)
        assert last.bias is not None
        last.bias.copy_(mean.logit())

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Both stages' losses added up; parts of both."""
        seen, next_code = self.vision_loss(batch), self.memory_loss(batch)
        return Loss(seen.total + next_code.total, {**seen.parts, **next_code.parts})

    def vision_loss(self, batch: Batch, step: int = 0) -> Loss:
        """reconstruction + kl_weight * kl of all frames of a batch, each frame by itself.

        Parts: reconstruction (squared error summed over a frame, 0…1), kl (nats a frame), unweighted.
        """
        frames = torch.cat([batch.context, batch.future], 1).flatten(0, 1)
        mean, logvar = self.vae.encode(frames)
        decoded = self.vae.decode(_drawn(mean, logvar))
        error, kl = vision_terms(frames, decoded, mean, logvar, self.config.kl_floor)
        return Loss(error + self.config.kl_weight * kl, {"reconstruction": error.detach(), "kl": kl.detach()})

    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """Codes of a batch's context frames, (b, t, z): mean and logvar, or z, one draw of them that is kept."""
        mean, logvar = (rearrange(x, "(b t) z -> b t z", b=batch.size) for x in self.vae.encode(_flat(batch.context)))
        return {"mean": mean, "logvar": logvar} if self.config.resample else {"z": _drawn(mean, logvar)}

    def memory_loss(self, batch: Batch, step: int = 0) -> Loss:
        """The loss of the model's own head, on windows of codes, or on codes of the frames where there are none.
        Part: nll, nats a code, where the head puts out a distribution; else mse."""
        return self._memory_loss(batch, step, self.config.head)

    def _memory_loss(self, batch: Batch, step: int, head: Head) -> Loss:
        latents, t = self._window(batch), self.config.context
        x, target = latents[:, :-1], latents[:, 1:]
        if self.action_size:
            if batch.actions is None:
                raise ValueError("this model was built for actions but the batch has none")
            x = torch.cat([x, batch.actions], -1)
        out, _ = (self.rnn if head == self.config.head else self.compared[head])(x)
        if self.config.recurrence == "window":  # only the last step was shown all T codes
            assert latents.shape[1] == t + 1, (latents.shape, t)
            out, target = out[:, -1], target[:, -1]
        if head in DRAWING:
            value = -self._mixture(out, head).log_prob(target).mean()
            return Loss(value, {"nll": value.detach()})
        value = functional.mse_loss(self._code(out, head), target)
        return Loss(value, {"mse": value.detach()})

    @torch.no_grad()
    def _window(self, batch: Batch) -> Tensor:
        """Codes of a batch's window, (b, length, z); drawn anew from their Gaussians if so configured."""
        found = batch.latents
        if not found:
            found = self.latents(Batch(context=torch.cat([batch.context, batch.future], 1), future=batch.future))
        return _drawn(found["mean"], found["logvar"]) if self.config.resample else found["z"]

    def _mixture(self, out: Tensor, head: Head) -> Mixture:
        c = self.config
        return Mixture.split(out, c.components(head), c.code_size, c.joint, c.spread, c.sigma_floor)

    @staticmethod
    def _code(out: Tensor, head: Head) -> Tensor:
        return out.softmax(-1) if head == "softmax-mse" else out

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """In vision, frames and their reconstruction; else context, truth and prediction."""
        if batch.future.shape[1]:
            return super().preview(batch)
        return {"truth": batch.context, "prediction": self.decode(self.encode(batch.context))}

    def final_videos(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        """`reconstruction`: original left, decoded right; `dream-<head>`: imagined from the first T frames on.

        A dream on actions lasts as long as those are known.
        """
        c, films = self.config, {}
        if c.reconstruction_frames:
            originals = frames[None, : c.reconstruction_frames]
            films["reconstruction"] = torch.cat([originals, self.decode(self.encode(originals))], -1)[0]
        horizon, led = c.dream_frames, None
        if self.action_size:
            assert actions is not None, "a film of actions needs them"
            horizon = min(horizon, len(actions) + 1 - c.context)
            led = actions[None, : c.context + max(horizon, 1) - 1]
        for head in (c.head, *c.compare) if horizon > 0 else ():
            generator = torch.Generator(frames.device).manual_seed(0)
            dream = self.using(head).predict(frames[: c.context], horizon, actions=led, generator=generator)
            films[f"dream-{head}"] = dream[0, 0]
        return films

    # ---------------------------------------------------------------------------------------------- prediction

    def encode(self, frames: Tensor) -> Tensor:
        """Means of the codes of frames (b, t, c, 64, 64) in 0…1: (b, t, z).

        Raises: ValueError for frames of another size.
        """
        if tuple(frames.shape[-2:]) != (SIDE, SIDE):
            raise ValueError(
                f"Dreams sees frames of {SIDE}x{SIDE}, got {frames.shape[-2]}x{frames.shape[-1]}; resize them first "
                f"(framecast.read_video(…, size=({SIDE}, {SIDE})))"
            )
        parts = [self.vae.encode(part)[0] for part in torch.split(_flat(frames), _CHUNK)]
        return rearrange(torch.cat(parts), "(b t) z -> b t z", b=len(frames))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames of codes (b, t, z): (b, t, c, 64, 64) in 0…1. The context is not needed."""
        parts = [self.vae.decode(part).clamp(0, 1) for part in torch.split(z.flatten(0, 1), _CHUNK)]
        return rearrange(torch.cat(parts), "(b t) c h w -> b t c h w", b=len(z))

    def controls(self) -> tuple[Control, ...]:
        """The two temperatures, where there is a mixture to draw from."""
        if self.config.head not in DRAWING:
            return ()
        return (
            Control(name="weight_temperature", label="Temperature: which future", low=0.0, high=2.0, says=_WEIGHTS),
            Control(name="sigma_temperature", label="Temperature: how much noise", low=0.0, high=2.0, says=_SIGMA),
        )

    def get_latent(self, carry: RolloutState) -> Tensor:
        """The code of the last frame, (b, z)."""
        return carry["latents"][:, -1]

    def with_latent(self, carry: RolloutState, z: Tensor) -> RolloutState:
        """The carry as if the last frame had the code z (b, z)."""
        return {**carry, "latents": torch.cat([carry["latents"][:, :-1], z[:, None].to(carry["latents"])], 1)}

    def predict(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A dream of `horizon` frames for every context and sample, (s, b, horizon, c, 64, 64) float 0…1.

        Codes are imagined one by one and decoded together; `begin` and `advance` give the same frames one by one.
        """
        t = self.config.context
        led = None if actions is None else torch.as_tensor(actions).repeat(samples, 1, 1)
        carry = self.rollout_init(context, None if actions is None else actions[:, : t - 1], samples, generator)
        latents = []
        for k in range(horizon):
            carry = self.imagine(carry, None if led is None else led[:, t - 1 + k])
            latents.append(carry["latents"][:, -1])
        frames = self.decode(torch.stack(latents, 1))
        return rearrange(frames, "(s b) t c h w -> s b t c h w", s=samples)

    @torch.no_grad()
    def rollout_init(
        self,
        context: Frames,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> RolloutState:
        """codes: the last T codes, (b, T, z); the newest is what was last seen or imagined, and may be overwritten.
        weight_temperature, sigma_temperature: (b,), the config's; may be changed between frames.  actions: the last
        T - 1, (b, T - 1, a).  state0, …: of the recurrent layers where it is carried.  seed, tick: of the draws."""
        c = self.config
        frames = as_frames(context, self)[:, -c.context :]
        latents, source = self.encode(frames), "cpu" if generator is None else generator.device
        if not c.resample:  # as published: from a draw
            logvar = rearrange(self.vae.encode(_flat(frames))[1], "(b t) z -> b t z", b=len(frames))
            noise = torch.randn(latents.shape, generator=generator, device=source).to(latents.device)
            latents = latents + (logvar / 2).exp() * noise
        latents = latents.repeat(samples, 1, 1)
        rows = latents.new_ones(len(latents))
        seed = torch.randint(2**62, (1,), generator=generator, device=source).to(latents.device)
        carry = {
            "latents": latents,
            "weight_temperature": c.weight_temperature * rows,
            "sigma_temperature": c.sigma_temperature * rows,
            "seed": seed.expand(len(latents)).clone(),
            "tick": torch.zeros(len(latents), dtype=torch.int64, device=latents.device),
        }
        if self.action_size:
            carry["actions"] = self._past(actions, latents, samples)
        if c.recurrence == "carried":
            before = latents[:, :-1]
            if self.action_size:
                before = torch.cat([before, carry["actions"]], -1)
            # With T = 1 nothing was seen before the last code: one step over nothing would already move the state.
            state = self.rnn(before)[1] if c.context > 1 else self._fresh(latents)
            carry |= {f"state{i}": value for i, value in enumerate(state)}
        return carry

    def _past(self, actions: Frames | None, latents: Tensor, samples: int) -> Tensor:
        """The T - 1 actions that led through the context, ((s b), T - 1, a)."""
        keep = self.config.context - 1
        past = latents.new_zeros(len(latents) // samples, 0, self.action_size)
        if actions is not None:
            past = torch.as_tensor(actions, dtype=torch.float32, device=latents.device)
            past = past[None] if past.ndim == 2 else past
        if past.shape[1] < keep:
            raise ValueError(f"Dreams needs the {keep} actions of its context, got {past.shape[1]}")
        return past[:, past.shape[1] - keep :].repeat(samples, 1, 1)

    def _fresh(self, latents: Tensor) -> list[Tensor]:
        parts = 2 if self.config.cell == "lstm" else 1
        return [latents.new_zeros(len(latents), size) for size in self.config.memory_sizes for _ in range(parts)]

    @torch.no_grad()
    def rollout_step(self, carry: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """One code further, and its frame."""
        carry = self.imagine(carry, action)
        return carry, self.decode(carry["latents"][:, -1:])[:, 0]

    @torch.no_grad()
    def imagine(self, carry: RolloutState, action: Tensor | None = None) -> RolloutState:
        """One code further, without its frame: the new carry, whose last code it is.

        action: ((s b), a), what is done at the last frame, for a model with actions.
        """
        c, latents, new = self.config, carry["latents"], dict(carry)
        x = latents if c.recurrence == "window" else latents[:, -1:]
        if self.action_size:
            if action is None:
                raise ValueError(
                    f"Dreams predicts from actions: give what is done at each frame, ((s b), {self.action_size})"
                )
            known = torch.cat([carry["actions"], action[:, None].to(latents)], 1)
            x = torch.cat([x, known[:, -x.shape[1] :]], -1)
            new["actions"] = known[:, 1:]
        state = [carry[f"state{i}"] for i in range(sum(k.startswith("state") for k in carry))]
        out, after = self.rnn(x, *state)
        if c.recurrence == "carried":
            new |= {f"state{i}": value for i, value in enumerate(after)}
        new["latents"] = torch.cat([latents[:, 1:], self._next(out[:, -1], carry)[:, None]], 1)
        new["tick"] = carry["tick"] + 1
        return new

    def _next(self, out: Tensor, carry: RolloutState) -> Tensor:
        if self.config.head not in DRAWING:
            return self._code(out, self.config.head)
        generator = torch.Generator(out.device)
        generator.manual_seed(int(carry["seed"][0]) + int(carry["tick"][0]))
        temperatures = carry["weight_temperature"], carry["sigma_temperature"]
        return self._mixture(out, self.config.head).sample(*temperatures, generator, self.config.sigma_is_variance)


def _flat(frames: Tensor) -> Tensor:
    return rearrange(frames, "b t c h w -> (b t) c h w")


def _drawn(mean: Tensor, logvar: Tensor) -> Tensor:
    """One draw of N(mean, exp(logvar)), by torch's global generator, which the engine seeds at every step."""
    return mean + (logvar / 2).exp() * torch.randn_like(mean)
