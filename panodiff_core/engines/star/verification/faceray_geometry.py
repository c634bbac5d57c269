"""faceray.safetensors, the part without weights: frames, rays, neighbours, and the seam loss of given features."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ....geometry.cubemap import ADJACENCY, directions_to_faces, face_frames
from ....verification import Group, Row, compare, compare_scaled
from ..attention import SeparateGrids
from ..config import SCALES_512
from ..faceray.adapter import turn
from ..faceray.branches import seam_rule
from ..faceray.geometry import SeamRule, SeamTables, ray_frames, seam_tables
from ..faceray.losses import seam_loss, seam_weight
from .folder import FACERAY_RESULTS, StarVectors

NAME = "faceray"
TIGHT = 1e-5
EXACT = 1e-6
WARMUP_STEPS = 1000
"""Length of the run whose seam weights the vectors list."""
REAL_SIDE = 32
UP = 4


def check_frames(vectors: StarVectors) -> Iterator[Row]:
    """Frames of the faces, projection of rays, D_ray of every token, and D_ray on vectors of a head."""
    t, config = vectors.tensors(FACERAY_RESULTS), vectors.faceray_config()
    yield compare(NAME, "geom.frames_nab", face_frames(), t["geom.frames_nab"], 0.0)
    face, u, v = directions_to_faces(t["geom.project.dir"])
    yield compare(NAME, "geom.project.face", face, t["geom.project.face"], 0.0)
    yield compare(NAME, "geom.project.uv", torch.stack([u, v], dim=-1), t["geom.project.uv"], EXACT)
    for scale, side in enumerate(vectors.scales().sides):
        d = ray_frames(side)
        yield compare(NAME, f"geom.d_ray.{scale}", d, t[f"geom.d_ray.{scale}"], EXACT)
        yield compare(NAME, f"D_ray·D_rayᵀ, scale {scale}", d @ d.mT, torch.eye(3).expand_as(d), EXACT)
    for key, frames in (("out", t["dray_apply.D"]), ("out_inverse", t["dray_apply.D"].mT)):
        got = turn(t["dray_apply.q"], frames, config.ray_subdim)
        yield compare_scaled(NAME, f"dray_apply.{key}", got, t[f"dray_apply.{key}"], EXACT)


def check_tables(vectors: StarVectors) -> Iterator[Row]:
    """Boundary tokens, their neighbours and the token straight behind, of all scales and of the real 512-pixel model."""
    t, rule, scales = vectors.tensors(FACERAY_RESULTS), seam_rule(vectors.faceray_config()), vectors.scales()
    tables = [seam_tables(side, rule) for side in scales.sides]
    for name, got in _columns(tables, scales.offsets).items():
        yield compare(NAME, f"geom.derived.{name}", *_same_width(got, t[f"geom.derived.{name}"]), 0.0)
    real = [seam_tables(side, rule) for side in SCALES_512]
    counts = [[len(x.queries), x.counts.min(), x.counts.max(), x.counts.sum()] for x in real]
    yield compare(
        NAME, "geom.derived.d30_512_counts", torch.tensor(counts), t["geom.derived.d30_512_counts"], 0.0
    )
    last, key = seam_tables(REAL_SIDE, rule), "geom.derived.d30_512_last_U"
    up = last.queries // REAL_SIDE**2 == UP
    yield compare(NAME, f"{key}.local", last.queries[up] % REAL_SIDE**2, t[f"{key}.local"], 0.0)
    for name, got in _split("nb", last.neighbours[up], REAL_SIDE).items():
        yield compare(NAME, f"{key}.{name}", *_same_width(got, t[f"{key}.{name}"]), 0.0)
    share = torch.tensor([_share_on_adjacent_faces(table) for table in (*tables, *real)])
    yield compare(NAME, "neighbours on adjacent faces", share, torch.ones_like(share), 0.0)
    other = seam_tables(scales.last_side, SeamRule(rule.strip_width, rule.window, not rule.depth_matched))
    yield Row(NAME, "neighbours of another depth", _changed_rows(tables[-1], other), 0.0, above=True)


def _columns(tables: list[SeamTables], offsets: tuple[int, ...]) -> dict[str, Tensor]:
    """The tables as the file lists them, one row per boundary token of all scales."""
    rows: dict[str, list[Tensor]] = {}
    for stage, (table, offset) in enumerate(zip(tables, offsets, strict=True)):
        tokens = table.side**2
        local, seen = table.queries % tokens, table.neighbours >= 0
        columns = {
            "stage": torch.full_like(local, stage),
            "face": table.queries // tokens,
            "local": local,
            "token": offset + local,
            "nb_count": table.counts,
            "nb_token": torch.where(seen, offset + table.neighbours % tokens, -1),
            "pi_count": (table.opposite >= 0).sum(dim=1),
            **_split("nb", table.neighbours, table.side),
            **_split("pi", table.opposite, table.side),
        }
        for name, column in columns.items():
            rows.setdefault(name, []).append(column)
    return {name: _stacked(parts) for name, parts in rows.items()}


def _split(name: str, numbers: Tensor, side: int) -> dict[str, Tensor]:
    """Token numbers, −1 where there is none, as face and place on it."""
    there = numbers >= 0
    face, local = torch.where(there, numbers // side**2, -1), torch.where(there, numbers % side**2, -1)
    return {f"{name}_face": face, f"{name}_local": local}


def _stacked(parts: list[Tensor]) -> Tensor:
    if parts[0].ndim == 1:
        return torch.cat(parts)
    width = max(part.shape[1] for part in parts)
    return torch.cat([_padded(part, width) for part in parts])


def _same_width(got: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Both padded with −1 to the wider of them; the file may keep more columns than a table needs."""
    if got.ndim != 2 or expected.ndim != 2:
        return got, expected
    width = max(got.shape[1], expected.shape[1])
    return _padded(got, width), _padded(expected, width)


