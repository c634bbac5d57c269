"""The figures that the viewer shows beside a panorama."""

from __future__ import annotations

import math

import torch
from comfy import model_management

from ..panodiff_core import seam_report
from ..panodiff_core.metrics.ring import profile_bands
from ..panodiff_core.runtime.errors import InputError
from .pictures import require_panorama, to_rgb

MOST_BANDS, LEAST_BANDS, ALL_BANDS = 256, 32, 4096
"""Numbers of a row profile: the most, the least, and the most for all pictures of a batch together."""


def measure_pictures(panorama: torch.Tensor) -> list[dict]:
    """What the browser is told about the seam and the poles of each picture of an IMAGE [B,H,W,C].

    The figures of `seam_report` by name, `verdict` in words, and `rows`, the profile in at most 256 bands of
    rows from the top; infinity is None. A picture of another shape has a `problem` instead. Raises `NumericalError`
    for NaN or infinity in a picture.
    """
    bands = min(MOST_BANDS, max(LEAST_BANDS, ALL_BANDS // len(panorama)))
    return [_measure(picture, bands) for picture in panorama.split(1)]


def _measure(picture: torch.Tensor, bands: int) -> dict:
    model_management.throw_exception_if_processing_interrupted()
    try:
        require_panorama(picture)
        report = seam_report(to_rgb(picture))
    except InputError as error:
        return {"problem": str(error)}
    figures = {name: _finite(float(values)) for name, values in report.per_picture.items()}
    rows = [_finite(float(f"{value:.4g}")) for value in profile_bands(report.rows, bands)[0].tolist()]
    return {**figures, "verdict": report.verdict(), "rows": rows}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
