"""Seam Report, Save Panorama and the viewers: figures, files, and what the browser is told."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.comfyui


def saved_file(base, entry: dict):
    return base / entry["type"] / entry["subfolder"] / entry["filename"]


def test_report_has_numbers_and_text(node_classes, panorama) -> None:
    node = node_classes["PanoDiff_ReportSeam"]
    output = node.execute(panorama=panorama)
    names = [item.id for item in node.GET_SCHEMA().outputs]
    values = dict(zip(names, output.result, strict=True))
    assert values.pop("passed") is True
    assert all(isinstance(values[name], float) for name in values if name != "report")
    assert 0.7 < values["ratio_1"] < 1.3
    cut = panorama.clone()
    cut[:, :, 32:] *= 0.5
    assert node.execute(panorama=cut).result[names.index("ratio_1")] > 5
    assert output.ui["text"] == (values["report"],) and "Seam ratio" in values["report"]


def test_report_passes_up_to_the_threshold_and_says_so(node_classes, panorama) -> None:
    node = node_classes["PanoDiff_ReportSeam"]
    names = [item.id for item in node.GET_SCHEMA().outputs]
    cut = panorama.clone()
    cut[:, :, 32:] *= 0.8
    ratio = node.execute(panorama=cut).result[names.index("ratio_1")]
    for threshold, passes in ((None, False), (0.999 * ratio, False), (ratio, True), (1.001 * ratio, True)):
        output = node.execute(panorama=cut, **({} if threshold is None else {"threshold": threshold}))
        values = dict(zip(names, output.result, strict=True))
        assert values["passed"] is passes and output.ui["passed"] == (passes,), threshold
        assert values["worst_ratio"] == values["ratio_1"] == ratio > 1.6
        assert ("a step shows at the seam" in values["report"]) is not passes
        assert ("Passed" if passes else "Failed") in values["report"]
    # One bad picture fails a batch, whatever the mean is.
    batch = dict(zip(names, node.execute(panorama=torch.cat([panorama] * 9 + [cut])).result, strict=True))
    assert batch["passed"] is False and batch["worst_ratio"] == pytest.approx(ratio)
    assert batch["ratio_1"] < batch["worst_ratio"] and "of 1" in batch["report"]


def test_a_busy_column_among_busy_columns_passes(node_classes) -> None:
    stripes = torch.full((1, 100, 200, 3), 0.5)
    stripes[:, :, ::8] = 0.9  # 25 bright lines; one stands at the seam
    node = node_classes["PanoDiff_ReportSeam"]
    names = [item.id for item in node.GET_SCHEMA().outputs]
    values = dict(zip(names, node.execute(panorama=stripes).result, strict=True))
    assert values["ratio_1"] > 1.6 and values["passed"] is True and "no cut" in values["report"]


def test_cube_report_has_a_figure_for_every_edge(node_classes, panorama) -> None:
    from panodiff_core import CubeFaces, seam_report

    (faces,) = (
        node_classes["PanoDiff_ConvertPanoramaToCubemap"].execute(panorama=panorama, face_size=32).result
    )
    node = node_classes["PanoDiff_ReportCubeSeams"]
    names = [item.id for item in node.GET_SCHEMA().outputs]
    cut = faces.clone()
    cut[4] *= 0.5  # up
    darker = torch.cat([faces, cut])
    for cubes in (faces, cut, darker):
        output = node.execute(faces=cubes)
        values = dict(zip(names, output.result, strict=True))
        expected = seam_report(CubeFaces(cubes.movedim(-1, 1).unflatten(0, (-1, 6))))
        for name in ("ratio_1", "ratio_2", "ratio_8", "ratio_16"):
            assert values[name] == pytest.approx(getattr(expected, name), rel=1e-5)
        means = {edge: float(ratio.mean()) for edge, ratio in expected.edges.items()}
        assert len(means) == 12 and values["largest"] == pytest.approx(max(means.values()), rel=1e-5)
        assert all(f"{edge} {ratio:.2f}" in values["report"] for edge, ratio in means.items())
        assert output.ui.as_dict()["text"] == (values["report"],) and "Seam ratio" in values["report"]
        worst = max(means, key=means.get)
        assert (values["largest"] > 3 and "U" in worst) == (cubes is not faces)
    with pytest.raises(ValueError, match="this batch has 7"):
        node.execute(faces=darker[:7])
    with pytest.raises(ValueError, match="at least 32 pixels, got 16"):
        node.execute(faces=faces[:, ::2, ::2])


@pytest.mark.parametrize(("format", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_saved_file_is_a_panorama(node_classes, comfyui, panorama, format, suffix) -> None:
    from panodiff_core.io.images import load_image, read_gpano

    node = node_classes["PanoDiff_SavePanorama"]
    output = node.execute(
        panorama=panorama, filename_prefix=f"some/{format}", format=format, heading_deg=90.0
    )
    (entry,) = output.ui.as_dict()["images"]
    path = saved_file(comfyui, entry)
    assert path.suffix == suffix and entry["subfolder"] == "some"
    tags = read_gpano(path)
    assert tags["ProjectionType"] == "equirectangular" and tags["FullPanoWidthPixels"] == 64
    assert tags["PoseHeadingDegrees"] == 90.0
    difference = (load_image(path)[0].permute(1, 2, 0) - panorama[0]).abs()
    assert difference.mean() < (0.002 if format == "png" else 0.02)


def test_batch_is_saved_one_by_one_and_nothing_is_overwritten(node_classes, comfyui, panorama) -> None:
    node = node_classes["PanoDiff_SavePanorama"]
    batch = torch.cat([panorama, 1 - panorama])
    names = []
    for _ in range(2):
        output = node.execute(panorama=batch, filename_prefix="batch", format="png")
        names += [entry["filename"] for entry in output.ui.as_dict()["images"]]
    assert len(set(names)) == 4 and all((comfyui / "output" / name).is_file() for name in names)


def test_workflow_is_inside_unless_the_server_forbids_it(extension, monkeypatch) -> None:
    from comfy.cli_args import args
    from custom_nodes_PanoDiff_x_1.nodes.save import workflow_texts

    hidden = SimpleNamespace(prompt={"1": {"class_type": "x"}}, extra_pnginfo={"workflow": {"nodes": []}})
    texts = workflow_texts(hidden)
    assert json.loads(texts["prompt"]) == hidden.prompt and json.loads(texts["workflow"]) == {"nodes": []}
    monkeypatch.setattr(args, "disable_metadata", True)
    assert workflow_texts(hidden) == {}


@pytest.mark.parametrize("prefix", ["../outside", "/tmp/outside", "a/../../outside"])
def test_files_stay_below_the_output_folder(node_classes, panorama, prefix) -> None:
    with pytest.raises(Exception, match="outside the output folder"):
        node_classes["PanoDiff_SavePanorama"].execute(panorama=panorama, filename_prefix=prefix, format="png")


def test_viewer_gets_names_not_pictures(node_classes, comfyui, panorama) -> None:
    batch = torch.cat([panorama, 1 - panorama])
    output = node_classes["PanoDiff_ViewPanorama"].execute(panorama=batch)
    shown = output.ui["panodiff_panorama"]
    assert len(shown) == 2 and len(json.dumps(output.ui)) < 2000
    for entry, picture in zip(shown, batch, strict=True):
        assert (entry["width"], entry["height"], entry["type"]) == (64, 32, "temp")
        with Image.open(saved_file(comfyui, entry)) as image:
            pixel = torch.tensor(image.getpixel((5, 7))) / 255
        assert torch.allclose(pixel, picture[7, 5], atol=0.003)


def test_viewer_gets_the_figures_of_the_seam_report(node_classes, panorama) -> None:
    from panodiff_core import seam_report

    cut = panorama.clone()
    cut[:, 5:12, 32:] *= 0.5
    batch = torch.cat([panorama, cut])
    report = node_classes["PanoDiff_ReportSeam"]
    names = [item.id for item in report.GET_SCHEMA().outputs][1:8]
    for entry, picture in zip(
        node_classes["PanoDiff_ViewPanorama"].execute(panorama=batch).ui["panodiff_panorama"],
        batch.split(1),
        strict=True,
    ):
        measures = entry["measures"]
        assert [measures.pop(name) for name in names] == list(report.execute(panorama=picture).result[1:8])
        assert measures.pop("verdict") in report.execute(panorama=picture).result[0]
        rows = seam_report(picture.movedim(-1, 1)).rows[0].tolist()
        assert measures.pop("rows") == pytest.approx(rows, rel=1e-3) and not measures


def test_row_profiles_stay_small(node_classes) -> None:
    from custom_nodes_PanoDiff_x_1.nodes.measures import measure_pictures

    noise = torch.rand(1, 600, 1200, 3, generator=torch.Generator().manual_seed(0))
    (measures,) = measure_pictures(noise)
    assert len(measures["rows"]) == 256 and len(json.dumps(measures)) < 2500
    many = measure_pictures(noise[:, :100, :200].expand(64, -1, -1, -1))
    assert [len(one["rows"]) for one in many] == [64] * 64


def test_what_cannot_be_measured_is_said_and_still_shown(node_classes) -> None:
    for height, width, problem in ((20, 30, "this picture is 30 x 20"), (8, 16, "at least 34 columns")):
        picture = torch.zeros(1, height, width, 3)
        (entry,) = node_classes["PanoDiff_ViewPanorama"].execute(panorama=picture).ui["panodiff_panorama"]
        assert set(entry["measures"]) == {"problem"} and problem in entry["measures"]["problem"]


def test_viewer_gets_what_to_compare_with_beside_the_panorama(node_classes, comfyui, panorama) -> None:
    node = node_classes["PanoDiff_ViewPanorama"]
    assert node.GET_SCHEMA().inputs[-1].id == "compare_with" and node.GET_SCHEMA().inputs[-1].optional
    assert "panodiff_compare" not in node.execute(panorama=panorama).ui
    output = node.execute(panorama=panorama, compare_with=torch.full((2, 20, 30, 3), 0.2))
    shown, others = output.ui["panodiff_panorama"], output.ui["panodiff_compare"]
    assert len(output.result) == 3 and len({entry["filename"] for entry in [*shown, *others]}) == 3
    for entry in others:
        assert (entry["width"], entry["height"], entry["type"]) == (30, 20, "temp")
        with Image.open(saved_file(comfyui, entry)) as image:
            assert image.getpixel((5, 7)) == (51, 51, 51)
    with Image.open(saved_file(comfyui, shown[0])) as image:  # not written over
        assert torch.allclose(torch.tensor(image.getpixel((5, 7))) / 255, panorama[0, 7, 5], atol=0.003)


@pytest.mark.parametrize("kind", ["one piece", "tiles", "faces"])
def test_viewers_get_what_is_transparent(node_classes, comfyui, kind) -> None:
    picture = torch.full((1, *((2080, 4160) if kind == "tiles" else (32, 64)), 4), 0.8)
    picture[:, :, 9, 3] = 0.2
    if kind == "faces":
        output = node_classes["PanoDiff_ViewCubemap"].execute(faces=picture[:, :, :32].repeat(6, 1, 1, 1))
    else:
        output = node_classes["PanoDiff_ViewPanorama"].execute(panorama=picture, width=8, height=8)
    (entry,) = output.ui["panodiff_panorama"]
    if kind == "tiles":
        entry = {**entry, "filename": f"{entry['tiles']['prefix']}0_0_0.png"}
    with Image.open(saved_file(comfyui, entry)) as image:
        border = 1 if kind == "tiles" else 0
        values = [image.getpixel((column + border, 5)) for column in (8, 9)]
    assert values == [(204, 204, 204, 204), (204, 204, 204, 51)]


def test_large_pictures_go_to_the_viewer_as_a_preview_and_tiles(node_classes, comfyui) -> None:
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand((1, 2080, 4160, 3), generator=generator)
    output = node_classes["PanoDiff_ViewPanorama"].execute(panorama=picture, width=8, height=8)
    (entry,) = output.ui["panodiff_panorama"]
    assert (entry["width"], entry["height"]) == (4160, 2080)
    with Image.open(saved_file(comfyui, entry)) as preview:
        assert preview.size == (1040, 520)
    assert entry["tiles"]["levels"] == [[4160, 2080], [2080, 1040]]
    tile = {**entry, "filename": f"{entry['tiles']['prefix']}0_4_2.png"}
    with Image.open(saved_file(comfyui, tile)) as last:
        assert last.size == (4160 - 4096 + 2, 2080 - 2048 + 2)
        pixel = torch.tensor(last.getpixel((1, 1))) / 255
    assert torch.allclose(pixel, picture[0, 2048, 4096], atol=0.003)
    assert len(list(saved_file(comfyui, entry).parent.glob(f"{entry['tiles']['prefix']}*"))) == 15 + 6


def test_viewer_takes_other_proportions_and_stops_only_what_follows(node_classes) -> None:
    output = node_classes["PanoDiff_ViewPanorama"].execute(panorama=torch.zeros(1, 20, 30, 1))
    assert output.ui["panodiff_panorama"][0]["width"] == 30
    assert "this picture is 30 x 20" in output.block_execution and len(output.result) == 3


def test_captured_view_is_what_panorama_to_perspective_takes(node_classes, panorama) -> None:
    view = {"yaw_deg": 170.3, "pitch_deg": -35.5, "roll_deg": 7.0, "fov_deg": 71.2, "width": 48, "height": 24}
    batch = torch.cat([panorama, 1 - panorama])
    image, camera, _ = node_classes["PanoDiff_ViewPanorama"].execute(panorama=batch, **view).result
    expected, taken = node_classes["PanoDiff_ExtractPerspective"].execute(panorama=batch, **view).result
    assert image.shape == (2, 24, 48, 3) and torch.equal(image, expected) and camera == taken
    back = node_classes["PanoDiff_PastePerspective"].execute(
        panorama=batch, image=image, camera=camera, feather_deg=3.0
    )
    assert torch.equal(back.result[0], batch)  # nothing was edited


def test_painted_strokes_become_a_mask(node_classes, panorama) -> None:
    from panodiff_core.geometry import mask_from_strokes

    node = node_classes["PanoDiff_ViewPanorama"]
    assert not node.execute(panorama=panorama).result[2].any()
    text = (
        '{"version": 1, "strokes": [{"mode": "paint", "radius_deg": 20, "points": [[175, 0], [-160, 30]]}]}'
    )
    mask = node.execute(panorama=panorama, mask_strokes=text).result[2]
    assert mask.shape == (1, 32, 64) and torch.equal(mask, mask_from_strokes(text, 32)[:, 0])
    assert mask[0, 15, -1] == 1 and mask[0, 15, 0] == 1 and mask[0, 15, 32] == 0  # across the seam


def test_broken_strokes_are_refused_before_anything_is_written(node_classes, comfyui, panorama) -> None:
    before = sorted((comfyui / "temp").rglob("*"))
    with pytest.raises(ValueError, match=r"strokes\[0\]: points is missing"):
        node_classes["PanoDiff_ViewPanorama"].execute(
            panorama=panorama,
            mask_strokes='{"version": 1, "strokes": [{"mode": "paint", "radius_deg": 2}]}',
        )
    with pytest.raises(ValueError, match="clear the mask and paint it again"):
        node_classes["PanoDiff_ViewPanorama"].execute(panorama=panorama, mask_strokes="{")
    assert sorted((comfyui / "temp").rglob("*")) == before


def test_cubemaps_are_shown_from_their_faces(node_classes, comfyui, panorama) -> None:
    (faces,) = (
        node_classes["PanoDiff_ConvertPanoramaToCubemap"]
        .execute(panorama=torch.cat([panorama, 1 - panorama]), face_size=16)
        .result
    )
    shown = node_classes["PanoDiff_ViewCubemap"].execute(faces=faces).ui["panodiff_panorama"]
    assert [(one["kind"], one["width"], one["height"]) for one in shown] == [("cubemap", 48, 32)] * 2
    for cube, entry in enumerate(shown):
        with Image.open(saved_file(comfyui, entry)) as image:
            for face in range(6):  # front, right, back above left, up, down
                corner = (16 * (face % 3) + 5, 16 * (face // 3) + 7)
                pixel = torch.tensor(image.getpixel(corner)) / 255
                assert torch.allclose(pixel, faces[6 * cube + face, 7, 5], atol=0.003), (cube, face)
    with pytest.raises(ValueError, match="this batch has 5"):
        node_classes["PanoDiff_ViewCubemap"].execute(faces=faces[:5])


def test_videos_travel_as_files(node_classes, comfyui) -> None:
    av = pytest.importorskip("av")
    from fractions import Fraction

    from comfy_api.latest import InputImpl, Types

    images = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 32, 64, 3)
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=Fraction(10)))
    (entry,) = node_classes["PanoDiff_ViewVideo"].execute(video=video).ui["panodiff_panorama"]
    assert (entry["kind"], entry["type"], entry["width"], entry["height"]) == ("video", "temp", 64, 32)
    with av.open(str(saved_file(comfyui, entry))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
