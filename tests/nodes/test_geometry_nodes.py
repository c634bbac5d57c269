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
            ValueError, match=f"crossfade must be 0, or from 2 to 16, half a face, got {crossfade}"
        ):
            run(node, faces=stepped, height=0, crossfade=crossfade)


def test_perspective_looks_where_it_is_told(node_classes, panorama) -> None:
    node = node_classes["PanoDiff_ExtractPerspective"]
    view = {"pitch_deg": 0.0, "roll_deg": 0.0, "fov_deg": 40.0, "width": 24, "height": 16}
    right, camera = run(node, panorama=panorama, yaw_deg=90.0, **view)
    assert right.shape == (1, 16, 24, 3)
    centre = right[0, 7:9, 11:13].mean((0, 1))
    assert torch.allclose(centre, torch.tensor([0.9, 0.5, 0.5]), atol=0.01)
    elsewhere = dict.fromkeys(("yaw_deg", "pitch_deg", "roll_deg"), 1.0) | {
        "fov_deg": 9.0,
        "width": 8,
        "height": 8,
    }
    again, same = run(node, panorama=panorama, **elsewhere, camera=camera)
    assert torch.equal(again, right) and same == camera
    nearest, camera = run(node, panorama=panorama, **elsewhere, camera=camera, interpolation="nearest")
    assert not torch.equal(nearest, right) and torch.isin(nearest, panorama).all()
    assert camera.interpolation == "nearest" and camera.yaw_deg == 90.0


POSES = [
    (0.0, 0.0, 0.0, 90.0),
    (180.0, 20.0, 10.0, 60.0),
    (30.0, 90.0, 0.0, 100.0),
    (-100.0, -70.0, 160.0, 170.0),
]


def look(node_classes, panorama, pose, interpolation="bicubic", size=(48, 32)) -> tuple:
    angles = dict(zip(("yaw_deg", "pitch_deg", "roll_deg", "fov_deg"), pose, strict=True))
    shape = dict(zip(("width", "height"), size, strict=True))
    node = node_classes["PanoDiff_ExtractPerspective"]
    return run(node, panorama=panorama, **angles, **shape, interpolation=interpolation)


@pytest.mark.parametrize("pose", POSES, ids=str)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_an_unedited_view_put_back_changes_nothing(node_classes, pose, interpolation) -> None:
    generator = torch.Generator().manual_seed(3)
    bright = 2.0 * torch.rand(
        2, 64, 128, 3, generator=generator
    )  # brighter than white, which the view cuts off
    for panorama in (bright, bright.clamp(0, 1).half()):
        image, camera = look(node_classes, panorama, pose, interpolation)
        eight_bits = (image * 255).floor() / 255
        for edited in (image, image.half(), eight_bits):
            result, mask = run(node_classes["PanoDiff_PastePerspective"], panorama=panorama, image=edited, camera=camera,
                               feather_deg=0.0)  # fmt: skip
            assert result.dtype == panorama.dtype and torch.equal(result, panorama)
            assert mask.shape == (2, 64, 128) and mask.dtype == torch.float32 and not mask.any()


@pytest.mark.parametrize("pose", POSES, ids=str)
def test_an_edit_is_put_back_where_it_was_taken(node_classes, panorama, pose) -> None:
    """A brighter world, seen through the camera, is brighter there and as it was elsewhere, bit by bit."""
    image, camera = look(node_classes, panorama, pose, size=(96, 64))
    node = node_classes["PanoDiff_PastePerspective"]
    result, mask = run(node, panorama=panorama, image=image * 0.5, camera=camera, feather_deg=4.0)
    assert 0.02 < (mask > 0).float().mean() < 0.6 and mask.max() > 0.999
    assert torch.equal(result[mask == 0], panorama[mask == 0])
    expected = panorama * (1 - 0.5 * mask[..., None])
    assert (result - expected).abs().max() < 6e-3
    assert (result - expected).abs().mean() < 3e-4


