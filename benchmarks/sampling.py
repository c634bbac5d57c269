"""Text to panorama: time per step and in total, the loop's own cost, and ring-aware against plain decoding.

    python -m benchmarks.sampling [--model PATH] [--rounds 9] [--threads 2] [--out RESULT.json]

Run it from the repository root. Without --model it takes the small model that ships with PanoDiff. Three
claims: the sampler without its network calls (replayed, and timed in the run) costs at most 3 % of it, ring-aware
decoding costs at most 1.1 × plain decoding, and the network's distance from the machine's own matrix product
rate is shown.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import panodiff_core as pano

from .summary import interval

PROMPT = "a calm sea at sunset"


NOW = {"wall": time.perf_counter, "cpu": time.process_time}
CLOCK = ["wall"]


def clock(work: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one call, the device's queue included."""
    now = NOW[CLOCK[0]]
    start = now()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (now() - start)


def race(a: Callable, b: Callable, rounds: int, device: torch.device) -> tuple[list[float], list[float]]:
    """Both in turn, `rounds` times, whoever was second goes first next; one round beforehand does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(-1, rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            took = clock((a, b)[which], device)
            if turn >= 0:
                times[which].append(took)
    return times


def record_forwards(engine, run: Callable[[], object]) -> list[dict]:
    """The inputs of every network call that `run` makes."""
    calls: list[dict] = []
    handle = engine.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(dict(kwargs)), with_kwargs=True
    )
    try:
        run()
    finally:
        handle.remove()
    return calls


def share_outside_calls(engine, run: Callable[[], object], device: torch.device) -> float:
    """The share of one run that is not spent in the network's own calls, timed in that very run."""
    starts: list[float] = []
    spans: list[float] = []
    now = NOW[CLOCK[0]]

    def enter(*_):
        starts.append(now())

    def leave(*_):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spans.append(now() - starts.pop())

    handles = [
        engine.transformer.register_forward_pre_hook(enter),
        engine.transformer.register_forward_hook(leave),
    ]
    try:
        total = clock(run, device) / 1e3
    finally:
        for handle in handles:
            handle.remove()
    return (total - sum(spans)) / total


