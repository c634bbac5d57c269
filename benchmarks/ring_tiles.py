"""Decoding a large panorama in less memory: error, borders, time and peak memory of every way to do it.

    python -m benchmarks.ring_tiles [--model PATH] [--size 2048x1024] [--budget-gb G ...] [--threads 2] [--out RESULT.json]
    python -m benchmarks.ring_tiles --size 8192x4096 --only tiles --budget-gb 4

Run it from the repository root. With --only there is no reference, one decoding within each budget, and the encoder works in
tiles: for sizes whose attention, which grows with the square of the pixels, is hard on the machine. The latents are those of a rendered world. Each way decodes in a process of its own,
so that its peak of resident memory over what it had before is its own; it is held against the budget. Errors are against
the untiled decoder or, where that would not fit, against "global" without a budget. Columns at the seam and at the
borders of tiles are held against the 95th percentile of all columns. Times are those of one run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

import panodiff_core as pano
from panodiff_core.autoencoders.coding import KEPT_BYTES, Coding, Size, plan_coding
from panodiff_core.autoencoders.tiles import Axis, TilePlan
from panodiff_core.data.worlds import render_equirect, sample_scene
from panodiff_core.metrics.ring import column_steps


@dataclass(frozen=True)
class Way:
    """One way to decode; `axis` lays tiles of the whole height."""

    name: str
    tiling: str
    memory_gb: float | None = None
    axis: Axis | None = None


class Peak:
    """Resident memory while the context lasts, over what it was at its start, in bytes."""

    def __enter__(self):
        self.process, self.bytes, self.over = psutil.Process(), 0, threading.Event()
        self.start = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.over.wait(0.002):
            self.bytes = max(self.bytes, self.process.memory_info().rss - self.start)

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()


def coding_of(vae, way: Way, height: int, width: int) -> Coding:
    if way.axis is None:
        return plan_coding(vae, "decode", height, width, tiling=way.tiling, memory_gb=way.memory_gb)
    size = Size(vae, "decode", height, width)
    rows = height // size.factor
    need = size.whole_bytes * way.axis.tile // way.axis.length + KEPT_BYTES
    return replace(
        plan_coding(vae, "decode", height, width),
        tiling="tiles",
        bytes=need,
        plan=TilePlan(Axis(rows, rows), way.axis),
    )


def decode(model: str | None, way: Way, folder: str, threads: int) -> dict:
    """Decode and keep the picture in `folder`; runs in a process of its own."""
    torch.set_num_threads(threads)
    engine = pano.load("dit360", model, device="cpu")
    latents = torch.load(Path(folder) / "latents.pt")
    height, width = (n * engine.vae_factor for n in latents.shape[2:])
    coding = coding_of(engine.vae, way, height, width)
    with torch.no_grad():  # the libraries' first-use allocations are nobody's peak
        engine.vae.decode(latents[..., :8, :16].to(engine.vae.dtype))
        with Peak() as peak:
            start = time.perf_counter()
            out = torch.empty(1, 3, height, width)
            coding.run(latents, out, torch.device("cpu"))
            seconds = time.perf_counter() - start
    torch.save(out, Path(folder) / f"{way.name}.pt")
    planned = coding.bytes + Size(engine.vae, "decode", height, width).result_bytes
    return {
        "seconds": seconds,
        "parts": coding.parts,
        "planned": planned,
        "peak": peak.bytes,
        "way": coding.tiling,
        "columns": coding.plan.columns if isinstance(coding.plan, TilePlan) else None,
        "rows": coding.plan.rows if isinstance(coding.plan, TilePlan) else None,
    }


def alone(work, *arguments):
    """The result of one call in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()


def prepare(model: str | None, height: int, width: int, threads: int, folder: str, tiling: str) -> dict:
    """Encode a world in bands or tiles into `folder`; says what decoding it takes."""
    torch.set_num_threads(threads)
    engine = pano.load("dit360", model, device="cpu")
    world = render_equirect(sample_scene(3, "held_out"), height, width).clamp(0.0, 1.0)[None]
    torch.save(engine.encode_image(world, tiling=tiling), Path(folder) / "latents.pt")
    size = Size(engine.vae, "decode", height, width)
    least = size.stream(0).bytes + size.result_bytes + KEPT_BYTES
    return {"factor": size.factor, "whole": size.whole_bytes + size.result_bytes, "least": least}


