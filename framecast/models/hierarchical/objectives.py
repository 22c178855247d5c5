"""Losses of the modes of hierarchical long-term prediction, arXiv 1806.04768, as functions of a model and a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, Loss
from framecast.models.hierarchical.losses import (
    as_loss,
    critic_gap,
    critic_sequences,
    encoding_loss,
    gradient_penalty,
    pose_loss,
    psnr_parts,
)
from framecast.models.hierarchical.networks import Discriminator
from framecast.nn.losses import change_error, lp

if TYPE_CHECKING:
    from framecast.models.hierarchical.predictor import Hierarchical


def objective(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """The mode's objective (of epva-gan without its critic), and measures of the whole chain.

    Parts besides: van, van_on_enc and enc_pred whatever the mode; PSNR in dB of frames from predicted encodings
    (psnr_*), from true ones (psnr_on_enc_*) and of repeating the last frame of the background (psnr_first_*), per
    image, over context and forecast apart, and pooled over the batch as published.
    """
    losses = {
        "individual": (encoder_pose_loss, pose_prediction_loss, van_on_pose_loss),
        "e2e": (van_loss,),
        "predictor": (prediction_loss,),
        "e2e-pose": (e2e_pose_loss,),
    }
    terms = [loss(model, batch, step) for loss in losses.get(model.config.mode, (epva_loss,))]
    total = torch.stack([term.total for term in terms]).sum()
    parts = {name: part for term in terms for name, part in term.parts.items()}
    with torch.no_grad():
        return Loss(total, {**parts, **_measures(model, batch)})


def van_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """Pixels drawn from predicted encodings against the truth. Only the context reaches the encoder."""
    frames, commands = model.clip_of(batch)
    encodings = model.encode(frames[:, : model.config.context])
    return as_loss(van=_pixels(model, frames, encodings, model.roll(encodings, commands)))


def epva_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """Pixels drawn from true encodings, + alpha(step) times predicted against true encodings."""
    frames, commands = model.clip_of(batch)
    count, head = frames.shape[1], frames.shape[1]
    if model.training and 0 < model.config.rolled < count:
        head = model.config.rolled
        later = 1 + torch.randperm(count - 1, device=frames.device)[: model.config.drawn or count]
        frames = torch.cat([frames[:, :head], frames[:, later]], 1)
    encodings = model.encode(frames)
    predicted = model.roll(encodings[:, : model.config.context], commands[:, : head - 1])
    apart = encoding_error(model, predicted, encodings[:, :head])
    if head < count:  # the background and those that are drawn
        kept = model.config.scene
        frames, encodings = (torch.cat([x[:, :kept], x[:, head:]], 1) for x in (frames, encodings))
    parts = {"van_on_enc": _reconstruction(model, frames, encodings), "enc_pred": apart}
    total = parts["van_on_enc"] + model.config.weight(step) * parts["enc_pred"]
    return as_loss(total, **parts, spread=encodings.std((0, 1)).mean())


def van_on_encoding_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """Pixels drawn from true encodings against the truth."""
    frames, _ = model.clip_of(batch)
    return as_loss(van_on_enc=_reconstruction(model, frames, model.encode(frames)))


def prediction_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """Predicted against true encodings, which are constants here; explained: the fraction of their variance."""
    encodings = batch.latents.get("encodings")
    if encodings is None:
        frames, _ = model.clip_of(batch)
        encodings = model.encodings(Batch(context=frames, future=frames[:, :0]))["encodings"]
    commands = model.commands_of(batch.actions, encodings, encodings.shape[1] - 1)
    predicted = model.roll(encodings[:, : model.config.context], commands)
    apart, target = encoding_error(model, predicted, encodings), encodings[:, 1:]
    spread = (target - target.mean((0, 1))).square().mean()
    return as_loss(enc_pred=apart, explained=1 - (predicted - target).square().mean() / spread.clamp_min(1e-12))


def _reconstruction(model: Hierarchical, frames: Tensor, encodings: Tensor) -> Tensor:
    targets = encodings[:, 1:]
    if model.training and model.config.encoding_noise:
        targets = targets + nn.init.trunc_normal_(torch.empty_like(targets)) * model.config.encoding_noise
    return _pixels(model, frames, encodings, targets)


def _pixels(model: Hierarchical, frames: Tensor, encodings: Tensor, targets: Tensor) -> Tensor:
    """Squared error of the frames after the background's, drawn from their encodings; while training, of `drawn`
    random ones. What changes may count more, and the new frames alone may count too.

    Args:
        frames: (b, t, c, h, w).
        encodings: of the background's frames at least, (b, `scene` or more, E).
        targets: encodings of frames 1 …, (b, t - 1, E).
    """
    kept = model.config.scene
    truth, targets = frames[:, kept:], targets[:, kept - 1 :]
    count = targets.shape[1]
    if model.training and 0 < model.config.drawn < count:
        chosen = torch.randperm(count, device=frames.device)[: model.config.drawn]
        targets, truth = targets[:, chosen], truth[:, chosen]
    drawn = model.draw(frames[:, :kept], encodings[:, kept - 1], targets)

    def error(images: Tensor) -> Tensor:
        if not model.config.change_weight:
            return lp(images, truth, 2.0)
        return change_error(images, truth, frames[:, kept - 1 : kept], model.config.change_weight)

    found = error(drawn.frames)
    return found + model.config.new_weight * error(drawn.new) if model.config.new_weight else found


def encoding_error(model: Hierarchical, predicted: Tensor, encodings: Tensor) -> Tensor:
    """Distance of predicted encodings (b, t - 1, E) from the true ones of the whole clip, (b, t, E), by the config."""
    return encoding_loss(predicted, encodings[:, 1:], model.config.encoding_loss)


def encoder_pose_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """Encodings' first numbers against the pose, all frames."""
    frames, _ = model.clip_of(batch)
    return as_loss(pose_from_enc=_off(model, model.encode(frames), _pose(model, batch)))


