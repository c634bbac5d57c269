"""Load STAR."""

from __future__ import annotations

from comfy import model_management
from comfy_api.v0_0_2 import io, ui

from ..panodiff_core import load
from ..panodiff_core.engines.star.presets import PRESETS
from ..panodiff_core.engines.star.sources import where_to_get
from ..panodiff_core.runtime.errors import CheckpointError
from .attention import comfy_attention
from .load import DTYPES
from .placement import ComfyPlacement
from .schema import ADVANCED, Engine, node_schema
from .star_models import (
    BUNDLED,
    FROM_MODEL,
    star_choices,
    star_path,
    text_choices,
    text_path,
    vqvae_choices,
    vqvae_path,
)

AUTO = "auto"
SAME = "same as dtype"
STORAGE = {SAME: "dtype", "float8_e4m3fn": "float8_e4m3fn"}


class LoadSTAR(io.ComfyNode):
    """Model folder or published weight file -> engine. Weights move later, through ComfyUI's model management."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_LoadSTAR",
            display_name="Load STAR",
            category="PanoDiff/Load",
            description="Loads the STAR engine, text to the six faces of a cube: the bundled small model, a model folder, or the "
            "published files.",
            search_aliases=("load cubemap model", "FaceRay", "VAR"),
            inputs=[
                io.Combo.Input("model", options=star_choices(), default=BUNDLED,
                               tooltip="The small model that comes with PanoDiff, a model folder (config.json, "
                               "star.safetensors) from ComfyUI's models/diffusers, or a generator as published (.pth, "
                               ".safetensors) from models/diffusion_models or models/checkpoints."),
                io.Combo.Input("vqvae", options=vqvae_choices(), default=FROM_MODEL,
                               tooltip="STAR's autoencoder (vae_ch160v4096z32.pth), from ComfyUI's models/vae. from the "
                               "model: the one that the model's folder or file holds."),
                io.Combo.Input("text", options=text_choices(), default=FROM_MODEL,
                               tooltip="A folder with text_encoder/ and tokenizer/ of Stable Diffusion 2.1, from ComfyUI's "
                               "models/diffusers or models/text_encoders. from the model: the model's own folder, or the "
                               "one that its file lies in."),
                io.Combo.Input("dtype", options=list(DTYPES), default=AUTO,
                               tooltip="Number type of the generator. auto: bfloat16 (or float16) on a GPU, float32 on a CPU. "
                               "Text encoder and autoencoder always compute in float32."),
                io.Combo.Input("preset", options=[AUTO, *PRESETS], default=AUTO, optional=True, extra_dict=ADVANCED,
                               tooltip="Which published model a weight file is, where it does not tell. auto: as it says, "
                               "and for a model folder."),
                io.Combo.Input("storage", options=list(STORAGE), default=SAME, optional=True, extra_dict=ADVANCED,
                               tooltip="How the blocks of the generator are kept between calls. float8_e4m3fn: half of "
                               "bfloat16, each layer is converted for its call."),
            ],
            outputs=[Engine.Output("engine", display_name="engine", tooltip="For Encode, Sample and Decode.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, vqvae, text, dtype, preset=AUTO, storage=SAME) -> io.NodeOutput:
        paths = {"model": star_path(model), "vqvae": vqvae_path(vqvae), "text": text_path(text)}
        try:
            engine = load(
                "star",
                **paths,
                preset=None if preset == AUTO else preset,
                dtype=DTYPES[dtype],
                storage=STORAGE[storage],
                device=model_management.get_torch_device(),
                offload=ComfyPlacement(),
                attention=comfy_attention,
            )
        except CheckpointError as error:
            told, sources = str(error), where_to_get()
            raise CheckpointError(told if sources in told else f"{told}.\n{sources}") from error
        return io.NodeOutput(engine, ui=ui.PreviewText(describe_model(engine)))


def describe_model(engine) -> str:
    """What was loaded, for people: size, and whether the parts that make cubes good are there."""
    size = f"{engine.config.generator.depth} blocks, faces of {engine.face_size} pixels"
    faceray = "FaceRay: yes" if engine.has_faceray else "FaceRay: none, faces will not meet at their edges"
    sampler = "masked sampler: " + (", ".join(engine.samplers[1:]) or "none")
    return f"{size}\n{faceray}\n{sampler}"
