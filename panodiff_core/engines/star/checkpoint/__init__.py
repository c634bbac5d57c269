"""STAR models on disk, read strictly: our folder, or the published .pth and .safetensors files.

`formats` unwraps a file, `shapes` reads sizes, `source` finds out what model it is, `filling` and `loading` put it into
modules, `folder` is our layout. What is missing, damaged or of another model is said before any tensor is read.
"""

from .filling import FACERAY, SAMPLER, SAMPLER_FACERAY, fill_generator, load_vqvae, split_sampler
from .folder import ModelConfig, missing_files, read_config, write_config, write_model
from .formats import StarWeights, open_weights
from .loading import Components, check_model, load_components
from .source import ModelSource, find_model

__all__ = [
    "FACERAY",
    "SAMPLER",
    "SAMPLER_FACERAY",
    "Components",
    "ModelConfig",
    "ModelSource",
    "StarWeights",
    "check_model",
    "fill_generator",
    "find_model",
    "load_components",
    "load_vqvae",
    "missing_files",
    "open_weights",
    "read_config",
    "split_sampler",
    "write_config",
    "write_model",
]