def _padded(x: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, width - x.shape[1]), value=-1)


def _share_on_adjacent_faces(table: SeamTables) -> float:
    seen, tokens = table.neighbours >= 0, table.side**2
    own = (table.queries // tokens)[:, None].expand_as(seen)[seen]
    adjacent = torch.tensor([[edge.face for edge in edges] for edges in ADJACENCY])
    other = (table.neighbours // tokens)[seen]
    return (adjacent[own] == other[:, None]).any(dim=1).double().mean().item()


def _changed_rows(a: SeamTables, b: SeamTables) -> float:
    first, second = _same_width(a.neighbours, b.neighbours)
    return (first != second).any(dim=1).double().mean().item()


def check_losses(vectors: StarVectors) -> Iterator[Row]:
    """The seam loss in its three pairings, and how its weight rises."""
    t, rule = vectors.tensors(FACERAY_RESULTS), seam_rule(vectors.faceray_config())
    features = t["stack.normed.feat_last"]
    for key in sorted(t):
        if key in ("seam.pi_mean", "seam.window_mean"):
            got = seam_loss(features, rule, "opposite" if key == "seam.pi_mean" else "window")
        elif key.startswith("seam.softmin_tau"):
            got = seam_loss(features, rule, "soft_min", float(key.removeprefix("seam.softmin_tau")))
        else:
            continue
        yield compare_scaled(NAME, key, got.view(1), t[key].view(1), TIGHT)
    weights = [seam_weight(int(step), WARMUP_STEPS) for step in t["seam.warmup.step"]]
    yield compare(NAME, "seam.warmup.lambda_eff", torch.tensor(weights), t["seam.warmup.lambda_eff"], EXACT)


def check_bias(vectors: StarVectors) -> Iterator[Row]:
    """Which tokens of the masked sampler's sequence see which, read off the attention that computes them."""
    t = vectors.tensors(FACERAY_RESULTS)
    for key in sorted(t):
        if not key.startswith("sampler6.bias_example_N"):
            continue
        length = int(key.removeprefix("sampler6.bias_example_N"))
        size = 1 + 6 * length
        zeros, marks = torch.zeros(1, 1, size, size), torch.eye(size).view(1, 1, size, size)

        def everything(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return v.sum(dim=2, keepdim=True).expand(-1, -1, q.shape[2], -1)

        seen = SeparateGrids((length,) * 6, everything)(zeros, zeros, marks)
        bias = torch.where(seen[0, 0] > 0, 0.0, -torch.inf)
        yield compare(NAME, key, bias, t[key], 0.0)


GROUPS = (
    Group("FaceRay: face frames, projection, ray frames", check_frames),
    Group("FaceRay: boundary tokens and their neighbours", check_tables),
    Group("FaceRay: seam losses and their weight", check_losses),
    Group("FaceRay: which tokens the masked sampler lets see each other", check_bias),
)
