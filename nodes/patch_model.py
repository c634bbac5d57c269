"""Patch Model for 360."""

from __future__ import annotations

from comfy.model_sampling import CONST, ModelSamplingFlux
from comfy_api.v0_0_2 import io

from ..panodiff_core.engines.dit360.config import MU_RULES, ROLLS
from .flux_ring import FluxRing
from .flux_shift import (
    HEIGHT,
    HEIGHT_TIP,
    LATENT_PIXELS,
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
from .schema import ADVANCED, MODEL_DEFAULT, node_schema


class PanoramaSampling(ModelSamplingFlux, CONST):
    """FLUX's noise levels with a shift of our own."""


class PatchModel(io.ComfyNode):
    """MODEL -> MODEL whose network sees the panorama as a ring. The MODEL that comes in stays as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_PatchModel",
            display_name="Patch Model for 360",
            category="PanoDiff/Native",
            description="Lets a FLUX.1-dev that ComfyUI loaded see the panorama as a ring, as DiT360 does. Works with any "
            "sampler, LoRA and ControlNet.",
            search_aliases=("circular padding", "seamless", "FLUX", "DiT360", "tiling"),
            inputs=[
                io.Model.Input("model", tooltip="FLUX.1-dev or a model made from it, from any loader, usually with the DiT360 "
                               "LoRA applied."),
                io.Int.Input("width", default=WIDTH, min=WIDTH_STEP, max=MAX_WIDTH, step=WIDTH_STEP,
                             tooltip=WIDTH_TIP + " The noise levels are shifted for this size."),
                io.Int.Input("height", default=HEIGHT, min=WIDTH_STEP // 2, max=MAX_WIDTH // 2, step=WIDTH_STEP // 2,
                             tooltip=HEIGHT_TIP),
                io.Int.Input("padding", default=1, min=0, max=MAX_PADDING,
                             tooltip="How many token columns (16 pixels each) of the opposite end the network sees at either "
                             "end. DiT360 was trained with 1. 0: none."),
                io.Combo.Input("roll", options=list(ROLLS), default="off",
                               tooltip="Turns the panorama before each step, so that its ends do not always meet at the same "
                               "place: not at all, by half in turn (alternate), the same in the second half of the steps "
                               "only, which keeps left and right of the prompt (late), or by chance from the sampler's "
                               "seed (random)."),
                io.Combo.Input("shift", options=[*SHIFTS, MODEL_DEFAULT], default=MU_RULES[0], optional=True,
                               extra_dict=ADVANCED,
                               tooltip=SHIFT_TIP[:-1] + ", or not at all (model default), which also leaves a "
                               "ModelSamplingFlux node before this one in force."),
                io.Float.Input("mu", default=1.15, min=-10.0, max=60.0, step=0.01, optional=True, extra_dict=ADVANCED,
                               tooltip=MU_TIP),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="For any sampler and for schedulers that ask for a "
                                "MODEL.")
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, width: int | None = None, height: int | None = None) -> bool | str:
        return size_problem(width, height)

    @classmethod
    def execute(cls, model, width, height, padding, roll, shift=MU_RULES[0], mu=1.15) -> io.NodeOutput:
        require_size(width, height)
        by_size = shift in MU_RULES
        patched = model.clone()
        FluxRing(
            padding, roll, (height // LATENT_PIXELS, width // LATENT_PIXELS) if by_size else None
        ).install(patched)
        if shift != MODEL_DEFAULT:
            sampling = PanoramaSampling(model.model.model_config)
            sampling.set_parameters(shift=shift_exponent(shift, mu, width, height, padding))
            patched.add_object_patch("model_sampling", sampling)
        return io.NodeOutput(patched)
