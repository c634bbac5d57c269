"""The seam report: one set of figures for every kind of picture, for people, nodes and evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..runtime.errors import InputError, NumericalError
from .cube import cube_edge_ratios
from .poles import pole_variance
from .ring import DISTANCES, MIN_WIDTH, column_steps, row_profile, seam_ratio, wrap_rank

if TYPE_CHECKING:
    from ..pictures import CubeFaces, Panorama, Sequence, Views

# Where the words of the summary change. A true picture scatters around 1, as one column does against all others: only a
# seam that stands out among the columns, too, is a cut.
CUT = 1.6
"""The `ratio_1` above which a step shows at the seam, unless the caller sets another threshold."""
_CUT_RANK, _BLUR = 0.95, 0.5


@dataclass(frozen=True)
class SeamReport:
    """Figures about the seam and the poles of one or more pictures.

    Attributes are means over the pictures; `per_picture` has each of them as a tensor [B].

    - `ratio_1`, `ratio_2`, `ratio_8`, `ratio_16`: mean |difference| of columns that many pixels apart across
      the seam ÷ the same inside the picture. 1 is ideal, far above is a cut, far below a blur. For a cubemap:
      mean of 12 edges.
    - `wrap_rank`: fraction 0..1 of columns whose step is smaller than the seam's; None for a cubemap.
    - `pole_variance_top`, `pole_variance_bottom`: variance along the first / last row ÷ that of the picture;
      None for a cubemap.
    - `rows`: [B,H], the ratio at 1 pixel row by row (9-row window); None for a cubemap.
    - `edges`: edge name -> [B], the ratio at 1 pixel of each cube edge; empty for a panorama.
    """

    ratio_1: float
    ratio_2: float
    ratio_8: float
    ratio_16: float
    wrap_rank: float | None
    pole_variance_top: float | None
    pole_variance_bottom: float | None
    per_picture: Mapping[str, Tensor]
    rows: Tensor | None
    edges: Mapping[str, Tensor]

    def cuts(self, threshold: float = CUT) -> Tensor:
        """[B] of bool: whether a step shows, that is `ratio_1` is above `threshold` and, for a panorama, the
        seam's step is among the largest 5 % of all columns' (above 0.95 in `wrap_rank`).
        """
        high = self.per_picture["ratio_1"] > threshold
        ranks = self.per_picture.get("wrap_rank")
        return high if ranks is None else high & (ranks > _CUT_RANK)

    def summary(self, threshold: float = CUT) -> str:
        """A few lines of plain text, as shown on a node and by the command line. `threshold` as for `cuts`."""
        ratios = ", ".join(f"{getattr(self, f'ratio_{d}'):.2f} at {d} px" for d in DISTANCES)
        count = len(self.per_picture["ratio_1"])
        lines = [f"Seam ratio {ratios} (1 is the average inside): {self.verdict(threshold)}."]
        if count > 1:
            lines[0] = f"{count} pictures, mean figures. " + lines[0]
        if self.edges:
            name, worst = max(
                self.edges.items(), key=lambda edge: abs(math.log(max(float(edge[1].mean()), 1e-6)))
            )
            lines.append(f"12 cube edges; farthest from 1: {name} with {float(worst.mean()):.2f}.")
        if self.wrap_rank is not None:
            lines.append(f"The seam's step is larger than {100 * self.wrap_rank:.0f} % of all column steps.")
            lines.append(
                f"Pole variance: {self.pole_variance_top:.4f} top, {self.pole_variance_bottom:.4f} bottom "
                "(0 is one colour, 1 as varied as the whole picture)."
            )
        return "\n".join(lines)

    def verdict(self, threshold: float = CUT) -> str:
        """What the figures mean, in a few words. `threshold` as for `cuts`."""
        ratios, cuts = self.per_picture["ratio_1"], int(self.cuts(threshold).sum())
        if cuts:
            return "a step shows at the seam" + (f" of {cuts}" if len(ratios) > 1 else "")
        if bool((ratios > threshold).any()):
            return "a busy place, but no cut: other columns step as far"
        if self.ratio_1 < _BLUR:
            return "the seam is smoother than the rest"
        return "no step shows at the seam"

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types: the means, the values per picture and, for cubemaps, per edge. Infinity becomes
        None.
        """
        figures: dict[str, object] = {name: _plain(getattr(self, name)) for name in self.per_picture}
        figures["per_picture"] = {name: _plain_list(values) for name, values in self.per_picture.items()}
        if self.edges:
            figures["edges"] = {name: _plain_list(values) for name, values in self.edges.items()}
        return figures


