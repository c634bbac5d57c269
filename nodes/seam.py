"""Seam Report and Cube Seam Report."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..panodiff_core import CubeFaces, Panorama, seam_report
from ..panodiff_core.geometry import FACES
from ..panodiff_core.metrics.seams import CUT
from .pictures import require_cubemap, require_panorama, to_rgb
from .schema import node_schema

NUMBERS = {
    "ratio_1": "Difference across the wrap divided by the difference of neighbouring columns. 1 is ideal, more is a "
    "visible seam, far less is blur.",
    "ratio_2": "The same at a distance of 2 pixels.",
    "ratio_8": "The same at a distance of 8 pixels.",
    "ratio_16": "The same at a distance of 16 pixels.",
    "wrap_rank": "Fraction of columns whose step is smaller than the step at the wrap. Near 1: the wrap stands out.",
    "pole_variance_top": "Variance along the top row, which is one point of the sphere. 0 is ideal.",
    "pole_variance_bottom": "Variance along the bottom row. 0 is ideal.",
}
CUBE_NUMBERS = {
    "ratio_1": "Difference across an edge divided by the difference of neighbouring pixels beside it, mean of the 12 "
    "edges. 1 is ideal, more is a visible seam, far less is blur.",
    **{name: NUMBERS[name] for name in ("ratio_2", "ratio_8", "ratio_16")},
    "largest": "ratio_1 of the edge where it is largest.",
}


class ReportSeam(io.ComfyNode):
    """Panorama -> seam figures, as numbers to compute with and as text on the node, and whether they pass.

    The verdict is for automation, too: it goes to the queue's history, where scripts read it without a wire.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_ReportSeam",
            display_name="Seam Report",
            category="PanoDiff/Check",
            description="Measures how well a panorama closes at the back and at the poles.",
            search_aliases=("seam", "wrap", "tileable check"),
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "panorama", tooltip="Equirectangular picture, width = 2 × height. A batch is averaged."
                ),
                io.Float.Input(
                    "threshold",
                    default=CUT,
                    min=0.0,
                    max=1000.0,
                    step=0.05,
                    optional=True,
                    tooltip="The largest ratio_1 that passes. A seam fails only if its step is also among the largest 5 % of all "
                    "columns.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "report", display_name="report", tooltip="The text that is shown on the node."
                ),
                *(io.Float.Output(name, display_name=name, tooltip=tip) for name, tip in NUMBERS.items()),
                io.Boolean.Output(
                    "passed",
                    display_name="passed",
                    tooltip="Whether no picture of the batch shows a step at the seam.",
                ),
                io.Float.Output(
                    "worst_ratio",
                    display_name="worst_ratio",
                    tooltip="ratio_1 of the picture where it is largest.",
                ),
            ],
        )

    @classmethod
    def execute(cls, panorama, threshold=CUT) -> io.NodeOutput:
        require_panorama(panorama)
        report = seam_report(Panorama(to_rgb(panorama)))
        passed = not bool(report.cuts(threshold).any())
        text = (
            f"{report.summary(threshold)}\n{'Passed' if passed else 'Failed'} with threshold {threshold:g}."
        )
        numbers = [float(getattr(report, name)) for name in NUMBERS]
        worst = float(report.per_picture["ratio_1"].max())
        shown = {"text": (text,), "passed": (passed,)}
        return io.NodeOutput(text, *numbers, passed, worst, ui=shown)


class ReportCubeSeams(io.ComfyNode):
    """Cube faces [6B,S,S,C] -> seam figures of the 12 edges, as numbers to compute with and as text on the node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_ReportCubeSeams",
            display_name="Cube Seam Report",
            category="PanoDiff/Check",
            description="Measures how well the six faces of a cube meet at its 12 edges.",
            search_aliases=("seam", "cubemap", "skybox check"),
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "faces",
                    tooltip="Six square pictures per cube, of at least 32 pixels: front, right, back, left, up, down. Several "
                    "cubes are averaged.",
                )
            ],
            outputs=[
                io.String.Output(
                    "report", display_name="report", tooltip="The text that is shown on the node."
                ),
                *(
                    io.Float.Output(name, display_name=name, tooltip=tip)
                    for name, tip in CUBE_NUMBERS.items()
                ),
            ],
        )

    @classmethod
    def execute(cls, faces) -> io.NodeOutput:
        require_cubemap(faces)
        report = seam_report(CubeFaces(to_rgb(faces).unflatten(0, (-1, len(FACES)))))
        edges = {name: float(ratios.mean()) for name, ratios in report.edges.items()}
        lines = [report.summary(), "  ".join(f"{name} {ratio:.2f}" for name, ratio in edges.items())]
        numbers = [float(getattr(report, f"ratio_{distance}")) for distance in (1, 2, 8, 16)]
        text = "\n".join(lines)
        return io.NodeOutput(text, *numbers, max(edges.values()), ui=ui.PreviewText(text))