def test_a_painted_mask_limits_what_is_put_back(node_classes, panorama) -> None:
    image, camera = look(node_classes, panorama, POSES[1])
    shape = torch.zeros(1, 32, 48)
    node = node_classes["PanoDiff_PastePerspective"]
    inputs = {"panorama": panorama, "image": 0 * image, "camera": camera, "feather_deg": 0.0}
    result, mask = run(node, **inputs, mask=shape)
    assert torch.equal(result, panorama) and not mask.any()
    shape[:, 8:24, 12:36] = 1.0
    masked, whole = (run(node, **inputs, mask=each)[1] for each in (shape, None))
    assert 0.15 < masked.sum() / whole.sum() < 0.35 and (masked <= whole + 1e-6).all()


def test_one_panorama_takes_many_edits(node_classes, panorama) -> None:
    image, camera = look(node_classes, panorama, POSES[1])
    node = node_classes["PanoDiff_PastePerspective"]
    edits = torch.cat([1 - image, image, image * 0.5])
    result, mask = run(node, panorama=panorama, image=edits, camera=camera, feather_deg=2.0)
    assert result.shape == (3, *panorama.shape[1:]) and mask.shape == (3, 32, 64)
    assert torch.equal(result[1:2], panorama)
    for index in (0, 2):
        alone, _ = run(
            node, panorama=panorama, image=edits[index : index + 1], camera=camera, feather_deg=2.0
        )
        assert torch.equal(result[index : index + 1], alone)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": torch.zeros(1, 32, 40, 3)}, "image is 40 x 32, and its camera took 48 x 32"),
        ({"image": torch.zeros(1, 64, 88, 3)}, "image is 88 x 64, and its camera took 48 x 32"),
        ({"image": torch.zeros(1, 32, 48, 4)}, "image has 4 channels and panorama 3"),
        ({"image": torch.zeros(2, 32, 48, 3), "mask": torch.zeros(3, 32, 48)}, "image 2, mask 3"),
        ({"mask": torch.zeros(1, 64, 64)}, "mask is 64 x 64 and image 48 x 32"),
        ({"feather_deg": 40.0}, "feather_deg is 40; this view takes 0 to"),
        ({"panorama": torch.zeros(1, 32, 60, 3)}, "this picture is 60 x 32.*64 x 32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_together_is_refused(node_classes, panorama, change, words) -> None:
    image, camera = look(node_classes, panorama, POSES[1])
    given = {"panorama": panorama, "image": image, "camera": camera, "feather_deg": 1.0} | change
    with pytest.raises(ValueError, match=words):
        run(node_classes["PanoDiff_PastePerspective"], **given)


def test_an_enlarged_view_fits_its_camera(node_classes, panorama) -> None:
    _, camera = look(node_classes, panorama, POSES[0], size=(56, 37))
    for width, height in ((112, 74), (84, 55), (84, 56)):  # half a pixel is rounded either way
        larger = torch.zeros(1, height, width, 3)
        result, mask = run(node_classes["PanoDiff_PastePerspective"], panorama=panorama, image=larger, camera=camera,
                           feather_deg=0.0)  # fmt: skip
        assert mask.max() == 1 and (result[mask == 1] == 0).all()


@pytest.mark.parametrize("factor", [1.1, 1.3, 1.77, 2.0])
def test_a_plain_enlargement_is_no_edit(node_classes, panorama, factor) -> None:
    image, camera = look(node_classes, panorama, POSES[1], size=(96, 64))
    size = (round(64 * factor), round(96 * factor))  # both sides rounded, as resize nodes do
    larger = torch.nn.functional.interpolate(image.movedim(-1, 1), size=size, mode="bicubic").movedim(1, -1)
    result, mask = run(node_classes["PanoDiff_PastePerspective"], panorama=panorama, image=larger, camera=camera,
                       feather_deg=0.0)  # fmt: skip
    assert torch.equal(result, panorama) and not mask.any()


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
