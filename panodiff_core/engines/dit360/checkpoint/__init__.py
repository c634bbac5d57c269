"""Weights on disk become a model: the diffusers folder of FLUX.1-dev, or the single files that people own.

`layout` finds the parts (`sources` says where missing ones come from), `formats` tells what a file holds by its header
keys, `keys` maps their names, `configurations` reads sizes from shapes. `components` checks that all of it belongs
together (`agreement`), then builds and fills the modules (`modules`) in the number types of `precision`. `loading` adds
what was asked for beside the weights: storage, attention and LoRAs (`lora`).
"""

from .components import Components, load_components, load_part, read_tokenizer
from .formats import read_parts
from .layout import PARTS, find_model, missing_files
from .loading import LoadedModel, read_model
from .lora import LoraChoice, read_lora

__all__ = [
    "PARTS",
    "Components",
    "LoadedModel",
    "LoraChoice",
    "find_model",
    "load_components",
    "load_part",
    "missing_files",
    "read_lora",
    "read_model",
    "read_parts",
    "read_tokenizer",
]
