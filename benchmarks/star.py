"""Our STAR sampling against the official implementation, against matrix products, and six faces against six runs.

    python -m benchmarks.star --official STAR-T2I [--rounds 15] [--threads 2] [--out RESULT.json]

Run it from the repository root. STAR-T2I is a checkout of github.com/Davinci-XLab/STAR-T2I; without it that comparison
is left out. Random weights of width 512 and depth 8 with the scales of the 512-pixel model go into both under their
official names; text features, guidance and greedy drawing are the same, and nothing is decoded. Logits are compared
before anything is timed. Claims: ours takes less time than the official one; every scale of at least 1 GFLOP takes at
most 1.3 times what its FLOPs take at the rate of matrix products; six faces together take no longer than six single
runs, and scales 0 to 4 at most 1/1.5 of that; peak memory is at most weights and cache and 20 %.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from panodiff_core.engines.star.cache import cache_bytes
from panodiff_core.engines.star.config import SCALES_512, STARConfig

from .ring_tiles import Peak, alone
from .sampling import CLOCK, NOW
from .star_sides import (
    NO_CHECKOUT,
    Marks,
    Official,
    Ours,
    compare,
    milliseconds,
)
from .summary import interval

FACES = 6
COARSE = 5
"""Scales over which six faces together must be so much faster."""
LEAST_FLOPS = 1e9


# ---- time -----------------------------------------------------------------------------------------------------


def take_turns(works: dict[str, Callable[[], list[float]]], rounds: int) -> dict[str, list[list[float]]]:
    """What each returns, round by round, in turning order; one round beforehand does not count."""
    found: dict[str, list[list[float]]] = {name: [] for name in works}
    for turn in range(-1, rounds):
        for name in list(works) if turn % 2 else reversed(list(works)):
            result = works[name]()
            if turn >= 0:
                found[name].append(result)
    return found


class Products:
    """Matrix products of the widest layer, through as many weights as the blocks have, so that caches are as cold."""

    def __init__(self, config: STARConfig) -> None:
        self.config = config
        self.weights = [torch.randn(config.hidden, config.width) for _ in range(3 * config.depth)]

    def _took(self, x: torch.Tensor, weights: list[torch.Tensor]) -> float:
        begin = milliseconds()
        for weight in weights:
            F.linear(x, weight)
        return milliseconds() - begin

    def rates(self) -> list[float]:
        """FLOP per ms: of one large product at its best, then of a pass with the rows of each scale."""
        width, hidden = self.config.width, self.config.hidden
        large = torch.randn(2 * max(SCALES_512) ** 2, width)
        each = 2 * width * hidden
        found = [len(large) * each / min(self._took(large, self.weights[:1]) for _ in range(10))]
        for side in SCALES_512:
            x = large[: 2 * side * side]
            found.append(len(x) * each * len(self.weights) / self._took(x, self.weights))
        return found


def measure_single(ours: Ours, official: Official | None, rounds: int) -> dict:
    """One face: ours, the official one, and matrix products in turn."""
    flops = ours.flops()
    products = Products(ours.generator.config)
    works = {"ours": ours.marks, "products": products.rates}
    if official is not None:
        works["official"] = official.marks
    taken = take_turns(works, rounds)
    rows = [scale_row(scale, flops[scale + 1], taken) for scale in range(len(SCALES_512))]
    totals = {name: [sum(marks) for marks in taken[name]] for name in works if name != "products"}
    found = {"gflop": sum(flops) / 1e9, "scales": rows}
    found |= {f"{name}_ms": interval(values) for name, values in totals.items()}
    found["text_ms"] = interval([marks[0] for marks in taken["ours"]])
    found["gemm_gflops"] = interval([rates[0] / 1e6 for rates in taken["products"]])
    if official is not None:
        pairs = zip(totals["ours"], totals["official"], strict=True)
        found["ratio"] = interval([a / b for a, b in pairs])
    return found


def scale_row(scale: int, flops: float, taken: dict[str, list[list[float]]]) -> dict:
    """Figures of one scale; places in marks and rates are one further on, behind the text and the large product."""
    place, runs = scale + 1, list(zip(taken["ours"], taken["products"], strict=True))
    row = {
        "side": SCALES_512[scale],
        "gflop": flops / 1e9,
        "ms": interval([marks[place] for marks, _ in runs]),
        "over_products": interval([marks[place] * rates[0] / flops for marks, rates in runs]),
        "over_own_products": interval([marks[place] * rates[place] / flops for marks, rates in runs]),
        "own_gflops": interval([rates[place] / 1e6 for _, rates in runs]),
    }
    if "official" in taken:
        row["official_ms"] = interval([marks[place] for marks in taken["official"]])
    return row


def measure_cube(ours: Ours, rounds: int) -> dict:
    """Six faces of one cube together, against six runs of one face; both without FaceRay, which single faces lack."""

    def singles() -> Marks:
        return [sum(each) for each in zip(*(ours.marks() for _ in range(FACES)), strict=True)]

    taken = take_turns({"together": lambda: ours.marks(FACES), "singles": singles}, rounds)
    pairs = list(zip(taken["together"], taken["singles"], strict=True))
    coarse = slice(1, 1 + COARSE)  # without the text, which the single runs read six times
    return {
        "together_ms": interval([sum(a) for a, _ in pairs]),
        "singles_ms": interval([sum(b) for _, b in pairs]),
        "ratio": interval([sum(a) / sum(b) for a, b in pairs]),
        "coarse_speed": interval([sum(b[coarse]) / sum(a[coarse]) for a, b in pairs]),
        "scale_speed": [
            interval([b[place] / a[place] for a, b in pairs]) for place in range(1, len(pairs[0][0]))
        ],
    }


# ---- memory ---------------------------------------------------------------------------------------------------


def peak_of(depth: int, width: int, group: int, threads: int) -> dict:
    """Peak of resident memory from before the weights until the latents are there; runs in a process of its own."""
    torch.set_num_threads(threads)
    Ours(1, 64).run()  # the libraries' first-use allocations are nobody's peak
    with Peak() as peak:
        ours = Ours(depth, width)
        ours.run(group)
    tensors = [*ours.generator.state_dict().values(), *ours.quantizer.state_dict().values()]
    weights = sum(each.nbytes for each in tensors)
    cache = cache_bytes(ours.generator.scales, depth, 2 * group, width, ours.generator.dtype.itemsize)
    return {"peak": peak.bytes, "weights": weights, "cache": cache, "ratio": peak.bytes / (weights + cache)}


# ---- the whole ------------------------------------------------------------------------------------------------


def claims(results: dict) -> dict:
    made = {}

    def claim(name: str, value: float, holds: bool) -> None:
        made[name] = {"value": value, "holds": holds}

    single, cube = results["single"], results["cube"]
    if "ratio" in single:
        ratio = single["ratio"]["median"]
        claim("one face: ours / official < 1", ratio, ratio < 1.0)
    heavy = [row for row in single["scales"] if row["gflop"] * 1e9 >= LEAST_FLOPS]
    for key, what in (
        ("over_products", "one large product"),
        ("over_own_products", "products of as many rows"),
    ):
        worst = max(row[key]["median"] for row in heavy) if heavy else 0.0
        claim(f"slowest scale of >= 1 GFLOP / FLOPs at the rate of {what} <= 1.3", worst, worst <= 1.3)
    ratio, speed = cube["ratio"]["median"], cube["coarse_speed"]["median"]
    claim("six faces together / six single runs <= 1", ratio, ratio <= 1.0)
    claim("scales 0 to 4: six single runs / together >= 1.5", speed, speed >= 1.5)
    for name, row in results["memory"].items():
        claim(f"{name}: peak / (weights + cache) <= 1.2", row["ratio"], row["ratio"] <= 1.2)
    return made


def show(results: dict) -> None:
    def line(name: str, row: dict, unit: str) -> None:
        print(f"{name:34}{row['median']:11.3f} [{row['low']:10.3f},{row['high']:10.3f}] {unit}")

    single, cube = results["single"], results["cube"]
    print(f"\none face, {single['gflop']:.0f} GFLOP")
    for name, key in (("ours", "ours_ms"), ("official", "official_ms"), ("  ratio", "ratio")):
        if key in single:
            line(name, single[key], "×" if key == "ratio" else "ms")
    line("text, of ours", single["text_ms"], "ms")
    line("large matrix product", single["gemm_gflops"], "GFLOP/s")
    print(
        f"\n{'side':>6}{'GFLOP':>9}{'ours ms':>10}{'official':>10}{'× floor':>9}{'× own floor':>13}{'six: speed':>12}"
    )
    for row, speed in zip(single["scales"], cube["scale_speed"], strict=True):
        official = row.get("official_ms", {"median": float("nan")})["median"]
        print(
            f"{row['side']:6}{row['gflop']:9.2f}{row['ms']['median']:10.2f}{official:10.2f}"
            f"{row['over_products']['median']:9.2f}{row['over_own_products']['median']:13.2f}{speed['median']:12.2f}"
        )
    print()
    line("six faces together", cube["together_ms"], "ms")
    line("six single runs", cube["singles_ms"], "ms")
    line("  ratio", cube["ratio"], "×")
    line("  speed over scales 0 to 4", cube["coarse_speed"], "×")
    for name, row in results["memory"].items():
        sizes = ", ".join(f"{key} {row[key] / 2**20:.0f}" for key in ("peak", "weights", "cache"))
        print(f"{name}: MB of {sizes}")
    for name, row in results["compared"].items():
        print(f"{name}: {row}")
    for claim, outcome in results["claims"].items():
        print(f"{claim}: {outcome['value']:.4f} {'yes' if outcome['holds'] else 'NO'}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, help="a checkout of github.com/Davinci-XLab/STAR-T2I")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of one face")
    parser.add_argument("--cube-rounds", type=int, default=7, help="rounds of six faces")
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=sorted(NOW), default="wall", help="cpu: for a busy machine, --threads 1"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "star.json")
    return parser.parse_args()


def machine(options: argparse.Namespace) -> dict:
    given = {
        name: getattr(options, name)
        for name in ("threads", "clock", "rounds", "cube_rounds", "depth", "width")
    }
    return {"cpu": platform.processor() or platform.machine(), "torch": torch.__version__, **given}


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    CLOCK[0] = options.clock
    results: dict = {"machine": machine(options)}
    sizes = (options.depth, options.width)
    results["memory"] = {
        "one face": alone(peak_of, *sizes, 1, options.threads),
        "six faces": alone(peak_of, *sizes, FACES, options.threads),
    }
    ours, official = Ours(*sizes), None
    mine = ours.trace()
    results["compared"] = {"six faces with one": compare(mine, ours.trace(FACES))}
    if options.official is None:
        results["skipped"] = NO_CHECKOUT
        print(f"not compared with the official implementation: {NO_CHECKOUT}")
    else:
        official = Official(options.official, ours)
        results["compared"]["official with ours"] = compare(mine, official.trace(mine.codes))
    results["single"] = measure_single(ours, official, options.rounds)
    results["cube"] = measure_cube(ours, options.cube_rounds)
    results["claims"] = claims(results)
    show(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
