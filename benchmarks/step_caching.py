"""Step caching on the small model: how many transformer blocks it skips, and what that does to picture and seam.

    python -m benchmarks.step_caching [--model PATH] [--steps 24] [--threads 2] [--out RESULT.json]

Run it from the root of the repository. Every prompt is sampled with the same noise without a cache, with several
thresholds, and, for comparison, without a cache in fewer steps. The change is that of the decoded picture against the
one without a cache. Block calls are counted inside the blocks; times are not taken, since what is skipped is known.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

import panodiff_core as pano

PROMPTS = (
    "a calm sea at sunset with sailing boats",
    "a snowy plain at dusk with pine trees",
    "a green meadow at noon under a cloudy sky",
    "a city at night",
)
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3)


def variants(steps: int) -> dict[str, dict]:
    """Sampling options by name; the rest is the model's default."""
    made = {}
    for roll in ("off", "late"):
        made[f"roll {roll}"] = {"roll": roll}
        made |= {f"roll {roll}, cache {t:g}": {"roll": roll, "step_cache": t} for t in THRESHOLDS}
    made["roll late, cache 0.1, two calls"] = {"roll": "late", "step_cache": 0.1, "true_cfg_batched": False}
    for fewer in (2 * steps // 3, steps // 2):
        made[f"roll late, {fewer} steps"] = {"roll": "late", "steps": fewer}
    return made


@contextmanager
def block_calls(transformer) -> Iterator[list[int]]:
    """The rows of every block that computes while the context lasts, noted by its attention."""
    rows: list[int] = []

    def note(module, args, kwargs) -> None:
        rows.append(len(kwargs["hidden_states"]))

    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    hooks = [block.attn.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


def make(engine, condition, seed: int, options: dict) -> tuple[Tensor, int]:
    """(pixels, rows of all block calls)."""
    with block_calls(engine.transformer) as rows:
        latents = engine.sample(condition, seed=seed, **options)
    return engine.decode(latents).pixels, sum(rows)


def compare(pixels: Tensor, reference: Tensor) -> dict[str, float]:
    """Mean |difference| in levels of 255, and PSNR in dB (infinite for equal pictures is None)."""
    error = float((pixels - reference).square().mean())
    return {
        "levels": 255.0 * float((pixels - reference).abs().mean()),
        "psnr_db": None if error == 0.0 else -10.0 * math.log10(error),
    }


def measure(engine, options: argparse.Namespace) -> dict:
    rows: dict[str, list[dict]] = {}
    for seed, prompt in enumerate(PROMPTS):
        condition = engine.encode(prompt, negative="")
        references: dict[str, tuple[Tensor, int]] = {}
        for name, choice in variants(options.steps).items():
            pixels, calls = make(engine, condition, seed, {"steps": options.steps, **choice})
            picture, full = references.setdefault(choice["roll"], (pixels, calls))
            row = {"skipped": 1.0 - calls / full, **compare(pixels, picture)}
            row["seam_ratio"] = pano.seam_report(pixels).ratio_1
            rows.setdefault(name, []).append(row)
    return {name: {"per_prompt": each, "mean": mean(each)} for name, each in rows.items()}


def mean(rows: list[dict]) -> dict[str, float | None]:
    """Means over the prompts."""
    return {
        key: None if any(row[key] is None for row in rows) else sum(row[key] for row in rows) / len(rows)
        for key in rows[0]
    }


def claims(results: dict) -> dict:
    """Caching leaves the seam as it was, and changes a picture less than taking fewer steps does."""
    made = {}
    for roll in ("off", "late"):
        base = results[f"roll {roll}"]["mean"]["seam_ratio"]
        worst = max(
            abs(row["mean"]["seam_ratio"] - base)
            for name, row in results.items()
            if name.startswith(f"roll {roll}, c")
        )
        made[f"roll {roll}: seam ratio changes by <= 0.15"] = {"value": worst, "holds": worst <= 0.15}
    caches = [row["mean"] for name, row in results.items() if name.startswith("roll late, c")]
    for name, row in results.items():
        if not name.endswith(" steps"):
            continue
        skipped = row["mean"]["skipped"]
        near = max(
            (cache for cache in caches if cache["skipped"] <= skipped), key=lambda cache: cache["skipped"]
        )
        value = near["levels"] / row["mean"]["levels"]
        claim = f"change by the cache that skips {near['skipped']:.2f} ÷ by {name} ({skipped:.2f}) <= 1"
        made[claim] = {"value": value, "holds": value <= 1.0}
    return made


def show(results: dict) -> None:
    print(f"{'':34}{'blocks skipped':>15}{'change /255':>13}{'PSNR dB':>9}{'seam ratio':>12}")
    for name, row in results["variants"].items():
        m = row["mean"]
        psnr = "-" if m["psnr_db"] is None else f"{m['psnr_db']:.1f}"
        print(f"{name:34}{100 * m['skipped']:14.1f}%{m['levels']:13.2f}{psnr:>9}{m['seam_ratio']:12.3f}")
    for claim, outcome in results["claims"].items():
        print(f"{claim}: {outcome['value']:.3f} {'yes' if outcome['holds'] else 'NO'}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model folder; default: the small model")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "step_caching.json")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    engine = pano.load("dit360", options.model, device=options.device, offload="none")
    defaults = engine.config.defaults
    results = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "device": str(engine.placement.device),
            "torch": torch.__version__,
            "threads": options.threads,
            "dtype": str(engine.transformer.dtype),
        },
        "sampling": {"steps": options.steps, "height": defaults.height, "cfg": defaults.cfg},
        "prompts": PROMPTS,
        "variants": measure(engine, options),
    }
    results["claims"] = claims(results["variants"])
    show(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
