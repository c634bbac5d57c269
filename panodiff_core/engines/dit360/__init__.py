"""DiT360: text to panorama on FLUX.1-dev's topology, with a ring of latents."""

from .config import DiT360Config, SamplingOptions
from .engine import DiT360Engine, load

__all__ = ["DiT360Config", "DiT360Engine", "SamplingOptions", "load"]
