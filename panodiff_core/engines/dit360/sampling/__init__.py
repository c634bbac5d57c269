"""From a condition to latents: options and noise, a picture to start from, the loop on the ring, step caching."""

from .image_to_image import SourceImage, read_source
from .inputs import choose_options, choose_size
from .job import SamplingJob
from .noise import choose_noise, draw_noise, roll_offsets
from .ring import FiniteWatch, Predict, lay_noise_levels, sample_ring

__all__ = [
    "FiniteWatch",
    "Predict",
    "SamplingJob",
    "SourceImage",
    "choose_noise",
    "choose_options",
    "choose_size",
    "draw_noise",
    "lay_noise_levels",
    "read_source",
    "roll_offsets",
    "sample_ring",
]
