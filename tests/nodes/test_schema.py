"""Every node is complete: ids, texts, help page, locale entries, and the same schema for old and new ComfyUI."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.comfyui

IDS = {
    "PanoDiff_LoadDiT360",
    "PanoDiff_LoadDiT360Files",
    "PanoDiff_LoadSTAR",
    "PanoDiff_EncodePrompt",
    "PanoDiff_EncodeFacePrompts",
    "PanoDiff_EncodePanorama",
    "PanoDiff_SampleDiT360",
    "PanoDiff_SampleCubemap",
    "PanoDiff_UpscalePanorama",
    "PanoDiff_DecodePanorama",
    "PanoDiff_DecodeCubemap",
    "PanoDiff_PatchModel",
    "PanoDiff_PatchVAE",
    "PanoDiff_EmptyPanoramaLatent",
    "PanoDiff_PanoramaSigmas",
    "PanoDiff_ReportSeam",
    "PanoDiff_ReportCubeSeams",
    "PanoDiff_RotatePanorama",
    "PanoDiff_ConvertPanoramaToCubemap",
    "PanoDiff_ConvertCubemapToPanorama",
    "PanoDiff_ExtractPerspective",
    "PanoDiff_PastePerspective",
    "PanoDiff_SavePanorama",
    "PanoDiff_ViewPanorama",
    "PanoDiff_ViewCubemap",
    "PanoDiff_ViewVideo",
}
LOCALE = ROOT / "locales" / "en"


@pytest.fixture(scope="module")
def schemas(node_classes) -> dict:
    return {node_id: node.GET_SCHEMA() for node_id, node in node_classes.items()}


def test_ids_never_change(schemas) -> None:
    assert set(schemas) == IDS
    assert all(re.fullmatch(r"PanoDiff_[A-Z][a-z]+[A-Z]\w+", node_id) for node_id in schemas)


def test_every_node_explains_itself(schemas) -> None:
    for node_id, schema in schemas.items():
        assert schema.display_name and schema.description, node_id
        assert schema.category.startswith("PanoDiff/"), node_id
        for item in [*schema.inputs, *schema.outputs]:
            assert item.tooltip and item.tooltip.rstrip().endswith("."), f"{node_id}.{item.id}"


def test_optional_inputs_come_last(schemas) -> None:
    for node_id, schema in schemas.items():
        flags = [bool(item.optional) for item in schema.inputs]
        assert flags == sorted(flags), node_id


def test_view_for_old_interfaces_is_whole(node_classes) -> None:
    for node_id, node in node_classes.items():
        assert node.INPUT_TYPES()["required"], node_id
        assert node.FUNCTION and node.CATEGORY.startswith("PanoDiff/"), node_id


def test_every_node_has_a_help_page_that_names_its_inputs(schemas) -> None:
    pages = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}
    assert pages == set(schemas)
    for node_id, schema in schemas.items():
        page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {schema.display_name}\n"), node_id
        missing = [item.id for item in schema.inputs if f"**{item.id}**" not in page]
        assert not missing, f"{node_id}: {missing}"


def test_locale_has_every_text(schemas) -> None:
    texts = json.loads((LOCALE / "nodeDefs.json").read_text(encoding="utf-8"))
    expected = {}
    for node_id, schema in schemas.items():
        entry = {"display_name": schema.display_name, "description": schema.description}
        entry["inputs"] = {
            i.id: {"name": i.display_name or i.id, "tooltip": i.tooltip} for i in schema.inputs
        }
        if schema.outputs:
            entry["outputs"] = {
                str(index): {"name": item.display_name, "tooltip": item.tooltip}
                for index, item in enumerate(schema.outputs)
            }
        expected[node_id] = entry
    assert texts == expected


def test_locale_names_categories_and_sockets(schemas) -> None:
    texts = json.loads((LOCALE / "main.json").read_text(encoding="utf-8"))
    parts = {part for schema in schemas.values() for part in schema.category.split("/")}
    assert set(texts["nodeCategories"]) == parts
    sockets = {
        item.get_io_type() for schema in schemas.values() for item in [*schema.inputs, *schema.outputs]
    }
    assert set(texts["dataTypes"]) == {name for name in sockets if name.startswith("PANODIFF_")}


def test_only_known_schema_fields_are_passed_on(extension) -> None:
    from custom_nodes_PanoDiff_x_1.nodes.schema import node_schema

    schema = node_schema(
        node_id="x", category="PanoDiff/Test", a_field_of_the_future=True, search_aliases=("y",)
    )
    assert schema.node_id == "x" and not hasattr(schema, "a_field_of_the_future")
