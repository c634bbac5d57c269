"""What a good small model has to reach, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from ...metrics.ring import DISTANCES
from .faces import BORDER, excess_left

SEAM_RANGE = (0.85, 1.15)
OUTLIER_P = 0.05
POLE_LIMIT = 1.2
ATTRIBUTE_MEAN, ATTRIBUTE_EACH, READER_LEAST = 0.8, 0.6, 0.97
SUN_LIMIT_DEG = 30.0
DIVERSITY_LEAST = 0.5
EXCESS_LEFT, BORDER_ENERGY = 0.5, 0.8
ACCURACY_LOSS, FACE_MEAN = 0.02, 0.75


@dataclass(frozen=True)
class Criterion:
    """One line of the verdict: `low` <= value <= `high`."""

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def met(self) -> bool:
        """False also for NaN: what could not be measured is not met."""
        return self.low <= self.value <= self.high

    @property
    def bounds(self) -> str:
        """The bounds as a person writes them."""
        if math.isinf(self.high):
            return f"≥ {self.low:g}"
        return f"≤ {self.high:g}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g}"

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types; infinite bounds and NaN become None."""
        plain = {
            key: None if isinstance(v, float) and not math.isfinite(v) else v
            for key, v in asdict(self).items()
        }
        return {**plain, "met": self.met}


def seam_criteria(made: Mapping, worlds: Mapping) -> Iterator[Criterion]:
    """Seam ratios, wrap column and poles of generated pictures against those of the worlds."""
    for distance in DISTANCES:
        for statistic, words in (("mean", "mean"), ("p95", "95th percentile")):
            name = f"ratio_{distance}"
            quotient = made[name][statistic] / worlds[name][statistic]
            yield Criterion(f"seam ratio at {distance} px, {words} ÷ worlds'", quotient, *SEAM_RANGE)
    yield Criterion(
        "wrap column among all columns, p", made["wrap_rank"].get("p_value", math.nan), low=OUTLIER_P
    )
    quotient = made["pole_variance"]["mean"] / max(worlds["pole_variance"]["mean"], 1e-12)
    yield Criterion("pole variance ÷ worlds'", quotient, high=POLE_LIMIT)


def attribute_criteria(made: Mapping, reader: Mapping) -> Iterator[Criterion]:
    """Chance-corrected accuracy over all attributes and for the weakest; the reader's own; the light's
    azimuth.
    """
    yield Criterion("attributes, chance-corrected, mean", made["mean"], low=ATTRIBUTE_MEAN)
    scores = {name: row["corrected"] for name, row in made["attributes"].items()}
    if scores:
        worst = min(scores, key=scores.__getitem__)
        yield Criterion(f"attributes, chance-corrected, weakest ({worst})", scores[worst], low=ATTRIBUTE_EACH)
    yield Criterion("reader's accuracy on true worlds through the VAE", reader["accuracy"], low=READER_LEAST)
    yield Criterion("light's azimuth, median error in degrees", made["azimuth_error_deg"], high=SUN_LIMIT_DEG)


def edge_criteria(
    rows: Mapping[str, Mapping], worlds: str, off: Sequence[str], on: str
) -> Iterator[Criterion]:
    """How much of the worse edges of independent faces FaceRay leaves, and whether it does so by blurring them.

    `rows` are `faces.edge_figures` by name; the others are names of rows.
    """
    for distance in DISTANCES:
        left = excess_left(rows[on], [rows[name] for name in off], rows[worlds], distance)
        yield Criterion(
            f"edge ratio at {distance} px above worlds', FaceRay on ÷ best off", left, high=EXCESS_LEFT
        )
    energy = rows[on]["gradient"]["border"] / max(rows[worlds]["gradient"]["border"], 1e-12)
    yield Criterion(f"gradient energy in the outer {BORDER} px ÷ worlds'", energy, low=BORDER_ENERGY)


def face_criteria(rows: Mapping[str, Mapping], off: Sequence[str], on: str) -> Iterator[Criterion]:
    """Attributes read on the faces with FaceRay: against the best row without it, and by themselves.

    `rows` are `faces.face_scores` by name.
    """
    gain = rows[on]["accuracy"] - max(rows[name]["accuracy"] for name in off)
    yield Criterion("attributes per face, accuracy, FaceRay on − best off", gain, low=-ACCURACY_LOSS)
    yield Criterion("attributes per face, chance-corrected, mean", rows[on]["mean"], low=FACE_MEAN)


def diversity_criteria(made: Mapping, worlds: Mapping) -> Iterator[Criterion]:
    """Distance between pictures of one prompt against worlds of the same caption."""
    quotient = made["low_pass_rms"] / worlds["low_pass_rms"]
    yield Criterion("diversity over seeds ÷ worlds'", quotient, low=DIVERSITY_LEAST)
