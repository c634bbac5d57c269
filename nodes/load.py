"""Load DiT360."""

from __future__ import annotations

import torch
from comfy import model_management
from comfy_api.v0_0_2 import io

from ..panodiff_core import load
from .attention import comfy_attention
from .models import BUNDLED, NO_LORA, lora_choices, lora_path, model_choices, model_path
from .placement import ComfyPlacement
from .schema import ADVANCED, Engine, node_schema

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AS_IN_FILE = "as in the file"
NATIVE = "run FLUX in parts with ComfyUI's own loader and Patch Model for 360 (template dit360_flux_native)"
STORAGE = {AS_IN_FILE: None, "same as dtype": "dtype", "float8_e4m3fn": "float8_e4m3fn"}


class LoadDiT360(io.ComfyNode):
    """Model folder -> engine. Weights move later, stage by stage, through ComfyUI's model management."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_LoadDiT360",
            display_name="Load DiT360",
            category="PanoDiff/Load",
            description="Loads the DiT360 text-to-panorama engine: the bundled small model or a diffusers folder.",
            search_aliases=("load panorama model", "FLUX panorama"),
            inputs=[
                io.Combo.Input(
                    "model",
                    options=model_choices(),
                    default=BUNDLED,
                    tooltip="The small model that comes with PanoDiff, or a folder in diffusers layout (FLUX.1-dev and "
                    "its kin) from ComfyUI's models/diffusers or models/diffusion_models.",
                ),
                dtype_input(),
                *weight_inputs(),
            ],
            outputs=[
                Engine.Output("engine", display_name="engine", tooltip="For Encode, Sample and Decode.")
            ],
        )

    @classmethod
    def execute(
        cls,
        model: str,
        dtype: str,
        lora: str = NO_LORA,
        lora_strength: float = 1.0,
        storage: str = AS_IN_FILE,
    ) -> io.NodeOutput:
        engine = load(
            "dit360",
            model_path(model),
            **load_options(dtype, lora, lora_strength, storage),
        )
        return io.NodeOutput(engine)


def dtype_input() -> io.Combo.Input:
    """The number type, on every node that loads DiT360."""
    return io.Combo.Input(
        "dtype",
        options=list(DTYPES),
        default="auto",
        tooltip="Number type of the weights. auto: bfloat16 (or float16) on a GPU, float32 on a CPU.",
    )


def weight_inputs() -> list[io.Input]:
    """What may be done to the transformer's weights, optional, on every node that loads DiT360."""
    return [
        io.Combo.Input(
            "lora",
            options=lora_choices(),
            default=NO_LORA,
            optional=True,
            extra_dict=ADVANCED,
            tooltip="A LoRA from ComfyUI's models/loras for the transformer, such as DiT360's own for "
            "FLUX.1-dev. The bundled model needs none.",
        ),
        io.Float.Input(
            "lora_strength",
            default=1.0,
            min=-10.0,
            max=10.0,
            step=0.05,
            optional=True,
            extra_dict=ADVANCED,
            tooltip="How much of the LoRA is added. 1 is what it was trained for.",
        ),
        io.Combo.Input(
            "storage",
            options=list(STORAGE),
            default=AS_IN_FILE,
            optional=True,
            extra_dict=ADVANCED,
            tooltip="How the blocks of the transformer and of T5 are kept between calls. as in the file: fp8 files stay "
            "small, everything else as it computes. same as dtype: all as they compute. float8_e4m3fn: half of "
            "bfloat16, each layer is converted for its call.",
        ),
    ]


def load_options(dtype: str, lora: str, lora_strength: float, storage: str) -> dict:
    """These inputs as options of `panodiff_core.load`, with everything left to ComfyUI that ComfyUI decides."""
    return {
        "dtype": DTYPES[dtype],
        "storage": STORAGE[storage],
        "device": model_management.get_torch_device(),
        "offload": ComfyPlacement(instead=NATIVE),
        "attention": comfy_attention,
        "lora": None if lora == NO_LORA else (lora_path(lora), lora_strength),
    }
