"""Augmented clips are the same pixels in another order, the same for all frames of a clip."""

import pytest
import torch

from framecast.nn.augment import augment


def clips(b=64, t=3, h=6, w=6):
    return torch.arange(b * t * 3 * h * w, dtype=torch.float32).view(b, t, 3, h, w)


@pytest.mark.parametrize("w", [6, 8])
def test_every_clip_keeps_its_pixels(w):
    torch.manual_seed(0)
    before = clips(w=w)
    after = augment(before)
    assert after.shape == before.shape
    assert torch.equal(after.flatten(1).sort(1).values, before.flatten(1).sort(1).values)


def test_frames_of_a_clip_are_changed_alike():
    torch.manual_seed(0)
    for clip in augment(clips()):
        steps = (clip[1:] - clip[:-1]).unique()
        assert steps.tolist() in ([3 * 36.0], [-3 * 36.0])  # one frame further or back, at every pixel


def test_every_augmentation_occurs_and_clips_are_augmented_independently():
    torch.manual_seed(0)
    corners = {tuple(clip[0, :, 0, 0].long().sub(i * 324).tolist()) for i, clip in enumerate(augment(clips()))}
    colours = {tuple(sorted(range(3), key=lambda c: corner[c])) for corner in corners}
    assert len(colours) == 6
    assert len({min(corner) % 108 for corner in corners}) == 4  # the four corners of a square
    reversed_clips = augment(clips())[:, 1, 0, 0, 0] < augment(clips())[:, 0, 0, 0, 0]
    assert reversed_clips.any()
    assert not reversed_clips.all()


def test_same_random_state_same_clips():
    torch.manual_seed(3)
    first = augment(clips())
    torch.manual_seed(3)
    assert torch.equal(first, augment(clips()))
