"""The four kinds of pictures."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import panodiff_core as pano
from panodiff_core.geometry import CUBE_FACE_ANGLES_DEG, equirect_directions, face_directions

KINDS = [
    (pano.Panorama, (1, 3, 8, 16), {}),
    (pano.CubeFaces, (1, 6, 3, 8, 8), {}),
    (pano.Views, (1, 2, 3, 8, 12), {"cameras": [pano.Camera(), pano.Camera(yaw_deg=90)]}),
    (pano.Sequence, (1, 4, 3, 8, 16), {}),
]


def smooth(directions: torch.Tensor) -> torch.Tensor:
    """A colour for every ray: [..., 3] → [3, ...] in 0..1."""
    return (0.5 + 0.4 * directions).movedim(-1, 0)


@pytest.mark.parametrize("kind, shape, more", KINDS)
def test_frozen_and_checked(kind, shape, more):
    picture = kind(torch.rand(shape), **more)
    with pytest.raises(dataclasses.FrozenInstanceError):
        picture.pixels = None
    assert isinstance(picture.to_equirect(), pano.Panorama)
    for bad in (
        torch.rand(shape[1:]),
        torch.rand(shape).to(torch.uint8),
        torch.full(shape, torch.nan),
        [0.0],
    ):
        with pytest.raises(pano.InputError):
            kind(bad, **more)


def test_cube_and_views_show_the_same_sphere():
    truth = smooth(equirect_directions(32, 64))[None]
    faces = smooth(face_directions(32)).transpose(0, 1)[None]
    cube = pano.CubeFaces(faces).to_equirect(32).pixels
    assert (cube - truth).abs().max() < 0.01
    cameras = [pano.Camera(yaw_deg=yaw, pitch_deg=pitch) for yaw, pitch in CUBE_FACE_ANGLES_DEG]
    views = pano.Views(faces, cameras).to_equirect(32).pixels
    assert (views - truth).abs().max() < 0.02


def test_views_leave_the_rest_black():
    view = pano.Views(torch.ones(1, 1, 3, 16, 16), [pano.Camera(fov_deg=60)]).to_equirect(64).pixels
    assert view[0, :, 32, 64].min() == 1.0 and view[0, :, 32, 0].max() == 0.0
    assert ((view == 0.0) | ((view - 1.0).abs() < 1e-5)).all()


def test_natural_sizes():
    assert pano.CubeFaces(torch.rand(1, 6, 3, 8, 8)).to_equirect().pixels.shape == (1, 3, 16, 32)
    wide = pano.Views(torch.rand(1, 1, 3, 64, 64), [pano.Camera()]).to_equirect()
    assert wide.pixels.shape == (1, 3, 112, 224)  # π/2 · 64 rows for 90°, and up to the next 16
    assert pano.Sequence(torch.rand(2, 3, 3, 4, 8)).to_equirect().pixels.shape == (6, 3, 4, 8)


def test_cameras_must_match():
    with pytest.raises(pano.InputError, match="2 views need as many cameras, got 1"):
        pano.Views(torch.rand(1, 2, 3, 4, 4), [pano.Camera()])
    with pytest.raises(pano.InputError, match="0 < fov_deg < 180"):
        pano.Camera(fov_deg=180.0)