def ways(needs: dict, columns: int, budgets: list[float]) -> list[Way]:
    """The reference first."""
    found = [Way("global", "global")]
    if needs["whole"] < 0.7 * psutil.virtual_memory().available:
        found.insert(0, Way("off", "off"))
    budgets = budgets or [3 * needs["least"] / 2**30, 1.01 * needs["least"] / 2**30]
    found += [Way(f"global within {budget:.3f} GB", "global", budget) for budget in budgets]
    # Tiles of the whole height: the two widest that fit into half of the memory.
    room = 0.5 * psutil.virtual_memory().available
    fitting = [share for share in (2, 4, 8, 16, 32, 64) if needs["whole"] * (1 / share + 36 / columns) < room]
    for share in fitting[:2]:
        stride = columns // share
        overlap = min(24, stride)
        if stride + overlap < columns:
            found.append(
                Way(f"blend {stride}+{overlap}", "tiles", axis=Axis(columns, stride + overlap, overlap, True))
            )
        if stride + 36 < columns:
            found.append(
                Way(f"crop {stride}+2x18", "tiles", axis=Axis(columns, stride + 36, 18, True, "crop"))
            )
    return found


def borders(axis: Axis | None, factor: int, width: int) -> list[int]:
    """Columns before which a tile begins or ends, the seam always among them."""
    found = {0}
    for k in range(0 if axis is None else axis.length // axis.stride):
        found.add(factor * axis.stride * k)
        if axis.form == "blend":
            found.add(factor * (axis.stride * k + axis.overlap))
    return sorted((column - 1) % width for column in found)


def judge(way: Way, row: dict, reference: torch.Tensor | None, picture: torch.Tensor, factor: int) -> dict:
    """Figures of one way; errors are None without a reference."""
    error = None if reference is None else (picture - reference).abs()
    steps = column_steps(picture, 1)[0]
    columns, lines = row.pop("columns"), row.pop("rows")
    worst = steps[borders(columns, factor, picture.shape[-1])].max()
    return {
        **row,
        "budget_gb": way.memory_gb,
        "tile": None if columns is None else [lines.tile, columns.tile],
        "of": None if columns is None else [lines.length, columns.length],
        "mean_error": None if reference is None else error.mean().item(),
        "max_error": None if reference is None else error.max().item(),
        "seam_over_p95": (steps[-1] / steps.quantile(0.95)).item(),
        "border_over_p95": (worst / steps.quantile(0.95)).item(),
        "peak_over_plan": row["peak"] / row["planned"],
    }


def show(rows: dict[str, dict]) -> None:
    print(
        f"\n{'':30}{'s':>8}{'parts':>7}{'planned GB':>12}{'peak GB':>9}{'mean err':>11}{'max err':>10}"
        f"{'seam/p95':>10}{'border/p95':>12}"
    )
    for name, row in rows.items():
        errors = [torch.nan if row[key] is None else row[key] for key in ("mean_error", "max_error")]
        print(
            f"{name:30}{row['seconds']:8.1f}{row['parts']:7d}{row['planned'] / 2**30:12.3f}{row['peak'] / 2**30:9.3f}"
            f"{errors[0]:11.1e}{errors[1]:10.1e}{row['seam_over_p95']:10.2f}{row['border_over_p95']:12.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model")
    parser.add_argument("--size", default="2048x1024", help="width x height in pixels")
    parser.add_argument("--budget-gb", type=float, nargs="*", default=[])
    parser.add_argument(
        "--only", choices=("tiles", "global"), help="this within each --budget-gb, and nothing else"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    width, height = (int(n) for n in args.size.split("x"))
    rows: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        tiling = "tiles" if args.only else "global"
        needs = alone(prepare, args.model, height, width, args.threads, folder, tiling)
        reference = None
        chosen = ways(needs, width // needs["factor"], args.budget_gb)
        if args.only:
            chosen = [
                Way(f"{args.only} within {budget:g} GB", args.only, budget) for budget in args.budget_gb
            ]
        for way in chosen:
            row = alone(decode, args.model, way, folder, args.threads)
            picture = torch.load(Path(folder) / f"{way.name}.pt")
            if reference is None and not args.only:
                reference = picture
            rows[way.name] = judge(way, row, reference, picture, needs["factor"])
            print(f"{way.name}: done", flush=True)
    show(rows)
    results = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": args.threads,
        "size": args.size,
        "reference": None if args.only else next(iter(rows)),
        "rows": rows,
        "claims": {
            "bands equal the reference": all(
                row["max_error"] <= 1e-5 for name, row in rows.items() if name.startswith("global")
            ),
            "peak within the budget": all(
                row["peak"] <= row["budget_gb"] * 2**30
                for row in rows.values()
                if row["budget_gb"] is not None
            ),
            "no seam or border beyond the 95th percentile": all(
                row["border_over_p95"] <= 1.0 for row in rows.values()
            ),
        },
    }
    if args.only:
        del results["claims"]["bands equal the reference"]
    for claim, holds in results["claims"].items():
        print(f"{'yes' if holds else 'NO':5}{claim}")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
