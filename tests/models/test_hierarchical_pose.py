"""The pose loss against a plain loop."""

import math

import numpy as np
import pytest
import torch

from framecast.models.hierarchical.losses import pose_loss


def quaternion(pitch, yaw):
    """Product of the rotations about z (yaw) and y (pitch), as (x, y, z, w)."""
    p, y = pitch / 2, yaw / 2
    return np.array(
        [-math.sin(p) * math.sin(y), math.sin(p) * math.cos(y), math.cos(p) * math.sin(y), math.cos(p) * math.cos(y)]
    )


def test_pose_distance_is_the_sum_of_joints_place_and_rotation():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 3, 4, 12))
    joints = np.mean((ours[..., :7] - theirs[..., :7]) ** 2)
    place = np.mean((ours[..., 7:10] - theirs[..., 7:10]) ** 2)
    turned = []
    for a, b in zip(ours.reshape(-1, 12), theirs.reshape(-1, 12), strict=True):
        turned.append(1 - quaternion(*a[-2:]) @ quaternion(*b[-2:]))
    found = pose_loss(torch.from_numpy(ours), torch.from_numpy(theirs))
    assert float(found) == pytest.approx(joints + place + np.mean(turned))


def test_equal_poses_have_distance_zero_with_normalised_quaternions():
    pose = torch.randn(5, 12)
    assert float(pose_loss(pose, pose)) == pytest.approx(0, abs=1e-6)


def test_quaternion_distance_is_two_for_a_whole_turn_unless_signs_are_ignored():
    pose = torch.zeros(1, 5)
    turned = pose.clone()
    turned[0, -1] = 2 * math.pi
    assert float(pose_loss(pose, turned)) == pytest.approx(2, abs=1e-6)
    assert float(pose_loss(pose, turned, either_sign=True)) == pytest.approx(0, abs=1e-6)
