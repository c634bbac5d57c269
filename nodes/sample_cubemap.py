"""Sample Cubemap."""

from __future__ import annotations

from comfy import model_management
from comfy_api.v0_0_2 import io

from ..panodiff_core.engines.star.config import CROSS_ATTENTION
from ..panodiff_core.engines.star.masked_steps import VERSIONS
from ..panodiff_core.runtime.errors import InputError
from .engines import require_condition, require_engine
from .progress import step_reporter
from .sample import chosen
from .schema import ADVANCED, MODEL_DEFAULT, SWITCH, Condition, Engine, Latents, node_schema

MODEL_OWN = -1
"""The number that leaves a setting to the model; 0 switches these settings off."""


class SampleCubemap(io.ComfyNode):
    """Condition -> latents of the six faces, with progress, preview and cancel after every scale and sampler step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_SampleCubemap",
            display_name="Sample Cubemap",
            category="PanoDiff/Generate",
            description="Makes the latents of the six faces of a cube from a condition, all faces together.",
            search_aliases=("KSampler", "generate cubemap", "STAR", "FaceRay"),
            hidden=[io.Hidden.unique_id],
            inputs=[
                Engine.Input("engine", tooltip="From Load STAR."),
                Condition.Input("condition", tooltip="From Encode Prompt or Encode Face Prompts with the same engine."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="Start of the random numbers, which are the same on every device. Cube i of a batch has "
                             "those of seed + i."),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="How many cubes to make at once."),
                io.Float.Input("cfg", default=MODEL_OWN, min=MODEL_OWN, max=100.0, step=0.1,
                               tooltip="Guidance, growing from 0 at the coarsest scale to this at the finest. 0 is off and "
                               "halves the work. -1: the model's own value."),
                io.Combo.Input("sampler", options=[MODEL_DEFAULT, *VERSIONS], default=MODEL_DEFAULT,
                               tooltip="How the finest scales are drawn: in one pass (off), or in 8 to 15 steps by the masked "
                               "sampler, where the model has one: as published (1024), or by the sampler alone (new)."),
                io.Float.Input("adapter_strength", default=1.0, min=0.0, max=4.0, step=0.05,
                               tooltip="How much the faces learn of one another across the edges (FaceRay): 1 is as trained, "
                               "0 is off. A model without adapters takes 0 or 1 only."),
                io.Int.Input("top_k", default=MODEL_OWN, min=MODEL_OWN, max=65536, optional=True, extra_dict=ADVANCED,
                             tooltip="Each code is drawn from so many of the likeliest. 1 takes the likeliest, 0 keeps all. "
                             "-1: the model's own value."),
                io.Float.Input("top_p", default=MODEL_OWN, min=MODEL_OWN, max=1.0, step=0.01, optional=True,
                               extra_dict=ADVANCED,
                               tooltip="Each code is drawn from the likeliest ones that together have this probability. 0 keeps "
                               "all. -1: the model's own value."),
                io.Combo.Input("more_smooth", options=list(SWITCH), default=MODEL_DEFAULT, optional=True,
                               extra_dict=ADVANCED,
                               tooltip="Mix codes by their probabilities instead of drawing single ones: smoother pictures, "
                               "for looking at."),
                io.Combo.Input("cross_attention", options=[MODEL_DEFAULT, *CROSS_ATTENTION], default=MODEL_DEFAULT,
                               optional=True, extra_dict=ADVANCED,
                               tooltip="Which text a face hears: its own (per_row), the prompt's in both halves of guidance "
                               "(cond_shared, as STAR makes one picture), or the first one's for all (row0). A model with "
                               "adapters has its own."),
            ],
            outputs=[Latents.Output("latents", display_name="latents",
                                    tooltip="For Decode Cubemap or Decode Panorama.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, engine, condition, seed, batch_size, cfg, sampler, adapter_strength,
        top_k=MODEL_OWN, top_p=MODEL_OWN, more_smooth=MODEL_DEFAULT, cross_attention=MODEL_DEFAULT,
    ) -> io.NodeOutput:  # fmt: skip
        # Here and not at the top, since it brings all of the model, for which ComfyUI's start need not wait.
        from ..panodiff_core.engines.star.condition import StarCondition

        require_engine(engine, "star", "Sample Cubemap")
        require_condition(condition, StarCondition, engine)
        result = engine.sample(
            condition,
            seed=seed,
            batch_size=batch_size,
            adapter_strength=adapter_strength,
            on_step=step_reporter(engine, cls.hidden.unique_id if cls.hidden else None),
            cfg=_own("cfg", cfg),
            top_k=_own("top_k", top_k),
            top_p=_own("top_p", top_p),
            more_smooth=SWITCH[more_smooth],
            sampler=chosen(sampler),
            cross_attention=chosen(cross_attention),
        )
        return io.NodeOutput(result.to(model_management.intermediate_device()))


def _own(name: str, number: float) -> float | None:
    """A widget's number as the engine takes it: None for the model's own.

    Raises InputError for another number below 0, since the engine knows nothing of -1 and could not offer it.
    """
    if number == MODEL_OWN:
        return None
    if number < 0:
        raise InputError(f"{name} is {number:g}: set {MODEL_OWN} for the model's own value, or 0 or more")
    return number
