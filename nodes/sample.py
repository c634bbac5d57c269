"""Sample DiT360."""

from __future__ import annotations

from comfy import model_management
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..panodiff_core.autoencoders.masks import latent_mask
from ..panodiff_core.conditioning.text import TextCondition
from ..panodiff_core.engines.dit360.config import ROLLS
from ..panodiff_core.engines.dit360.presets import PRESETS
from ..panodiff_core.runtime.errors import InputError
from ..panodiff_core.schedulers.flow_matching import GRIDS, SOLVERS
from .engines import require_condition, require_engine
from .flux_shift import FIXED, MU_TIP, SHIFT_TIP, SHIFTS
from .progress import step_reporter
from .schema import ADVANCED, MODEL_DEFAULT, Condition, Engine, Latents, node_schema

MAX_WIDTH = 16384
PRESET_NAMES = [name for name, preset in PRESETS.items() if preset.upscale == 1]
"""The others stand for a second pass as well, which is a node of its own."""


class SampleDiT360(io.ComfyNode):
    """Condition -> latents, with progress, preview and cancel after every step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_SampleDiT360",
            display_name="Sample DiT360",
            category="PanoDiff/Generate",
            description="Makes the latents of a panorama from a condition.",
            search_aliases=("KSampler", "generate panorama"),
            hidden=[io.Hidden.unique_id],
            inputs=[
                Engine.Input("engine", tooltip="From Load DiT360."),
                Condition.Input("condition", tooltip="From Encode Prompt with the same engine."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="Start of the noise. The same seed gives the same noise as ComfyUI's own samplers, "
                             "on every device."),
                io.Int.Input("width", default=0, min=0, max=MAX_WIDTH, step=16,
                             tooltip="Width of the panorama in pixels, twice the height. 0: the model's own size."),
                io.Int.Input("height", default=0, min=0, max=MAX_WIDTH // 2, step=16,
                             tooltip="Height of the panorama in pixels, half the width. 0: the model's own size."),
                io.Int.Input("steps", default=0, min=0, max=1000,
                             tooltip="Sampling steps. 0: the model's own number."),
                io.Float.Input("guidance", default=0.0, min=0.0, max=30.0, step=0.1,
                               tooltip="Distilled guidance, a number that the model was trained to read. 0: the model's "
                               "own value."),
                io.Float.Input("cfg", default=0.0, min=0.0, max=30.0, step=0.1,
                               tooltip="True guidance against the negative prompt: 1 is off, above 1 takes twice the "
                               "time. 0: the model's own value."),
                io.Int.Input("batch_size", default=1, min=1, max=64,
                             tooltip="How many panoramas to make at once, from one seed. 1: as many as there are in latents."),
                io.Int.Input("padding", default=-1, min=-1, max=16, optional=True, extra_dict=ADVANCED,
                             tooltip="Circular padding: how many token columns of the opposite end the network sees at "
                             "either end. 0: none. -1: what the model was trained with."),
                io.Combo.Input("roll", options=[MODEL_DEFAULT, *ROLLS], default=MODEL_DEFAULT, optional=True,
                               extra_dict=ADVANCED,
                               tooltip="Turns the panorama before each step, so that its ends do not always meet at the "
                               "same place: not at all, by half in turn (alternate), the same in the second half of the "
                               "steps only, which keeps left and right of the prompt (late), or by chance (random)."),
                io.Combo.Input("solver", options=[MODEL_DEFAULT, *SOLVERS], default=MODEL_DEFAULT, optional=True,
                               extra_dict=ADVANCED,
                               tooltip="How a step is integrated. heun is more exact and takes two network calls per step."),
                io.Combo.Input("grid", options=[MODEL_DEFAULT, *GRIDS], default=MODEL_DEFAULT, optional=True,
                               extra_dict=ADVANCED,
                               tooltip="Spacing of the noise levels. linear is what FLUX was trained for."),
                io.Combo.Input("shift", options=[MODEL_DEFAULT, *SHIFTS], default=MODEL_DEFAULT, optional=True,
                               extra_dict=ADVANCED,
                               tooltip=SHIFT_TIP),
                Latents.Input("latents", optional=True,
                              tooltip="A panorama to start from instead of noise alone, from Encode Panorama or another Sample "
                              "node. It gives the size when width and height are 0."),
                io.Float.Input("strength", default=1.0, min=0.01, max=1.0, step=0.01, optional=True,
                               tooltip="How much of the panorama in latents is made anew: of the steps only this part runs. "
                               "1: all of it, only a mask keeps something."),
                io.Mask.Input("mask", optional=True,
                              tooltip="Which places of the panorama in latents are made anew: white is, black stays as it is. "
                              "For the whole panorama, in any size twice as wide as high; it may cross the back."),
                io.Combo.Input("preset", options=[MODEL_DEFAULT, *PRESET_NAMES], default=MODEL_DEFAULT, optional=True,
                               extra_dict=ADVANCED,
                               tooltip="Size, steps and roll by name: draft for a quick look, balanced, best for the most "
                               "careful one. Whatever is set in this node beside it wins."),
                io.Float.Input("step_cache", default=0.0, min=0.0, max=1.0, step=0.01, optional=True, extra_dict=ADVANCED,
                               tooltip="Skips most of the network where its first block has changed by no more than this "
                               "share since the last full step. 0: never. 0.1 saves about a third; above 0.2 the seam "
                               "suffers. Not with roll random."),
                io.Float.Input("mu", default=1.865, min=-10.0, max=60.0, step=0.01, optional=True, extra_dict=ADVANCED,
                               tooltip=MU_TIP),
            ],
            outputs=[Latents.Output("latents", display_name="latents", tooltip="For Decode Panorama.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, width: int | None = None, height: int | None = None) -> bool | str:
        # None means that the number comes from another node; the engine sees it later.
        if width is None or height is None:
            return True
        return check_size(width, height) or True

    @classmethod
    def execute(
        cls, engine, condition, seed, width, height, steps, guidance, cfg, batch_size,
        padding=-1, roll=MODEL_DEFAULT, solver=MODEL_DEFAULT, grid=MODEL_DEFAULT, shift=MODEL_DEFAULT,
        latents=None, strength=1.0, mask=None, preset=MODEL_DEFAULT, step_cache=0.0,
        mu=1.865,
    ) -> io.NodeOutput:  # fmt: skip
        require_engine(engine, "dit360", "Sample DiT360")
        require_condition(condition, TextCondition, engine)
        problem = check_size(width, height)
        if problem:
            raise InputError(problem)
        if latents is not None and batch_size == 1:
            batch_size = max(
                1, len(latents) // condition.batch
            )  # as many as there are, like ComfyUI's samplers
        result = engine.sample(
            condition,
            seed=seed,
            batch_size=batch_size,
            on_step=step_reporter(engine, cls.hidden.unique_id if cls.hidden else None),
            height=height or None,
            width=width or None,
            steps=steps or None,
            guidance=guidance or None,
            cfg=cfg or None,
            padding=None if padding < 0 else padding,
            roll=chosen(roll),
            solver=chosen(solver),
            grid=chosen(grid),
            mu=mu if shift == FIXED else chosen(shift),
            image_latents=latents,
            strength=strength,
            mask=None if mask is None else fitted_mask(mask, latents),
            preset=chosen(preset),
            step_cache=step_cache or None,
        )
        return io.NodeOutput(result.to(model_management.intermediate_device()))


def fitted_mask(mask: Tensor, latents: Tensor | None) -> Tensor:
    """A MASK [B,H,W] or [H,W] as the engine takes it, [B,1,h,w] for `latents` [B,C,h,w]."""
    if latents is None:
        raise InputError(
            "a mask says which places of a panorama are made anew, and there is none: connect latents, from Encode "
            "Panorama or another Sample node, or take the mask off"
        )
    return latent_mask((mask[None] if mask.ndim == 2 else mask).cpu(), *latents.shape[2:])


def chosen(choice: str) -> str | None:
    """A widget's choice as the engine takes it: None for the model's default."""
    return None if choice == MODEL_DEFAULT else choice


def check_size(width: int, height: int) -> str | None:
    """What is wrong with a size in pixels, None if nothing is. 0 × 0 stands for the model's own size."""
    if width < 0 or height < 0 or width > MAX_WIDTH:
        return (
            f"width {width} and height {height} are out of range: 0 x 0 up to {MAX_WIDTH} x {MAX_WIDTH // 2}"
        )
    if width != 2 * height:
        return (
            f"width {width} is not 2 × height {height}: set {2 * height} x {height} or {width} x {width // 2}, "
            "or 0 x 0 for the model's own size"
        )
    return None
