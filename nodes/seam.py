"""Seam Report."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..panodiff_core import Panorama, seam_report
from .pictures import require_panorama, to_rgb
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


class ReportSeam(io.ComfyNode):
    """Panorama -> seam figures, as numbers to compute with and as text on the node."""

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
                )
            ],
            outputs=[
                io.String.Output(
                    "report", display_name="report", tooltip="The text that is shown on the node."
                ),
                *(io.Float.Output(name, display_name=name, tooltip=tip) for name, tip in NUMBERS.items()),
            ],
        )

    @classmethod
    def execute(cls, panorama) -> io.NodeOutput:
        require_panorama(panorama)
        report = seam_report(Panorama(to_rgb(panorama)))
        text = report.summary()
        numbers = [float(getattr(report, name)) for name in NUMBERS]
        return io.NodeOutput(text, *numbers, ui=ui.PreviewText(text))
