"""Upscale Panorama."""

from __future__ import annotations

from comfy import model_management
from comfy_api.v0_0_2 import io

from ..panodiff_core.conditioning.text import TextCondition
from ..panodiff_core.engines.dit360.upscale import FACTORS, STRENGTH
from .engines import require_condition, require_engine
from .progress import TileReporter
from .schema import Condition, Engine, Latents, memory_input, node_schema


class UpscalePanorama(io.ComfyNode):
    """Latents -> latents of 2 or 4 times the size, by a second pass in tiles that wrap around the ring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_UpscalePanorama",
            display_name="Upscale Panorama",
            category="PanoDiff/Generate",
            description="Makes a panorama 2 or 4 times as large and paints the detail, in tiles that wrap around the back.",
            search_aliases=("8k", "4k", "enlarge", "tiled upscale", "hires fix", "super resolution"),
            hidden=[io.Hidden.unique_id],
            inputs=[
                Engine.Input("engine", tooltip="From a load node."),
                Condition.Input("condition", tooltip="What the panorama shows, from Encode Prompt with the same engine."),
                Latents.Input("latents", tooltip="The panorama to enlarge, from a Sample node or Encode Panorama."),
                io.Combo.Input("factor", options=[str(factor) for factor in FACTORS], default=str(FACTORS[0]),
                               tooltip="How many times as wide and as high it becomes."),
                io.Float.Input("strength", default=STRENGTH, min=0.01, max=1.0, step=0.01,
                               tooltip="How much is made anew: of the steps only this part runs. Low keeps the panorama, high "
                               "paints more detail and may change it."),
                io.Int.Input("steps", default=0, min=0, max=1000,
                             tooltip="Sampling steps at strength 1. 0: the model's own number."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="Start of the noise."),
                memory_input(),
                io.Float.Input("guidance", default=0.0, min=0.0, max=30.0, step=0.1, optional=True,
                               tooltip="Distilled guidance, as in Sample DiT360. 0: the model's own value."),
                io.Float.Input("cfg", default=0.0, min=0.0, max=30.0, step=0.1, optional=True,
                               tooltip="True guidance, as in Sample DiT360: give what the panorama was made with. 0: the "
                               "model's own value."),
            ],
            outputs=[Latents.Output("latents", display_name="latents", tooltip="For Decode Panorama.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, engine, condition, latents, factor, strength, steps, seed, memory_gb=0.0, guidance=0.0, cfg=0.0
    ) -> io.NodeOutput:
        require_engine(engine, "dit360", "Upscale Panorama")
        require_condition(condition, TextCondition, engine)
        report = TileReporter(engine, cls.hidden.unique_id if cls.hidden else None)
        result = engine.upscale(
            latents.cpu(),
            condition,
            factor=int(factor),
            strength=strength,
            steps=steps or None,
            seed=seed,
            memory_gb=memory_gb or None,
            guidance=guidance or None,
            cfg=cfg or None,
            on_step=report.on_step,
            on_tile=report.on_tile,
        )
        return io.NodeOutput(result.to(model_management.intermediate_device()))