def _plain(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _plain_list(values: Tensor) -> list[float | None]:
    return [_plain(value) for value in values.tolist()]


def seam_report(picture: Panorama | CubeFaces | Views | Sequence | Tensor) -> SeamReport:
    """Measure the seam of a picture of any of the four types, or of pixels [B,3,H,W] / [3,H,W] in 0..1.

    Cubemaps are measured at their 12 edges, sequences frame by frame ([B,T] frames count as B·T pictures),
    views after projection to a panorama. Any proportions are accepted as long as the picture is one full turn
    wide and at least 34 pixels. Raises `InputError` for other shapes and `NumericalError` for NaN or
    infinity.
    """
    if isinstance(picture, Tensor):
        return _ring_report(picture)
    from ..pictures import CubeFaces, Panorama, Sequence, Views

    if isinstance(picture, CubeFaces):
        return _cube_report(picture.pixels)
    if isinstance(picture, (Panorama, Views, Sequence)):
        return _ring_report(picture.to_equirect().pixels)
    raise InputError(f"a picture or a tensor [B,3,H,W] is needed, got {type(picture).__name__}.")


def _checked(pixels: Tensor) -> Tensor:
    if not torch.isfinite(torch.stack(torch.aminmax(pixels))).all():
        raise NumericalError("the picture contains NaN or infinity; its seam cannot be measured.")
    return pixels.detach().to(torch.float64 if pixels.dtype == torch.float64 else torch.float32)


def _ring_report(pixels: Tensor) -> SeamReport:
    if pixels.ndim == 3:
        pixels = pixels[None]
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[0] < 1 or pixels.shape[-2] < 1:
        raise InputError(f"pixels of a panorama are [B,3,H,W], got {list(pixels.shape)}.")
    if pixels.shape[-1] < MIN_WIDTH:
        raise InputError(f"a seam report needs at least {MIN_WIDTH} columns, got {pixels.shape[-1]}.")
    pixels = _checked(pixels)
    steps = {distance: column_steps(pixels, distance) for distance in DISTANCES}
    figures = {f"ratio_{d}": seam_ratio(steps[d], d).cpu() for d in DISTANCES}
    figures["wrap_rank"] = wrap_rank(steps[1]).cpu()
    top, bottom = pole_variance(pixels)
    figures["pole_variance_top"], figures["pole_variance_bottom"] = top.cpu(), bottom.cpu()
    return _report(figures, row_profile(pixels).cpu(), {})


def _cube_report(faces: Tensor) -> SeamReport:
    ratios, names = cube_edge_ratios(_checked(faces))
    figures = {f"ratio_{d}": ratios[d].mean(dim=1).cpu() for d in DISTANCES}
    return _report(figures, None, {name: ratios[1][:, index].cpu() for index, name in enumerate(names)})


def _report(figures: dict[str, Tensor], rows: Tensor | None, edges: dict[str, Tensor]) -> SeamReport:
    names = ("wrap_rank", "pole_variance_top", "pole_variance_bottom")
    means = {name: float(values.mean()) for name, values in figures.items()}
    return SeamReport(
        **{f"ratio_{d}": means[f"ratio_{d}"] for d in DISTANCES},
        **{name: means.get(name) for name in names},
        per_picture=figures,
        rows=rows,
        edges=edges,
    )
