"""The size of a panorama for FLUX and the shift of its noise levels, for the nodes around ComfyUI's own FLUX."""

from __future__ import annotations

from ..panodiff_core.engines.dit360.config import MU_RULES
from ..panodiff_core.engines.dit360.model import RingGrid
from ..panodiff_core.engines.dit360.sampling.ring import shift_exponent as ring_exponent
from ..panodiff_core.runtime.errors import InputError
from ..panodiff_core.schedulers.flow_matching import FlowMatchScheduler

FIXED = "fixed"
SHIFTS = (*MU_RULES, FIXED)
WIDTH, HEIGHT = 2048, 1024
WIDTH_STEP, MAX_WIDTH = 32, 16384
LATENT_PIXELS, LATENT_CHANNELS = 8, 16
MAX_PADDING = 16

WIDTH_TIP = "Width of the panorama in pixels, twice the height and a multiple of 32."
HEIGHT_TIP = "Height of the panorama in pixels, half the width."
SHIFT_TIP = (
    "How the noise levels follow the size of the picture: by its tokens with the padding columns (padded, what DiT360 "
    "does), without them (unpadded), or by the number in mu (fixed)."
)
MU_TIP = (
    "The shift exponent for shift = fixed. ComfyUI's own default for FLUX is 1.15; 2048 x 1024 has 1.865."
)


def size_problem(width: int | None, height: int | None) -> bool | str:
    """For `validate_inputs`: True if a size is fine or not known yet (None), else what is wrong with it."""
    if width is None or height is None:
        return True
    if not WIDTH_STEP <= width <= MAX_WIDTH:
        return f"width {width} is out of range: {WIDTH_STEP} to {MAX_WIDTH}"
    if width != 2 * height:
        return (
            f"width {width} is not 2 × height {height}: set {2 * height} x {height} or {width} x {width // 2}"
        )
    if width % WIDTH_STEP:
        near = max(WIDTH_STEP, round(width / WIDTH_STEP) * WIDTH_STEP)
        return f"width {width} is not a multiple of {WIDTH_STEP}: the nearest size is {near} x {near // 2}"
    return True


def require_size(width: int, height: int) -> None:
    """Raises `InputError` unless `size_problem` finds nothing."""
    problem = size_problem(width, height)
    if problem is not True:
        raise InputError(problem)


def shift_exponent(shift: str, mu: float, width: int, height: int, padding: int) -> float:
    """The exponent of FLUX's shift for a picture in pixels: by the rule `shift`, or `mu` itself if that is fixed."""
    if shift == FIXED:
        return mu
    columns = padding if shift == "padded" else 0
    grid = RingGrid(height // LATENT_PIXELS, width // LATENT_PIXELS, columns)
    return ring_exponent(FlowMatchScheduler(), "padded", grid)