def predictor_pose_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """The same of predicted encodings, from frame 1 on."""
    frames, commands = model.clip_of(batch)
    predicted = model.roll(model.encode(frames[:, : model.config.context]), commands)
    return as_loss(pose_from_pred=_off(model, predicted, _pose(model, batch)[:, 1:]))


def pose_prediction_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """The predictor run on true poses, then on its own, against the pose."""
    poses = _pose(model, batch)
    commands = model.commands_of(batch.actions, poses, poses.shape[1] - 1)
    predicted = model.roll(poses[:, : model.config.context], commands)
    return as_loss(pose_from_pred_on_pose=_off(model, predicted, poses[:, 1:]))


def van_on_pose_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """Pixels drawn from true poses against the truth."""
    frames, poses = model.clip_of(batch)[0], _pose(model, batch)
    return as_loss(van_on_pose=_pixels(model, frames, poses, poses[:, 1:]))


def e2e_pose_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """van_loss + pose_weight times the pose losses of true and predicted encodings."""
    frames, commands = model.clip_of(batch)
    poses, encodings = _pose(model, batch), model.encode(frames)
    predicted = model.roll(encodings[:, : model.config.context], commands)
    van = _pixels(model, frames, encodings, predicted)
    ours, theirs = _off(model, encodings, poses), _off(model, predicted, poses[:, 1:])
    total = van + model.config.pose_weight * (ours + theirs)
    return as_loss(total, van=van, pose_from_enc=ours, pose_from_pred=theirs)


def _pose(model: Hierarchical, batch: Batch) -> Tensor:
    return torch.cat([batch.extras[name].float().flatten(2) for name in model.config.pose], -1)


def _off(model: Hierarchical, encodings: Tensor, poses: Tensor) -> Tensor:
    return pose_loss(encodings[..., : poses.shape[-1]], poses, model.config.either_sign)


def generator_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """-(critic of predicted - critic of true structures) + alpha times predicted against true encodings.

    The true term stays, so its gradient too reaches the encoder, through the VAN's structure encoder, which is
    not trained here. Source: equation 7 of the paper, with one score for a sequence, as in the code.
    """
    frames, commands = model.clip_of(batch)
    encodings = model.encode(frames)
    predicted = model.roll(encodings[:, : model.config.context], commands)
    gap = -_verdict(model, *sequences(model, encodings, predicted))
    apart = encoding_error(model, predicted, encodings)
    return as_loss(gap + model.config.alpha * apart, generator=gap, enc_pred=apart)


def critic_loss(model: Hierarchical, batch: Batch, step: int = 0) -> Loss:
    """Critic of predicted - critic of true structures + the gradient penalty between them.

    Source:
        Gulrajani et al. 2017 (arXiv 1704.00028), equation 3, at points between; or the cross-entropy of a plain
        discriminator, true labels smoothed to 0.875.
    """
    frames, commands = model.clip_of(batch)
    with torch.no_grad():
        encodings = model.encode(frames)
        real, fake = sequences(model, encodings, model.roll(encodings[:, : model.config.context], commands))
    gap = _verdict(model, real, fake)
    if model.config.critic == "gan" or not torch.is_grad_enabled():
        return as_loss(critic=gap)
    penalty = gradient_penalty(_critic(model), real, fake)
    return as_loss(gap + model.config.penalty * penalty, critic=gap, penalty=penalty)


def sequences(model: Hierarchical, encodings: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """True and generated sequences of structures for the critic, see `critic_sequences`."""
    return critic_sequences(model.van.structure, encodings, predicted, model.config.critic_context)


def _verdict(model: Hierarchical, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the critic without its penalty."""
    return critic_gap(_critic(model), real, fake, model.config.critic)


def _critic(model: Hierarchical) -> Discriminator:
    if model.discriminator is None:
        raise UserError(
            f"these weights of mode {model.config.mode} have no critic; train one from them with --init-from and "
            "--model.mode epva-gan"
        )
    return model.discriminator


def _measures(model: Hierarchical, batch: Batch) -> dict[str, Tensor]:
    frames, commands = model.clip_of(batch)
    encodings, context, kept = model.encode(frames), model.config.context, model.config.scene
    predicted = model.roll(encodings[:, :context], commands)
    truth, scene, first = frames[:, kept:], frames[:, :kept], encodings[:, kept - 1]
    made = {
        "psnr": model.draw(scene, first, predicted[:, kept - 1 :]).frames,
        "psnr_on_enc": model.draw(scene, first, encodings[:, kept:]).frames,
        "psnr_first": frames[:, kept - 1 : kept].expand_as(truth),
    }
    found = {
        "van": lp(made["psnr"], truth, 2.0),
        "van_on_enc": lp(made["psnr_on_enc"], truth, 2.0),
        "enc_pred": encoding_error(model, predicted, encodings),
    }
    for name, images in made.items():
        found |= psnr_parts(name, images, truth, context - kept)
    return found
