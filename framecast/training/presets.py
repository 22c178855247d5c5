"""Presets: one function per model family that returns the RunConfig of a profile, with a nominal spec for counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, ClipSpec
from framecast.data.options import DataConfig
from framecast.models import AUTOENCODERS, UNTRAINED
from framecast.models.base import Predictor
from framecast.models.chain import Chain
from framecast.models.registry import ALIASES, find_model, unknown_model
from framecast.training.config import RunConfig, TrainConfig

T = TypeVar("T")

#: Training of every profile for tests.
TINY = TrainConfig(steps=20, batch_size=4, validate_every=10, save_every=10, preview_every=10, val_batches=1)


def direct(profile: str) -> RunConfig:
    """Direct multi-horizon prediction; sizes for RGB frames of 84x64."""
    from framecast.models.direct.config import PROFILES

    # weights are chosen by the skill of whole forecasts of val, not by the loss of the drawn blocks
    common = TrainConfig(
        steps=4000, batch_size=8, validate_every=250, save_every=500, preview_every=500, val_batches=2, select="skill"
    )
    train = {
        "default": replace(common, steps=100_000, batch_size=32, validate_every=2000, save_every=2000),
        "small": common,
        "natural": common,
        "any": replace(common, steps=10_000, batch_size=16, validate_every=1000, save_every=1000, preview_every=1000),
        "tiny": TINY,
    }
    chosen = _choose("direct", profile, PROFILES)
    return _run("direct", profile, chosen(), train[profile], 84, 64)


def multiscale_gan(profile: str) -> RunConfig:
    """Multi-scale adversarial prediction; sizes for four RGB frames of 32x32."""
    from framecast.models.multiscale_gan.config import PROFILES

    # length and five frequencies of the published code; batches of 8
    published = TrainConfig(steps=1_000_001, batch_size=8, validate_every=5000, save_every=10_000)
    short = TrainConfig(steps=20_000, batch_size=8, validate_every=1000, save_every=1000, preview_every=1000)
    # a roll-out of 32 clips over 64 whole frames takes as long as hundreds of training steps, so few of them
    train = {
        "default": published,
        "original": published,
        "small": short,
        "stable": replace(short, batch_size=4, select="skill", select_horizon=64, validate_every=5000),
        "natural": short,
        "eight": TrainConfig(steps=200_000, batch_size=8, validate_every=5000, save_every=5000),
        "tiny": TINY,
    }
    chosen = _choose("multiscale-gan", profile, PROFILES)
    return _run("multiscale-gan", profile, chosen(), train[profile], 32, 32)


def hierarchical(profile: str) -> RunConfig:
    """Hierarchical long-term prediction; sizes for RGB frames of 64x64 with five continuous actions."""
    from framecast.models.hierarchical.config import PROFILES

    chosen = _choose("hierarchical", profile, PROFILES)
    # Published steps are updates of 32 asynchronous workers, summed; the critic's run counts steps of the others, one
    # in six of this package.
    published = TrainConfig(steps=3_000_000, batch_size=8, validate_every=5000, save_every=5000, preview_every=5000)
    # in bf16 a step of these takes 0.94 of the time, but a training with its validations longer (docs/log.md)
    narrow = TrainConfig(
        steps=4_000, batch_size=8, precision="fp32", validate_every=500, save_every=500, preview_every=500
    )
    other = {
        "default": replace(published, steps=120_000),
        "single-gpu": replace(published, steps=120_000),
        "humans-epva-gan": replace(published, steps=6_000_000, batch_size=16),
        "narrow": narrow,
        "small": narrow,
        "tiny": TINY,
    }
    known: dict[str, Any] = {
        "actions": ActionSpec(kind="continuous", size=5),
        "extras": {"joints": (7,), "states": (5,)},
    }
    return _run("hierarchical", profile, chosen(), other.get(profile, published), 64, 64, **known)


def dreams(profile: str) -> RunConfig:
    """VAE and mixture-density RNN; sizes for 64x64 RGB frames without actions."""
    from framecast.models.dreams.config import PROFILES

    # Published: batches of 32, 100 epochs at most in each stage, no EMA. An epoch of its 5,400 training frames is 169
    # steps, the interval of its validations.
    common = TrainConfig(steps=20_000, batch_size=32, validate_every=200, save_every=2000, preview_every=1000)
    tiny = replace(TINY, stats_every=5)
    train = {
        "default": common,
        "original": replace(common, steps=None, epochs=200, order="epoch", ema=0.0, validate_every=169),
        "world-models": replace(common, batch_size=100),
        "small": replace(common, steps=4000, batch_size=4, val_batches=4),
        "narrow": replace(common, steps=8000),
        "tiny": tiny,
        "grid": replace(common, steps=6000, batch_size=8, val_batches=4),
        "grid-tiny": tiny,
        "tokens": replace(common, steps=11_000, batch_size=4, val_batches=4),
        "tokens-tiny": tiny,
    }
    chosen = _choose("dreams", profile, PROFILES)
    data = DataConfig(size="64x64" if profile == "small" else None)  # a size that its cells divide
    return _run("dreams", profile, chosen(), train[profile], 64, 64, data)


def autoencoder(name: str, profile: str) -> RunConfig:
    """The fourteen generative autoencoders; sizes for RGB frames of 210x160, the size of the game."""
    from framecast.models.autoencoders.config import PROFILES

    # Batches of ten clips of ten frames; early stopping ends the run, epochs of 1,000 steps, previews every fifth.
    published = TrainConfig(
        epochs=1000,
        steps_per_epoch=1000,
        batch_size=10,
        validate_every=1000,
        save_every=1000,
        preview_every=5000,
    )
    # The published epochs of 10,000 steps; its million epochs were never reached before early stopping.
    literal = replace(published, steps_per_epoch=10_000, validate_every=10_000, save_every=10_000, preview_every=50_000)
    train = {
        "default": published,
        "original": literal,
        # many small steps, since the number of steps limits a short training
        "small": TrainConfig(steps=10_000, batch_size=4, validate_every=250, save_every=250, preview_every=250),
        "tiny": TINY,
    }
    chosen = _choose(name, profile, PROFILES)
    sizes = {"small": (84, 64), "tiny": (32, 32)}  # resized to these
    squashed = {"original": (160, 210)}  # by the model's own request
    height, width = {**sizes, **squashed}.get(profile, (210, 160))
    data = DataConfig(size=f"{height}x{width}" if profile in sizes else None)
    return _run(name, profile, chosen(name), train[profile], height, width, data)


def categorical(profile: str) -> RunConfig:
    """Categorical next-frame prediction; sizes for RGB frames of 80x80 with three actions."""
    from framecast.models.categorical.config import PROFILES

    long = TrainConfig(steps=2200, batch_size=4, validate_every=500, save_every=100, preview_every=1000, val_batches=4)
    train = {
        "default": long,
        "small": replace(long, steps=1000, validate_every=250),
        "tiny": TINY,
    }
    chosen = _choose("categorical", profile, PROFILES)
    return _run("categorical", profile, chosen(), train[profile], 80, 80, actions=ActionSpec(kind="discrete", size=3))


def visual_dynamics(profile: str) -> RunConfig:
    """Cross convolutional networks; sizes for RGB frames of 128x128."""
    from framecast.models.visual_dynamics.config import PROFILES

    chosen = _choose("visual-dynamics", profile, PROFILES)()
    # 128 passes in batches of 32, as published; previews and weights every 8 passes.
    published = TrainConfig(
        epochs=128,
        batch_size=32,
        order="epoch",
        every="epochs",
        validate_every=1,
        validate_train=True,
        preview_every=8,
        save_every=8,
        val_batches=16,
    )
    train = {
        "small": replace(published, epochs=9, batch_size=8, preview_every=1, save_every=1, validate_train=False),
        "pairs": replace(published, epochs=9, batch_size=16, preview_every=1, save_every=1),
        "medium": replace(published, epochs=9, batch_size=16, preview_every=1, save_every=1),
        "tiny": TINY,
    }
    return _run("visual-dynamics", profile, chosen, train.get(profile, published), chosen.size, chosen.size)


def baseline(name: str, profile: str) -> RunConfig:
    """Copy-last, temporal-mean and linear-flow: nothing to choose, nothing to train."""
    _choose(name, profile, {"default": None})
    return RunConfig(name=name, profile=profile, model=find_model(name).Config(), train=TrainConfig(steps=1))


#: Model name -> (profiles that are one training, function of the profile).
PRESETS: dict[str, tuple[tuple[str, ...], Callable[[str], RunConfig]]] = {
    "direct": (("default", "small", "natural", "any", "tiny"), direct),
    "hierarchical": (
        (
            *("default", "single-gpu", "robot-e2e", "robot-epva", "robot-individual", "humans-e2e", "humans-epva"),
            *("humans-epva-gan", "narrow", "small", "tiny"),
        ),
        hierarchical,
    ),
    "multiscale-gan": (("default", "original", "small", "stable", "natural", "eight", "tiny"), multiscale_gan),
    "dreams": (
        (
            "default",
            "original",
            "world-models",
            "small",
            "narrow",
            "grid",
            "tokens",
            "tiny",
            "grid-tiny",
            "tokens-tiny",
        ),
        dreams,
    ),
    **{name: (("default", "original", "small", "tiny"), partial(autoencoder, name)) for name in AUTOENCODERS},
    "visual-dynamics": (("default", "original", "master", "medium", "small", "pairs", "tiny"), visual_dynamics),
    "categorical": (("default", "small", "tiny"), categorical),
    **{name: (("default",), partial(baseline, name)) for name in UNTRAINED},
}


def chains(name: str) -> Mapping[str, Chain]:
    """The profiles of a model that are trained as a chain of runs."""
    from framecast.models.hierarchical.config import CHAINS as HIERARCHICAL
    from framecast.models.visual_dynamics.config import CHAINS as VISUAL_DYNAMICS

    return {"hierarchical": HIERARCHICAL, "visual-dynamics": VISUAL_DYNAMICS}.get(ALIASES.get(name, name), {})


def profiles(name: str) -> tuple[str, ...]:
    """The profiles of a model; outside models have "default"."""
    name = ALIASES.get(name, name)
    return (*PRESETS[name][0], *chains(name)) if name in PRESETS else ("default",)


def preset(model: str | type[Predictor], profile: str = "default") -> RunConfig:
    """The RunConfig of a model's profile; the defaults of its Config for a model outside the package.

    Of a chain it is that of the profile which its links change, with the length of all links together.

    Raises:
        UserError: unknown model or profile, with the nearest name.
    """
    if isinstance(model, str) and ".py:" not in model:
        name = ALIASES.get(model, model)
        if name not in PRESETS:
            raise UserError(unknown_model(model))
        if profile not in profiles(name):
            raise UserError(f"{name} has no profile {profile!r}; {suggest(profile, profiles(name))}")
        chain = chains(name).get(profile)
        if chain is None:
            return PRESETS[name][1](profile)
        base = PRESETS[name][1](chain.base)
        length = {"steps": round(chain.total), "epochs": None} if chain.unit == "steps" else {"epochs": chain.total}
        train = replace(base.train, **{"steps": None, "epochs": None, "budget": None, **length})  # type: ignore[arg-type]
        return replace(base, profile=profile, train=train)
    model_class = find_model(model) if isinstance(model, str) else model
    _choose(model_class.__name__, profile, {"default": None})
    name = model if isinstance(model, str) else f"{model_class.__module__}:{model_class.__name__}"
    return RunConfig(name=name, profile=profile, model=model_class.Config())


def _run(
    name: str,
    profile: str,
    model: Any,
    train: TrainConfig,
    height: int,
    width: int,
    data: DataConfig | None = None,
    **spec: Any,
) -> RunConfig:
    """A profile on RGB frames. spec: further fields of its nominal ClipSpec."""
    frames = ClipSpec(channels=3, height=height, width=width, **spec)
    return RunConfig(name=name, profile=profile, model=model, train=train, data=data or DataConfig(), spec=frames)


def _choose(name: str, profile: str, known: Mapping[str, T]) -> T:
    if profile not in known:
        raise UserError(f"{name} has no profile {profile!r}; {suggest(profile, known)}")
    return known[profile]