def measure_loop(engine, condition, options: dict, rounds: int, device: torch.device) -> dict:
    """The sampler against its own network calls: replayed in turn with it, and timed inside it.

    The replay also sees what the sampler does to the caches, but compares two runs of seconds each, so that the
    machine's noise is many times the share; the timing inside has no such noise.
    """

    def run():
        return engine.sample(condition, **options)

    calls = record_forwards(engine, run)

    @torch.no_grad()
    def replay():
        for call in calls:
            engine.transformer(**call)

    loop, network = race(run, replay, rounds, device)
    share = [(a - b) / a for a, b in zip(loop, network, strict=True)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        engine.transformer(**calls[0])
    return {
        "calls": len(calls),
        "tokens": calls[0]["hidden_states"].shape[1] + calls[0]["encoder_hidden_states"].shape[1],
        "rows": len(calls[0]["hidden_states"]),
        "ms": interval(loop),
        "ms_per_call": interval([t / len(calls) for t in network]),
        "loop_share": interval(share),
        "loop_share_in_run": interval([share_outside_calls(engine, run, device) for _ in range(rounds)]),
        "gflop_per_call": counter.get_total_flops() / 1e9,
    }


def measure_decode(engine, latents, rounds: int, device: torch.device) -> dict:
    ring, plain = race(
        lambda: engine.decode(latents), lambda: engine.decode(latents, ring=False), rounds, device
    )
    ratio = [a / b for a, b in zip(ring, plain, strict=True)]
    return {"ring_ms": interval(ring), "plain_ms": interval(plain), "ratio": interval(ratio)}


def gemm_rate(engine, rows: int, device: torch.device) -> float:
    """GFLOP/s of one matrix product with the shape of the network's widest layer."""
    width, dtype = engine.transformer.inner_dim, engine.transformer.dtype
    a = torch.randn(rows, width, device=device, dtype=dtype)
    b = torch.randn(width, 4 * width, device=device, dtype=dtype)
    times = [clock(lambda: a @ b, device) for _ in range(30)]
    return 2 * rows * width * 4 * width / (min(times) * 1e6)


def show(results: dict) -> None:
    def line(name: str, row: dict, unit: str, scale: float = 1.0) -> None:
        m, low, high = (scale * row[key] for key in ("median", "low", "high"))
        print(f"{name:46}{m:10.2f} [{low:8.2f},{high:8.2f}] {unit}")

    print(f"\n{'':46}{'median [95 %]':>30}")
    line("encode the prompt", results["encode_ms"], "ms")
    for name, row in results["sample"].items():
        line(f"sample, {name}: {row['calls']} calls of {row['rows']}×{row['tokens']} tokens", row["ms"], "ms")
        line("  per call, replayed", row["ms_per_call"], "ms")
        line("  sampler without its calls, replayed", row["loop_share"], "%", 100.0)
        line("  sampler without its calls, timed in the run", row["loop_share_in_run"], "%", 100.0)
        print(
            f"  floor by matrix products {row['floor_ms']:.1f} ms per call; reached {100 * row['of_floor']:.0f} %"
        )
    line("decode, ring-aware", results["decode"]["ring_ms"], "ms")
    line("decode, plain", results["decode"]["plain_ms"], "ms")
    line("  ring-aware / plain", results["decode"]["ratio"], "×")
    line("prompt to panorama", results["total_ms"], "ms")
    for claim, outcome in results["claims"].items():
        print(f"{claim}: {outcome['value']:.4f} {'yes' if outcome['holds'] else 'NO'}")


def claims(results: dict) -> dict:
    made = {}
    for name, row in results["sample"].items():
        for how, key in (("replayed", "loop_share"), ("timed in the run", "loop_share_in_run")):
            share = row[key]["median"]
            made[f"{name}: sampler without its calls, {how} <= 0.03"] = {
                "value": share,
                "holds": share <= 0.03,
            }
    ratio = results["decode"]["ratio"]["median"]
    made["ring-aware / plain decoding <= 1.1"] = {"value": ratio, "holds": ratio <= 1.1}
    return made


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model folder; default: the small model")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument(
        "--clock",
        choices=sorted(NOW),
        default="wall",
        help="cpu: this process's own time, for a busy machine",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sampling.json")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    CLOCK[0] = options.clock
    engine = pano.load("dit360", options.model, device=options.device, dtype=options.dtype, offload="none")
    with engine.placement.use("transformer", engine.stages["transformer"]) as device:
        pass
    condition = engine.encode(PROMPT, negative="", prompt_prefix="")
    choice = {name: getattr(options, name) for name in ("steps", "height") if getattr(options, name)}
    variants = {
        "padding": {**choice, "cfg": 1.0, "roll": "off"},
        "padding and roll": {**choice, "cfg": 1.0, "roll": "alternate"},
        "true cfg": {**choice, "cfg": 2.0, "roll": "off"},
    }
    results = {"machine": machine(options, device, engine)}
    encodes = [clock(lambda: engine.encode(PROMPT), device) for _ in range(options.rounds)]
    results["encode_ms"] = interval(encodes)
    results["sample"] = {
        name: measure_loop(engine, condition, variant, options.rounds, device)
        for name, variant in variants.items()
    }
    for row in results["sample"].values():
        rate = gemm_rate(engine, row["rows"] * row["tokens"], device)
        row["gemm_gflops"], row["floor_ms"] = rate, 1e3 * row["gflop_per_call"] / rate
        row["of_floor"] = row["floor_ms"] / row["ms_per_call"]["median"]
    latents = engine.sample(condition, **choice)
    results["decode"] = measure_decode(engine, latents, 2 * options.rounds, device)

    def everything():
        engine.decode(engine.sample(engine.encode(PROMPT), **choice))

    results["total_ms"] = interval([clock(everything, device) for _ in range(max(3, options.rounds // 3))])
    results["claims"] = claims(results)
    show(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def machine(options: argparse.Namespace, device: torch.device, engine) -> dict:
    defaults = engine.config.defaults
    return {
        "cpu": platform.processor() or platform.machine(),
        "device": str(device),
        "torch": torch.__version__,
        "threads": options.threads,
        "rounds": options.rounds,
        "clock": options.clock,
        "dtype": str(engine.transformer.dtype),
        "height": options.height or defaults.height,
        "steps": options.steps or defaults.steps,
        "parameters": sum(p.numel() for p in engine.transformer.parameters()),
    }


if __name__ == "__main__":
    main()
