"""The second pass: a panorama at 2 or 4 times the size, made anew in tiles that wrap around the ring."""

from .second_pass import upscale
from .tiles import FACTORS, STRENGTH

__all__ = ["FACTORS", "STRENGTH", "upscale"]
