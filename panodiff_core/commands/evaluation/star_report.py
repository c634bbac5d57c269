"""The evaluation of a model of cubes as markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...geometry.cubemap import FACES
from ...metrics.face_attributes import COUNTED_FROM
from ...metrics.ring import DISTANCES
from .criteria import Criterion
from .faces import BORDER, excess
from .report import table, verdict_table

WORLDS, CODED = "true worlds", "worlds through the autoencoder"
NAMED, OFF, ON = "FaceRay off, directions named", "FaceRay off", "FaceRay on"


def markdown(figures: Mapping, criteria: Sequence[Criterion]) -> str:
    """All tables, the verdict first."""
    about = figures["about"]
    setting = (
        f"Model `{about['model']}`, {about['prompts']} held-out prompts × {about['seeds']} seeds, faces: {about['faces']}, "
        f"cfg {about['cfg']:g}, top_k {about['top_k']}, top_p {about['top_p']:g}, sampler {about['sampler']}, "
        f"adapter strength {about['adapter_strength']:g}, captions with FaceRay: {about['captions']}, "
        f"seed {about['seed']}.\n"
    )
    parts = [f"# Evaluation of {about['engine']}\n", setting, verdict_table(criteria)]
    parts += ["\n## The twelve edges\n", edge_table(figures["edges"])]
    if "faces" in figures:
        parts += ["\n## Attributes read back, face by face\n", face_table(figures["faces"])]
        parts += ["\n## Attributes read back, one by one\n", attribute_table(figures["faces"])]
        parts += ["\n## What can be read on true faces\n", reader_table(figures["reader"])]
    return "\n".join(parts) + "\n"


def edge_table(rows: Mapping[str, Mapping]) -> str:
    """One column per set of cubes; the excess is over the worlds."""
    lines, worlds = [], rows[WORLDS]
    for distance in DISTANCES:
        ratios = [each[f"ratio_{distance}"] for each in rows.values()]
        cells = [f"{ratio['mean']:.3f} ({ratio['p95']:.3f})" for ratio in ratios]
        lines.append((f"ratio at {distance} px, mean (95th percentile)", *cells))
    for distance in DISTANCES:
        cells = [
            f"{excess(each, worlds, distance):+.3f} ({excess(each, worlds, distance, 'p95'):+.3f})"
            for each in rows.values()
        ]
        lines.append((f"above the worlds at {distance} px", *cells))
    for part, words in (("border", f"outer {BORDER} px"), ("inside", "the rest of the faces")):
        whole = max(worlds["gradient"][part], 1e-12)
        cells = [f"{each['gradient'][part] / whole:.3f}" for each in rows.values()]
        lines.append((f"gradient energy ÷ worlds', {words}", *cells))
    return table(("", *rows), lines)


def face_table(rows: Mapping[str, Mapping]) -> str:
    """Accuracy per face and chance-corrected in brackets; of the worlds all that they show is asked, of what was drawn
    only what its prompt states.
    """

    def cell(found: Mapping | None) -> str:
        return "–" if found is None else f"{100 * found['accuracy']:.1f} % ({found['mean']:.3f})"

    lines = [(face, *(cell(each["faces"].get(face)) for each in rows.values())) for face in FACES]
    lines.append(("**mean**", *(cell(each) for each in rows.values())))
    lines.append(("questions", *(str(each["questions"]) for each in rows.values())))
    return table(("face, accuracy (chance-corrected)", *rows), lines)


def attribute_table(rows: Mapping[str, Mapping]) -> str:
    """Accuracy per attribute, over all faces on which it counts."""
    names = dict.fromkeys(
        name for each in rows.values() for face in each["faces"].values() for name in face["attributes"]
    )

    def cell(row: Mapping, name: str) -> str:
        found = [face["attributes"][name] for face in row["faces"].values() if name in face["attributes"]]
        count = sum(each["count"] for each in found)
        hits = sum(each["count"] * each["accuracy"] for each in found)
        return f"{100 * hits / count:.1f} % of {count}" if count else "–"

    return table(
        ("attribute", *rows), [(name, *(cell(each, name) for each in rows.values())) for name in names]
    )


def reader_table(reader: Mapping) -> str:
    """The reader's chance-corrected accuracy per kind of face; what counts is set in bold."""
    scores = reader["scores"]
    names = dict.fromkeys(name for each in scores.values() for name in each)

    def cell(value: float | None) -> str:
        if value is None:
            return "–"
        return f"**{value:.3f}**" if value >= COUNTED_FROM else f"{value:.3f}"

    lines = [(name, *(cell(each.get(name)) for each in scores.values())) for name in names]
    note = (
        f"\n\nMeasured on {reader['checked']} true held-out worlds, chance-corrected. An attribute counts on a face where "
        f"the reader is right from {COUNTED_FROM:g} on (bold); the rest is not asked. The light is never asked: its "
        "direction is that of the scene, and one face alone does not tell it."
    )
    return table(("attribute", *scores), lines) + note
