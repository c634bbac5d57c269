"""The training losses of DiT360: the published ones to the last digits, and ours where those have faults."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")

import panodiff_core as pano
from panodiff_core.engines.dit360.losses import (
    PUBLISHED_YAWS_DEG,
    cube_loss,
    cube_map,
    cube_map_published,
    flow_loss,
    published_losses,
    yaw_loss,
    yaw_rotate,
    yaw_rotate_published,
)
from panodiff_core.engines.dit360.verification import losses as verification
from panodiff_core.geometry.cubemap import face_directions
from panodiff_core.geometry.sphere import equirect_directions
from tests.core.dit360_vectors import largest, tensors
from tests.core.vector_folder import Folder, results, unmet

WRONG = 0.05


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return tensors("losses")["in.pred"], tensors("losses")["in.target"]


def test_vectors():
    rows = list(verification.check(Folder()))
    assert not unmet(rows)
    assert {row.what for row in rows} == results("losses") and len(rows) == len(results("losses"))
    assert {row.bound for row in rows} == {1e-5}


@pytest.mark.parametrize("key", ["yaw.60.pred", "derived.yaw_exact.60.pred", "cube.pred", "yaw.60.loss"])
def test_a_wrong_vector_is_found(key):
    right = tensors("losses")[key]
    for wrong in (right + 2e-5, right * torch.nan):
        assert [row.what for row in unmet(verification.check(Folder({key: wrong})))] == [key]
    cropped = unmet(verification.check(Folder({key: right[None]})))
    assert len(cropped) == 1 and cropped[0].error == float("inf") and "shape" in cropped[0].what


def test_an_exact_rotation_measures_nothing_new():
    """A permutation of the error has the error's mean square; the published map halves it on noise."""
    flow = flow_loss(*pair())
    width = pair()[0].shape[-1]
    for columns in (1, 5, width // 2, -3):
        exact = yaw_loss(*pair(), columns * 360.0 / width, published=False)
        assert abs(exact - flow) <= 1e-6
    for yaw in PUBLISHED_YAWS_DEG:
        assert yaw_loss(*pair(), yaw) < 0.8 * flow


def test_exact_rotation():
    x, width = pair()[0], pair()[0].shape[-1]
    for columns in (0, 1, width - 1, -7):
        assert torch.equal(yaw_rotate(x, columns * 360.0 / width), x.roll(-columns, -1))
    assert torch.equal(yaw_rotate(x, 360.0), x) and torch.equal(yaw_rotate(x, 0), x)
    half = yaw_rotate(x, -0.5 * 360.0 / width)
    assert largest(half, (x + x.roll(1, -1)) / 2) <= 1e-6
    ring = tensors("losses")["in.smooth_ring"]
    assert largest(yaw_rotate(ring, 60.0), yaw_rotate_published(ring, 60.0)) > WRONG


def test_the_cube_map_shows_directions():
    """Faces of a picture that holds its own directions hold theirs; the published faces are mirrored."""
    size = 64
    picture = equirect_directions(size, 2 * size).permute(2, 0, 1)[None]
    faces = cube_map(picture)
    expected = face_directions(size // 2).permute(0, 3, 1, 2)[None]
    assert faces.shape == expected.shape
    assert largest(faces, expected) <= 2e-3
    plus_x = cube_map_published(picture)[:, 0]
    assert plus_x[0, 0].min() > 0.5  # it looks to the right indeed
    assert plus_x[0, 2, :, 0].max() < 0 < plus_x[0, 2, :, -1].min()  # but forward lies at its right edge
    assert faces[0, 1, 2, :, 0].min() > 0 > faces[0, 1, 2, :, -1].max()


def test_published_sum():
    parts = published_losses(*pair(), 60)
    assert abs(parts["flow"] - tensors("losses")["main.loss"]) <= 1e-5
    assert torch.allclose(parts["loss"], parts["flow"] + 0.5 * parts["yaw"] + 0.5 * parts["cube"])
    weighed = published_losses(*pair(), 60, yaw_weight=2.0, cube_weight=0.0)
    assert torch.allclose(weighed["loss"], parts["flow"] + 2.0 * parts["yaw"])
    assert published_losses(*pair(), 180)["yaw"] != parts["yaw"]


def test_gradients():
    target = pair()[1]
    predicted = pair()[0].clone().requires_grad_()
    (flow,) = torch.autograd.grad(flow_loss(predicted, target), predicted)
    assert largest(flow, 2 * (predicted - target).detach() / target.numel()) <= 1e-9
    (exact,) = torch.autograd.grad(yaw_loss(predicted, target, 90.0, published=False), predicted)
    assert largest(exact, flow) <= 1e-9
    for loss in (
        yaw_loss(predicted, target, 60.0),
        cube_loss(predicted, target),
        cube_loss(predicted, target, published=False),
        published_losses(predicted, target, 60.0)["loss"],
    ):
        (gradient,) = torch.autograd.grad(loss, predicted)
        step = 1e-3 / gradient.norm()
        moved = (predicted - step * gradient).detach()
        assert gradient.isfinite().all() and not torch.equal(gradient, flow)
        assert flow_loss(moved, target) < flow_loss(predicted, target)


def test_a_grid_made_in_inference_serves_training():
    x = torch.randn(1, 2, 11, 46, generator=torch.Generator().manual_seed(2))  # a size no other test has
    with torch.inference_mode():
        yaw_rotate_published(x, 23.0)
        cube_map_published(x)
    x.requires_grad_()
    (yaw_rotate_published(x, 23.0).sum() + cube_map_published(x).sum()).backward()
    assert x.grad.abs().max() > 0


def test_short_floats():
    x = pair()[0]
    for turn in (yaw_rotate_published, yaw_rotate):
        short = turn(x.bfloat16(), 60.0)
        assert short.dtype == torch.bfloat16
        assert largest(short, turn(x.bfloat16().float(), 60.0)) <= 0.02
    assert flow_loss(x.bfloat16(), x.bfloat16() + 1).dtype == torch.float32


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda x: flow_loss(x, x[:1]), r"predicted is \[2, 4, 8, 16\] and target \[1, 4, 8, 16\]"),
        (lambda x: yaw_rotate_published(x.mT, 60.0), "8×16: the published maps take the middle rows"),
        (lambda x: cube_map_published(x[..., :1, :]), "2 to 8 rows for this width"),
        (lambda x: cube_map(x[..., :6]), "twice as wide as high"),
        (lambda x: yaw_rotate(x, float("nan")), "yaw_deg is nan; pass a finite number"),
        (lambda x: yaw_rotate_published(x, "left"), "yaw_deg is 'left'"),
        (lambda x: yaw_rotate(x[0], 60.0), r"pass \[B,C,H,W\]"),
    ],
)
def test_refused(call, text):
    with pytest.raises(pano.InputError, match=text):
        call(torch.zeros(2, 4, 8, 16))
