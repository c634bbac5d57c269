"""Directions, rotations, cameras, cube frames and adjacency."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panodiff_core import geometry as geo

F64 = torch.float64


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=F64),
        torch.as_tensor(b, dtype=F64),
        atol=tolerance,
        rtol=0,
        check_device=False,
    )


def test_equirect_pixel_centres():
    d = geo.equirect_directions(4, 8, F64)
    lon, lat = math.radians(22.5), math.radians(22.5)
    close(d[1, 4], [math.cos(lat) * math.sin(lon), math.sin(lat), math.cos(lat) * math.cos(lon)])
    close(d.norm(dim=-1), torch.ones(4, 8, dtype=F64))
    # Right of the centre is +X, above it +Y, and the last column is as far from the seam as the first.
    assert d[0, 4, 1] > 0 and d[2, 6, 0] > 0
    close(d[:, 0] * torch.tensor([-1.0, 1, 1]), d[:, -1])


def test_pixels_and_directions_are_inverse():
    d = geo.equirect_directions(6, 12, F64)
    x, y = geo.lonlat_to_equirect_pixels(*geo.directions_to_lonlat(3.0 * d), 6, 12)
    close(x, torch.arange(12, dtype=F64).expand(6, 12), 1e-11)
    close(y, torch.arange(6, dtype=F64)[:, None].expand(6, 12), 1e-11)
    close(geo.lonlat_to_directions(*geo.equirect_pixels_to_lonlat(x, y, 6, 12)), d)


def test_poles_have_a_longitude_and_finite_gradients():
    poles = torch.tensor([[0.0, 1.0, 0.0], [0.0, -2.0, 0.0]], dtype=F64, requires_grad=True)
    lon, lat = geo.directions_to_lonlat(poles)
    close(lon, [0.0, 0.0])
    close(lat, [math.pi / 2, -math.pi / 2])
    (lon.sum() + lat.sum()).backward()
    assert torch.isfinite(poles.grad).all()


def test_rotation_signs():
    forward, right, up = torch.eye(3, dtype=F64)[[2, 0, 1]]
    close(geo.rotation_matrix(90) @ forward, right)
    close(geo.rotation_matrix(0, 90) @ forward, up)
    close(geo.rotation_matrix(0, 0, 90) @ right, -up)
    close(geo.rotation_matrix(0, 0, 90) @ up, right)
    assert torch.equal(geo.rotation_matrix(450, -90, 180), geo.rotation_matrix(90, 270, -180))


@settings(max_examples=40, deadline=None)
@given(st.floats(-179, 179), st.floats(-89, 89), st.floats(-179, 179))
def test_angles_come_back(yaw, pitch, roll):
    matrix = geo.rotation_matrix(yaw, pitch, roll)
    close(matrix.T @ matrix, torch.eye(3), 1e-12)
    assert geo.rotation_angles(matrix) == pytest.approx((yaw, pitch, roll), abs=1e-8)


def test_angles_looking_straight_up_or_down():
    for pitch in (90, -90):
        matrix = geo.rotation_matrix(30, pitch, 12)
        yaw, found, roll = geo.rotation_angles(matrix)
        assert roll == 0.0 and found == pytest.approx(pitch)
        close(geo.rotation_matrix(yaw, found, roll), matrix)


def test_faces_are_what_cameras_see():
    faces = geo.face_directions(5, F64)
    for k, (yaw, pitch) in enumerate(geo.CUBE_FACE_ANGLES_DEG):
        close(geo.perspective_directions(5, 5, 90, yaw, pitch, dtype=F64), faces[k])
    names = "".join(geo.FACES)
    assert names == "FRBLUD"
    close(faces[:, 2, 2], [[0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])


def test_directions_find_their_face():
    size = 7
    faces = geo.face_directions(size, F64)
    face, u, v = geo.directions_to_faces(faces)
    assert torch.equal(face, torch.arange(6)[:, None, None].expand(6, size, size))
    close((u + 1) * size / 2 - 0.5, torch.arange(size, dtype=F64).expand(6, size, size))
    close((1 - v) * size / 2 - 0.5, torch.arange(size, dtype=F64)[:, None].expand(6, size, size))
    ties = torch.tensor([[1.0, 0, 1], [1, 1, 0], [0, -1, -1], [-1, 1, 1]])
    assert geo.directions_to_faces(ties)[0].tolist() == [0, 1, 2, 0]


ADJACENCY = {  # left, right, top, bottom; a prime marks an edge that runs the other way
    "F": ("L right", "R left", "U bottom", "D top"),
    "R": ("F right", "B left", "U right'", "D right"),
    "B": ("R right", "L left", "U top'", "D bottom'"),
    "L": ("B right", "F left", "U left", "D left'"),
    "U": ("L top", "R top'", "B top'", "F top"),
    "D": ("L bottom'", "R bottom", "F bottom", "B bottom'"),
}


def test_adjacency_table():
    for face, row in zip(geo.FACES, geo.ADJACENCY, strict=True):
        named = tuple(f"{geo.FACES[a.face]} {geo.EDGES[a.edge]}{chr(39) * a.reversed}" for a in row)
        assert named == ADJACENCY[face]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_adjacency_is_geometric_and_mutual(size):
    directions = geo.face_directions(size, F64).reshape(-1, 3)
    near, behind = directions[geo.edge_texels(size)], directions[geo.edge_neighbours(size)]
    # Facing texels are each other's nearest texels on another face.
    cosine = near.reshape(-1, 3) @ directions.T
    face = torch.arange(6).repeat_interleave(4 * size)
    own = torch.arange(6 * size * size) // (size * size) == face[:, None]
    best = cosine.masked_fill(own, -1).amax(1)
    close((near * behind).sum(-1).flatten(), best)
    for f in range(6):
        for e in range(4):
            other = geo.ADJACENCY[f][e]
            assert geo.ADJACENCY[other.face][other.edge] == (f, e, other.reversed)
    assert len(geo.CUBE_EDGES) == 12


def test_perspective_pixels_invert_directions():
    pose = {"fov_deg": 70.0, "yaw_deg": 130.0, "pitch_deg": -35.0, "roll_deg": 20.0}
    d = geo.perspective_directions(6, 9, **pose, dtype=F64)
    x, y, inside = geo.perspective_pixels(d, 6, 9, **pose)
    close(x, torch.arange(9, dtype=F64).expand(6, 9), 1e-11)
    close(y, torch.arange(6, dtype=F64)[:, None].expand(6, 9), 1e-11)
    assert inside.all()
    assert not geo.perspective_pixels(-d, 6, 9, **pose)[2].any()


def test_fov_is_horizontal():
    d = geo.perspective_directions(2, 2000, 100, dtype=F64)
    assert math.degrees(math.atan2(d[0, -1, 0], d[0, -1, 2])) == pytest.approx(50, abs=0.05)
    assert geo.vertical_fov(90, 1080, 1920) == pytest.approx(58.7155, abs=1e-3)
    assert geo.focal_to_fov(geo.fov_to_focal(73.0, 640), 640) == pytest.approx(73.0)


def test_intrinsics_agree_with_the_rays():
    height, width, fov = 6, 10, 65.0
    k = geo.intrinsics(height, width, fov)
    ours = geo.perspective_directions(height, width, fov, dtype=F64)
    opencv = ours * torch.tensor([1.0, -1.0, 1.0])
    pixel = opencv @ k.T
    pixel = pixel[..., :2] / pixel[..., 2:]
    close(pixel[..., 0], (torch.arange(width, dtype=F64) + 0.5).expand(height, width), 1e-10)
    close(pixel[..., 1], (torch.arange(height, dtype=F64) + 0.5)[:, None].expand(height, width), 1e-10)


def opencv_rotation(yaw, pitch, roll):
    """Ry Rx Rz of x right, y down, z forward, where yaw turns right, pitch up and roll clockwise."""
    (cy, sy), (cp, sp), (cr, sr) = (
        (math.cos(math.radians(a)), math.sin(math.radians(a))) for a in (yaw, pitch, roll)
    )
    ry = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=F64)
    rx = torch.tensor([[1, 0, 0], [0, cp, -sp], [0, sp, cp]], dtype=F64)
    rz = torch.tensor([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]], dtype=F64)
    return ry @ rx @ rz


def test_poses_in_other_conventions():
    pose = geo.pose_matrix(40, 25, -10, (1.0, 2.0, 3.0))
    assert geo.pose_angles(pose) == pytest.approx((40, 25, -10))
    opencv, opengl = geo.to_opencv(pose), geo.to_opengl(pose)
    close(opencv[:3, :3], opencv_rotation(40, 25, -10))
    close(opencv[:3, 3], [1.0, -2.0, 3.0])
    close(opengl[:3, 3], [1.0, 2.0, -3.0])
    # A camera that looks along OpenGL's -z sees what ours sees along +z, in mirrored world axes.
    close(
        opengl[:3, :3] @ torch.tensor([0.0, 0.0, -1.0], dtype=F64),
        pose[:3, 2] * torch.tensor([1.0, 1.0, -1.0]),
    )
    for matrix in (opencv, opengl):
        assert torch.linalg.det(matrix) == pytest.approx(1.0)
    close(geo.from_opencv(opencv), pose)
    close(geo.from_opengl(opengl), pose)
    close(geo.opencv_to_opengl(opencv), opengl)
    close(
        geo.opencv_to_opengl(opencv, keep_world=True),
        opencv @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=F64)),
    )
    close(geo.to_opencv(pose.expand(2, 5, 4, 4)), opencv.expand(2, 5, 4, 4))


def test_bad_poses_and_angles_are_named():
    pose = geo.pose_matrix(10, 20, 30, (1, 2, 3))
    for broken, word in (
        (pose.T.contiguous(), "transposed"),
        (pose * torch.tensor([1.0, 1, -1, 1], dtype=F64), "mirrors"),
        (pose * torch.tensor([2.0, 1, 1, 1], dtype=F64), "orthonormal"),
        (pose / 0.0, "NaN"),
        (pose[:3], r"\[\.\.\.,4,4\]"),
    ):
        with pytest.raises(ValueError, match=word):
            geo.to_opencv(broken)
    with pytest.raises(ValueError, match="yaw_deg is nan"):
        geo.rotation_matrix(float("nan"))
    with pytest.raises(ValueError, match="focal_px"):
        geo.focal_to_fov(0.0, 10)
