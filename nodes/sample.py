"""Sample DiT360."""

from __future__ import annotations

import comfy.utils
from comfy import model_management
from comfy_api.v0_0_2 import io
from PIL import Image

from ..panodiff_core.engines.dit360.config import MU_RULES, ROLLS
from ..panodiff_core.io.images import to_bytes_image
from ..panodiff_core.runtime.errors import InputError
from ..panodiff_core.runtime.progress import Step
from ..panodiff_core.schedulers.flow_matching import GRIDS, SOLVERS
from .schema import ADVANCED, MODEL_DEFAULT, Condition, Engine, Latents, node_schema

PREVIEW_PIXELS = 512
MAX_WIDTH = 16384


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
                             tooltip="How many panoramas to make at once, from one seed."),
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
                io.Combo.Input("shift", options=[MODEL_DEFAULT, *MU_RULES], default=MODEL_DEFAULT, optional=True,
                               extra_dict=ADVANCED,
                               tooltip="Whether the padding columns count when the noise levels are shifted with the size "
                               "of the picture. padded is what DiT360 does."),
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
    ) -> io.NodeOutput:  # fmt: skip
        problem = check_size(width, height)
        if problem:
            raise InputError(problem)
        latents = engine.sample(
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
            mu=chosen(shift),
        )
        return io.NodeOutput(latents.to(model_management.intermediate_device()))


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


def step_reporter(engine, node_id: str | None):
    """An `on_step` that moves ComfyUI's progress bar, shows the picture so far, and stops when the user cancels."""
    bar = None

    def report(step: Step) -> None:
        nonlocal bar
        model_management.throw_exception_if_processing_interrupted()
        if bar is None:
            bar = comfy.utils.ProgressBar(step.total, node_id=node_id)
        bar.update_absolute(step.index, step.total, ("JPEG", preview_image(engine, step), PREVIEW_PIXELS))

    return report


def preview_image(engine, step: Step) -> Image.Image:
    """The first panorama of the batch as the network now expects it, small."""
    picture = to_bytes_image(engine.preview(step.denoised[:1])[0])
    scale = PREVIEW_PIXELS / picture.width
    return picture.resize((PREVIEW_PIXELS, round(picture.height * scale)), Image.Resampling.BICUBIC)
