"""Figures over many pictures: seams and poles as means, 95th percentiles and a p value; diversity; sun
azimuth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...metrics.diversity import low_pass_features, mean_aligned_distance, mean_pairwise_distance
from ...metrics.ranks import MIN_PICTURES, wrap_rank_p_value
from ...metrics.ring import DISTANCES, column_steps, wrap_rank
from ...metrics.seams import seam_report

# The VAE's own pattern repeats every 8 columns; ranks among columns of one phase leave it out.
BLOCK = 8


def seam_figures(pixels: Tensor, turns: int = 1) -> dict[str, dict[str, float]]:
    """Seam and pole figures of pictures [N,3,H,W].

    `turns` > 1 measures every picture that many times, turned by equal shares of the ring (in whole blocks):
    for pictures that are rings by construction any column may stand for the seam, and the figures get
    steadier. Ranks are taken from the pictures as they are.
    """
    step = pixels.shape[-1] // (BLOCK * turns) * BLOCK
    reports = [seam_report(one.roll(k * step, -1)) for one in pixels.split(16) for k in range(turns)]
    figures = {}
    for distance in DISTANCES:
        values = torch.cat([report.per_picture[f"ratio_{distance}"] for report in reports])
        figures[f"ratio_{distance}"] = {
            "mean": float(values.mean()),
            "p95": float(values.double().quantile(0.95)),
        }
    for name in ("pole_variance_top", "pole_variance_bottom"):
        values = torch.cat([report.per_picture[name] for report in reports])
        figures[name] = {"mean": float(values.mean())}
    figures["pole_variance"] = {
        "mean": 0.5 * (figures["pole_variance_top"]["mean"] + figures["pole_variance_bottom"]["mean"])
    }
    for name, stride in (("wrap_rank", 1), ("wrap_rank_in_block", BLOCK)):
        ranks = torch.cat([wrap_rank(column_steps(one), stride) for one in pixels.split(16)]).tolist()
        figures[name] = {"mean": sum(ranks) / len(ranks)}
        if len(ranks) >= MIN_PICTURES:
            figures[name]["p_value"] = wrap_rank_p_value(ranks)
    return figures


def diversity_figures(groups: Sequence[Tensor]) -> dict[str, float]:
    """Mean distance within groups of pictures [N,3,H,W], as they are and after turning each pair to match
    best.
    """
    features = [low_pass_features(group) for group in groups]
    return {
        "low_pass_rms": sum(map(mean_pairwise_distance, features)) / len(features),
        "low_pass_rms_aligned": sum(map(mean_aligned_distance, features)) / len(features),
    }


def yaw_figures(straight: Tensor, turned: Tensor, columns: int) -> dict[str, float]:
    """How much pictures [N,3,H,W] change, beyond turning along, when their noise is turned by `columns` pixels.

    RMS colour differences over the sphere of 16x32 means; 0 for a sampler that has no forward direction.
    """
    difference = low_pass_features(straight) - low_pass_features(turned.roll(-columns, -1))
    return {"low_pass_rms": float(difference.flatten(1).norm(dim=1).mean())}


def angle_between_deg(first: float, second: float) -> float:
    """The smaller angle between two azimuths, 0..180 degrees."""
    return abs((first - second + 180.0) % 360.0 - 180.0)


def median(values: Sequence[float]) -> float:
    """The median, NaN of nothing."""
    return float(torch.tensor(values, dtype=torch.float64).quantile(0.5)) if values else math.nan
