"""Panorama Sigmas."""

from __future__ import annotations

import torch
from comfy_api.v0_0_2 import io

from ..panodiff_core.engines.dit360.config import MU_RULES
from ..panodiff_core.schedulers.flow_matching import GRIDS, FlowMatchScheduler
from .flux_shift import (
    HEIGHT,
    HEIGHT_TIP,
    MAX_PADDING,
    MAX_WIDTH,
    MU_TIP,
    SHIFT_TIP,
    SHIFTS,
    WIDTH,
    WIDTH_STEP,
    WIDTH_TIP,
    require_size,
    shift_exponent,
    size_problem,
)
from .schema import ADVANCED, node_schema


class PanoramaSigmas(io.ComfyNode):
    """Steps and size -> the noise levels that DiT360's own sampler uses."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_PanoramaSigmas",
            display_name="Panorama Sigmas",
            category="PanoDiff/Native",
            description="The noise levels of DiT360 for a panorama of this size, for samplers that take SIGMAS.",
            search_aliases=("scheduler", "FLUX shift", "noise schedule"),
            inputs=[
                io.Int.Input("steps", default=28, min=1, max=1000, tooltip="Sampling steps."),
                io.Int.Input("width", default=WIDTH, min=WIDTH_STEP, max=MAX_WIDTH, step=WIDTH_STEP, tooltip=WIDTH_TIP),
                io.Int.Input("height", default=HEIGHT, min=WIDTH_STEP // 2, max=MAX_WIDTH // 2, step=WIDTH_STEP // 2,
                             tooltip=HEIGHT_TIP),
                io.Float.Input("denoise", default=1.0, min=0.01, max=1.0, step=0.01,
                               tooltip="Below 1 starts from a picture: of a longer schedule of steps / denoise only the last "
                               "steps are taken, as ComfyUI's own schedulers do."),
                io.Int.Input("padding", default=1, min=0, max=MAX_PADDING, optional=True, extra_dict=ADVANCED,
                             tooltip="The padding of Patch Model for 360; with shift = padded the noise levels depend on it."),
                io.Combo.Input("shift", options=list(SHIFTS), default=MU_RULES[0], optional=True, extra_dict=ADVANCED,
                               tooltip=SHIFT_TIP),
                io.Float.Input("mu", default=1.15, min=-10.0, max=60.0, step=0.01, optional=True, extra_dict=ADVANCED,
                               tooltip=MU_TIP),
                io.Combo.Input("grid", options=list(GRIDS), default=GRIDS[0], optional=True, extra_dict=ADVANCED,
                               tooltip="Spacing of the noise levels before the shift. linear is what FLUX was trained for."),
            ],
            outputs=[io.Sigmas.Output("sigmas", display_name="sigmas", tooltip="For SamplerCustom and the like.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, width: int | None = None, height: int | None = None) -> bool | str:
        return size_problem(width, height)

    @classmethod
    def execute(
        cls, steps, width, height, denoise, padding=1, shift=MU_RULES[0], mu=1.15, grid=GRIDS[0]
    ) -> io.NodeOutput:
        require_size(width, height)
        scheduler = FlowMatchScheduler()
        total = max(steps, int(steps / denoise))
        scheduler.set_timesteps(total, shift_exponent(shift, mu, width, height, padding), grid)
        sigmas: torch.Tensor = scheduler.sigmas[-(steps + 1) :].clone()
        return io.NodeOutput(sigmas)
