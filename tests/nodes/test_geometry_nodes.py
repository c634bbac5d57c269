"""Geometry nodes hand pictures to the core in the right layout and refuse what is not a panorama."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.comfyui


def run(node, **inputs) -> tuple:
    return node.execute(**inputs).result


def test_full_turn_is_no_turn(node_classes, panorama) -> None:
    node = node_classes["PanoDiff_RotatePanorama"]
    (turned,) = run(node, panorama=panorama, yaw_deg=360.0, pitch_deg=0.0, roll_deg=0.0)
    assert turned.shape == panorama.shape and turned.dtype == torch.float32
    assert (turned - panorama).abs().max() < 1e-4


def test_yaw_brings_the_right_to_the_centre(node_classes, panorama) -> None:
    """yaw 90° of 64 columns is 16: the new centre is what was 16 columns right of it."""
    node = node_classes["PanoDiff_RotatePanorama"]
    (turned,) = run(node, panorama=panorama, yaw_deg=90.0, pitch_deg=0.0, roll_deg=0.0)
    assert (turned - panorama.roll(-16, dims=2)).abs().max() < 1e-4


def test_cubemap_and_back(node_classes, panorama) -> None:
    batch = torch.cat([panorama, panorama.flip(-1)])
    (faces,) = run(node_classes["PanoDiff_ConvertPanoramaToCubemap"], panorama=batch, face_size=0)
    assert faces.shape == (12, 16, 16, 3)
    front, up, front_of_second = faces[0, 8, 8], faces[4, 8, 8], faces[6, 8, 8]
    assert front[2] > 0.75 and up[1] > 0.85  # blue grows forward, green upward
    assert torch.allclose(front_of_second, front.flip(0), atol=1e-5)
    (back,) = run(node_classes["PanoDiff_ConvertCubemapToPanorama"], faces=faces, height=32)
    assert back.shape == batch.shape
    assert (back - batch).abs().mean() < 2e-3 and (back - batch).abs().max() < 3e-2


def test_cubemap_needs_six_square_faces(node_classes) -> None:
    node = node_classes["PanoDiff_ConvertCubemapToPanorama"]
    with pytest.raises(ValueError, match="this batch has 5"):
        run(node, faces=torch.zeros(5, 8, 8, 3), height=0)
    with pytest.raises(ValueError, match="these are 9 x 8"):
        run(node, faces=torch.zeros(6, 8, 9, 3), height=0)


def test_crossfade_closes_steps_at_the_edges(node_classes, panorama) -> None:
    from panodiff_core.geometry import crossfade_cube, cubemap_to_equirect

    (faces,) = run(node_classes["PanoDiff_ConvertPanoramaToCubemap"], panorama=panorama, face_size=32)
    stepped = 0.5 * faces + torch.linspace(0.0, 0.4, 6)[:, None, None, None]
    node = node_classes["PanoDiff_ConvertCubemapToPanorama"]
    pixels = stepped.movedim(-1, 1)[None]
    for crossfade, cube in ((0, pixels), (8, crossfade_cube(pixels, 8))):
        (joined,) = run(node, faces=stepped, height=0, crossfade=crossfade)
        expected = cubemap_to_equirect(cube, mode="bicubic").clamp(0, 1)
        assert torch.equal(joined.movedim(-1, 1), expected)
    assert torch.equal(
        run(node, faces=stepped, height=0)[0], run(node, faces=stepped, height=0, crossfade=0)[0]
    )
    for crossfade in (1, 17):
        with pytest.raises(
            ValueError, match=f"crossfade is {crossfade}, and faces of 32 pixels take 2 to 16"
        ):
            run(node, faces=stepped, height=0, crossfade=crossfade)


def test_perspective_looks_where_it_is_told(node_classes, panorama) -> None:
    node = node_classes["PanoDiff_ExtractPerspective"]
    view = {"pitch_deg": 0.0, "roll_deg": 0.0, "fov_deg": 40.0, "width": 24, "height": 16}
    (right,) = run(node, panorama=panorama, yaw_deg=90.0, **view)
    assert right.shape == (1, 16, 24, 3)
    centre = right[0, 7:9, 11:13].mean((0, 1))
    assert torch.allclose(centre, torch.tensor([0.9, 0.5, 0.5]), atol=0.01)


def test_half_precision_goes_in_and_alpha_survives(node_classes, panorama) -> None:
    rgba = torch.cat([panorama, torch.ones_like(panorama[..., :1])], dim=-1).half()
    node = node_classes["PanoDiff_RotatePanorama"]
    (turned,) = run(node, panorama=rgba, yaw_deg=180.0, pitch_deg=0.0, roll_deg=0.0, interpolation="nearest")
    assert turned.shape == rgba.shape and torch.equal(turned[..., 3], torch.ones_like(turned[..., 3]))


@pytest.mark.parametrize(
    ("node_id", "inputs"),
    [
        ("PanoDiff_RotatePanorama", {"yaw_deg": 0.0, "pitch_deg": 0.0, "roll_deg": 0.0}),
        ("PanoDiff_ConvertPanoramaToCubemap", {"face_size": 0}),
        (
            "PanoDiff_ExtractPerspective",
            {"yaw_deg": 0.0, "pitch_deg": 0.0, "roll_deg": 0.0, "fov_deg": 90.0, "width": 8, "height": 8},
        ),
        ("PanoDiff_SavePanorama", {"filename_prefix": "x", "format": "png"}),
        ("PanoDiff_ReportSeam", {}),
    ],
)
def test_other_proportions_are_refused_with_the_way_out(node_classes, node_id, inputs) -> None:
    with pytest.raises(ValueError, match="this picture is 60 x 32.*64 x 32"):
        node_classes[node_id].execute(panorama=torch.zeros(1, 32, 60, 3), **inputs)


def test_cancel_acts_between_pictures(node_classes, panorama) -> None:
    from comfy import model_management

    model_management.interrupt_current_processing(True)
    with pytest.raises(model_management.InterruptProcessingException):
        run(
            node_classes["PanoDiff_RotatePanorama"],
            panorama=panorama,
            yaw_deg=1.0,
            pitch_deg=0.0,
            roll_deg=0.0,
        )
    assert not model_management.processing_interrupted()
