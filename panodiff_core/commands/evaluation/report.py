"""The evaluation as a JSON file and as markdown tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...io.atomic import write_text
from ...metrics.ring import DISTANCES
from .criteria import Criterion

Words = Callable[[Mapping, Sequence[Criterion]], str]
"""Figures and the verdict on them as markdown."""


def write_report(
    folder: Path, figures: Mapping, criteria: Sequence[Criterion], words: Words
) -> tuple[Path, Path]:
    """Write `evaluation.json` and, in `words`, `evaluation.md` into a folder; returns both paths."""
    plain = _plain({**figures, "criteria": [criterion.to_dict() for criterion in criteria]})
    data = write_text(folder / "evaluation.json", json.dumps(plain, indent=1) + "\n")
    return data, write_text(folder / "evaluation.md", words(figures, criteria))


def _plain(value):
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown(figures: Mapping, criteria: Sequence[Criterion]) -> str:
    """All tables of a model of panoramas, the verdict first."""
    about = figures["about"]
    setting = (
        f"Model `{about['model']}`, {about['prompts']} held-out prompts, {about['width']}×{about['height']}, "
        f"{about['steps']} steps, cfg {about['cfg']:g}, guidance {about['guidance']:g}, "
        f"padding {about['padding']}, roll {about['roll']}, seed {about['seed']}.\n"
    )
    parts = [
        f"# Evaluation of {about['engine']}\n",
        setting,
        verdict_table(criteria),
        "\n## Seams and poles\n",
        seam_table(figures["seams"]),
    ]
    if "attributes" in figures:
        parts += ["\n## Attributes read back\n", attribute_table(figures["attributes"], figures["reader"])]
    parts += ["\n## Diversity\n", diversity_table(figures["diversity"])]
    if "yaw" in figures:
        parts.append(
            "\nTurning the noise by a quarter turn and the picture back changes it by "
            f"{figures['yaw']['low_pass_rms']:.4f} in the first of these measures: the sampler's own dependence on yaw."
        )
    if "seam_study" in figures:
        parts += ["\n## Seam study\n", seam_table(figures["seam_study"])]
    return "\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; every column but the first is aligned to the right."""
    line = "| --- |" + " ---: |" * (len(head) - 1)
    return "\n".join(["| " + " | ".join(head) + " |", line, *("| " + " | ".join(row) + " |" for row in rows)])


def verdict_table(criteria: Sequence[Criterion]) -> str:
    """Every criterion with its bounds, its value and whether it is met."""
    rows = [(c.name, c.bounds, f"{c.value:.3f}", "yes" if c.met else "**no**") for c in criteria]
    return table(("criterion", "bound", "value", "met"), rows)


def seam_table(sets: Mapping[str, Mapping]) -> str:
    """One column per set of pictures."""
    rows = []
    for distance in DISTANCES:
        ratios = [figures[f"ratio_{distance}"] for figures in sets.values()]
        cells = (f"{ratio['mean']:.3f} ({ratio['p95']:.3f})" for ratio in ratios)
        rows.append((f"ratio at {distance} px, mean (95th percentile)", *cells))
    for name, words in (
        ("wrap_rank", "wrap column among all"),
        ("wrap_rank_in_block", "among columns of its VAE phase"),
    ):
        cells = (f"{s[name]['mean']:.2f} ({s[name].get('p_value', math.nan):.3f})" for s in sets.values())
        rows.append((f"{words}: mean rank (p)", *cells))
    for side in ("top", "bottom"):
        rows.append(
            (f"pole variance, {side}", *(f"{s[f'pole_variance_{side}']['mean']:.5f}" for s in sets.values()))
        )
    return table(("", *sets), rows)


def attribute_table(made: Mapping, reader: Mapping) -> str:
    """Accuracy per attribute that prompts state, and the reader's own on true worlds through the VAE."""
    rows = []
    for name, row in made["attributes"].items():
        own = reader["attributes"].get(name)
        own_text = "–" if own is None else f"{100 * own['accuracy']:.1f} %"
        rows.append(
            (name, str(row["count"]), f"{100 * row['accuracy']:.1f} %", f"{row['corrected']:.3f}", own_text)
        )
    rows.append(
        (
            "**mean**",
            "",
            f"{100 * made['accuracy']:.1f} %",
            f"{made['mean']:.3f}",
            f"{100 * reader['accuracy']:.1f} %",
        )
    )
    head = (
        "attribute",
        "prompts that state it",
        "accuracy",
        "chance-corrected",
        "reader on true worlds through the VAE",
    )
    tail = (
        f"\n\nLight's azimuth: median error {made['azimuth_error_deg']:.1f}° against the direction that the "
        f"prompt states ({made['azimuth_count']} prompts); the reader's own on true worlds through the VAE "
        f"{reader['azimuth_error_deg']:.1f}°."
    )
    return table(head, rows) + tail


def diversity_table(sets: Mapping[str, Mapping]) -> str:
    """Distances within the pictures of one prompt."""
    words = {
        "low_pass_rms": "RMS colour difference of 16×32 means",
        "low_pass_rms_aligned": "the same, each pair turned to match best",
        "attributes_differ": "share of readable attributes that differ within a pair",
    }
    rows = [
        (text, *(f"{s[key]:.4f}" for s in sets.values()))
        for key, text in words.items()
        if all(key in s for s in sets.values())
    ]
    return table(("mean over all pairs of one prompt", *sets), rows)
