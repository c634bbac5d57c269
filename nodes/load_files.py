"""Load DiT360 (single files)."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..panodiff_core import load
from .load import AS_IN_FILE, dtype_input, load_options, weight_inputs
from .models import (
    FROM_CHECKPOINT,
    NO_LORA,
    part_choices,
    part_path,
    tokenizer_folders,
    transformer_choices,
    transformer_path,
)
from .schema import Engine, node_schema

PARTS = {
    "vae": ("vae", "vae", "FLUX's VAE (ae.safetensors), from ComfyUI's models/vae."),
    "clip_l": ("text_encoder", "text_encoders", "CLIP-L (clip_l.safetensors), from ComfyUI's models/text_encoders."),
    "t5xxl": ("text_encoder_2", "text_encoders", "T5-XXL (t5xxl_fp16.safetensors), from ComfyUI's models/text_encoders."),
}  # fmt: skip
"""Input → part of the core's diffusers layout, ComfyUI's folder, and what belongs there."""


class LoadDiT360Files(io.ComfyNode):
    """Weight files, as ComfyUI's own loaders take them → engine. The tokenizers are ComfyUI's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_LoadDiT360Files",
            display_name="Load DiT360 (single files)",
            category="PanoDiff/Load",
            description="Loads the DiT360 text-to-panorama engine from the FLUX.1-dev files that ComfyUI's own loaders use.",
            search_aliases=("load panorama model", "FLUX panorama", "GGUF", "fp8", "checkpoint"),
            inputs=[
                io.Combo.Input("transformer", options=transformer_choices(),
                               tooltip="FLUX.1-dev's transformer (16 bits, fp8, scaled fp8 or GGUF) from ComfyUI's "
                               "models/diffusion_models, or a checkpoint with several parts from models/checkpoints."),
                *(io.Combo.Input(name, options=part_choices(folder), default=FROM_CHECKPOINT,
                                 tooltip=f"{what} {FROM_CHECKPOINT}: the one that the transformer's file holds.")
                  for name, (_, folder, what) in PARTS.items()),
                dtype_input(),
                *weight_inputs(),
            ],
            outputs=[Engine.Output("engine", display_name="engine", tooltip="For Encode, Sample and Decode.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, transformer, vae, clip_l, t5xxl, dtype, lora=NO_LORA, lora_strength=1.0, storage=AS_IN_FILE
    ) -> io.NodeOutput:
        chosen = {"vae": vae, "clip_l": clip_l, "t5xxl": t5xxl}
        parts = {part: part_path(folder, chosen[name]) for name, (part, folder, _) in PARTS.items()}
        engine = load(
            "dit360",
            transformer_path(transformer),
            parts={**{part: path for part, path in parts.items() if path is not None}, **tokenizer_folders()},
            **load_options(dtype, lora, lora_strength, storage),
        )
        return io.NodeOutput(engine)
