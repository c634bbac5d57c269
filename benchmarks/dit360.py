"""Our sampling loop and our loader against diffusers', on the same weights.

    python -m benchmarks.dit360 [--rounds 21] [--loads 5] [--threads 2] [--out RESULT.json]

Run it from the repository root. The loop: `engine.sample` against `FluxPipeline` with the same transformer object, noise,
embeddings, steps and number of tokens, without text encoding and VAE on either side; the results are compared first. The
loader: a file with BFL keys, one double and one single block of FLUX's width in bfloat16, read by `load_part` and by
`from_single_file` with a local configuration, every load in a process of its own. Claims: the loop is no slower beyond the
interval of the ratio, loading takes less time and less memory.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import panodiff_core as pano
from tests.tiny_model import TRANSFORMER, build_tiny_model

from .sampling import race
from .summary import interval

WIDE = {
    "num_layers": 2,
    "num_single_layers": 4,
    "attention_head_dim": 64,
    "num_attention_heads": 8,
    "axes_dims_rope": [16, 24, 24],
}
"""Random weights of width 512."""
FLUX = {
    **TRANSFORMER,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "axes_dims_rope": [16, 56, 56],
}
"""FLUX.1-dev with one block of each kind."""
LOADERS = ("panodiff", "diffusers")
FIGURES = (
    "seconds_to_return",
    "seconds_to_weights_in_memory",
    "peak_mb_at_return",
    "peak_mb_with_weights_in_memory",
    "mb_of_loading",
)


# ---- the loop -------------------------------------------------------------------------------------------------


def pipeline_of(engine):
    """diffusers' own pipeline around the engine's transformer, with nothing else loaded."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(engine.folder / "scheduler")
    absent = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipeline = FluxPipeline(scheduler=scheduler, transformer=engine.transformer, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def measure_loop(engine, options: argparse.Namespace, height: int) -> dict:
    """Milliseconds of both loops in turn; padding is off, as diffusers' pipeline has none."""
    from panodiff_core.layers.ring import pack

    condition = engine.encode("a calm sea at sunset", prompt_prefix="")
    pipeline, device = pipeline_of(engine), engine.transformer.device
    shape = (1, engine.latent_channels, height // engine.vae_factor, 2 * height // engine.vae_factor)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    text, pooled = (x.to(device, engine.transformer.dtype) for x in (condition.text, condition.pooled))
    packed = pack(noise).to(device)

    def ours():
        return engine.sample(
            condition, latents=noise, steps=options.steps, guidance=2.8, cfg=1.0, padding=0, roll="off"
        )

    @torch.no_grad()
    def theirs():
        return pipeline(
            prompt_embeds=text,
            pooled_prompt_embeds=pooled,
            latents=packed,
            height=height,
            width=2 * height,
            num_inference_steps=options.steps,
            guidance_scale=2.8,
            output_type="latent",
            return_dict=False,
        )[0]

    difference = float((pack(ours()) - theirs().float().cpu()).abs().max())
    mine, other = race(ours, theirs, options.rounds, device)
    return {
        "parameters": sum(p.numel() for p in engine.transformer.parameters()),
        "width": engine.transformer.inner_dim,
        "tokens": packed.shape[1] + text.shape[1],
        "steps": options.steps,
        "largest_difference": difference,
        "panodiff_ms": interval(mine),
        "diffusers_ms": interval(other),
        "ratio": interval([a / b for a, b in zip(mine, other, strict=True)]),
    }


def measure_loops(options: argparse.Namespace) -> dict:
    small = pano.load("dit360", device="cpu", offload="none")
    rows = {"small model": measure_loop(small, options, small.config.defaults.height)}
    with tempfile.TemporaryDirectory() as folder:
        wide = build_tiny_model(Path(folder) / "wide", kind="flux", transformer=WIDE)
        engine = pano.load("dit360", wide, device="cpu", offload="none")
        rows["random weights of width 512"] = measure_loop(engine, options, small.config.defaults.height)
    return rows


# ---- the loader -----------------------------------------------------------------------------------------------


def bfl_shapes(width: int, text: int, pooled: int, head: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a BFL file with one block of each kind."""
    linear = {"img_in": (width, channels), "txt_in": (width, text)}
    for name, size in (("time_in", 256), ("vector_in", pooled), ("guidance_in", 256)):
        linear |= {f"{name}.in_layer": (width, size), f"{name}.out_layer": (width, width)}
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}"
        linear |= {
            f"{block}_mod.lin": (6 * width, width),
            f"{block}_attn.qkv": (3 * width, width),
            f"{block}_attn.proj": (width, width),
            f"{block}_mlp.0": (4 * width, width),
            f"{block}_mlp.2": (width, 4 * width),
        }
    linear |= {
        "single_blocks.0.modulation.lin": (3 * width, width),
        "single_blocks.0.linear1": (7 * width, width),
        "single_blocks.0.linear2": (width, 5 * width),
        "final_layer.linear": (channels, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    shapes = {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    for block in ("double_blocks.0.img_attn", "double_blocks.0.txt_attn", "single_blocks.0"):
        shapes |= {f"{block}.norm.{kind}_norm.scale": (head,) for kind in ("query", "key")}
    return shapes


def write_flux(path: Path) -> None:
    """One file of about 1 GB with random bfloat16 weights, and the configuration beside it."""
    from safetensors.torch import save_file

    width, head = FLUX["attention_head_dim"] * FLUX["num_attention_heads"], FLUX["attention_head_dim"]
    sizes = (width, FLUX["joint_attention_dim"], FLUX["pooled_projection_dim"], head, FLUX["in_channels"])
    pool = torch.randn(2**24, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    tensors = {}
    for name, shape in bfl_shapes(*sizes).items():
        count = math.prod(shape)
        tensors[name] = pool.repeat(-(-count // len(pool)))[:count].view(shape).contiguous()
    save_file(tensors, path)
    (path.parent / "config.json").write_text(json.dumps(FLUX), encoding="utf-8")


def load_once(loader: str, path: Path, threads: int) -> dict:
    """Load in this process: seconds without imports, peak memory, a digest of the weights.

    Both loaders map the file, and mapped weights that nobody has looked at are not in memory. So time and memory are
    taken twice: when the loader returns, and when every weight has been read once.
    """
    torch.set_num_threads(threads)
    import accelerate  # noqa: F401  both import it while loading; imports are not what is measured
    import safetensors.torch  # noqa: F401
    from diffusers import FluxTransformer2DModel

    from panodiff_core.engines.dit360.checkpoint import load_part

    FluxTransformer2DModel.from_config({**FLUX, "num_attention_heads": 1, "num_single_layers": 1})
    before = peak_mb()
    start = time.perf_counter()
    if loader == "panodiff":
        module = load_part(path, "transformer", torch.bfloat16, FLUX)
    else:
        module = FluxTransformer2DModel.from_single_file(
            str(path), config=str(path.parent), torch_dtype=torch.bfloat16
        )
    returned = time.perf_counter() - start, peak_mb()
    for parameter in module.parameters():
        parameter.detach().amax()
    read = time.perf_counter() - start, peak_mb()
    # What follows is not measured: both must hold the same numbers.
    digest = sum(float(p.detach().double().abs().sum()) for _, p in sorted(module.named_parameters()))
    return {
        "seconds_to_return": returned[0],
        "seconds_to_weights_in_memory": read[0],
        "peak_mb_at_return": returned[1],
        "peak_mb_with_weights_in_memory": read[1],
        "mb_of_loading": read[1] - before,
        "digest": digest,
        "dtypes": sorted({str(p.dtype) for p in module.parameters()}),
    }


def peak_mb() -> float:
    """Largest resident set of this process so far, in MB (2²⁰ bytes); mapped file pages count."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def run_self(options: argparse.Namespace, *arguments: str) -> str:
    """What this file prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.dit360", "--threads", str(options.threads), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure_loads(options: argparse.Namespace) -> dict:
    runs = {loader: [] for loader in LOADERS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flux.safetensors"
        # Not in this process: a child's peak memory starts from its parent's.
        run_self(options, "--write", str(path))
        size = path.stat().st_size / 2**20
        for turn in range(-1, options.loads):  # the first round fills the page cache and does not count
            for loader in LOADERS if turn % 2 else reversed(LOADERS):
                run = json.loads(run_self(options, "--load", loader, str(path)).splitlines()[-1])
                if turn >= 0:
                    runs[loader].append(run)
    digests = {run["digest"] for loader in LOADERS for run in runs[loader]}
    if len(digests) != 1:
        raise SystemExit(f"the loaders do not agree on the weights: {digests}")
    rows = {
        loader: {name: interval([run[name] for run in runs[loader]]) for name in FIGURES}
        for loader in LOADERS
    }
    pairs = list(zip(runs["panodiff"], runs["diffusers"], strict=True))
    rows["ratio"] = {name: interval([a[name] / b[name] for a, b in pairs]) for name in FIGURES}
    return {"file_mb": size, **rows}


# ---- the whole ------------------------------------------------------------------------------------------------


LOAD_CLAIMS = FIGURES[:4]


def claims(results: dict) -> dict:
    made = {}
    for name, row in results.get("loop", {}).items():
        ratio = row["ratio"]
        made[f"{name}: our loop not shown to be slower than diffusers'"] = {
            "value": ratio["median"],
            "holds": ratio["low"] <= 1.0,
        }
    # At return, as the question was put, and once every weight was read: only one of the two loaders reads them before.
    for name in LOAD_CLAIMS if "load" in results else ():
        ratio = results["load"]["ratio"][name]["median"]
        made[f"loading, {name}: ours / diffusers' < 1"] = {"value": ratio, "holds": ratio < 1.0}
    return made


def show(results: dict) -> None:
    def line(name: str, row: dict, unit: str) -> None:
        print(f"{name:44}{row['median']:10.3f} [{row['low']:9.3f},{row['high']:9.3f}] {unit}")

    for name, row in results.get("loop", {}).items():
        print(
            f"\n{name}: {row['tokens']} tokens, {row['steps']} steps, difference {row['largest_difference']:.1e}"
        )
        line("  panodiff", row["panodiff_ms"], "ms")
        line("  diffusers", row["diffusers_ms"], "ms")
        line("  ratio", row["ratio"], "×")
    for name in (*LOADERS, "ratio") if "load" in results else ():
        print(f"\nloading {results['load']['file_mb']:.0f} MB, {name}")
        for figure, row in results["load"][name].items():
            line(f"  {figure}", row, "")
    for claim, outcome in results["claims"].items():
        print(f"{claim}: {outcome['value']:.4f} {'yes' if outcome['holds'] else 'NO'}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21, help="pairs of loops")
    parser.add_argument("--loads", type=int, default=21, help="pairs of loads")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("loop", "load"), help="one half; the other keeps its last figures")
    parser.add_argument("--load", nargs=2, metavar=("LOADER", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "dit360.json")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.load:
        return print(json.dumps(load_once(options.load[0], Path(options.load[1]), options.threads)))
    if options.write:
        return write_flux(options.write)
    torch.set_num_threads(options.threads)
    results = {}
    if options.only and options.out.is_file():
        results = json.loads(options.out.read_text(encoding="utf-8"))
    results["machine"] = machine(options)
    if options.only != "loop":  # first, while this process is small
        results["load"] = measure_loads(options)
    if options.only != "load":
        results["loop"] = measure_loops(options)
    results["claims"] = claims(results)
    show(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return None


def machine(options: argparse.Namespace) -> dict:
    import diffusers
    import safetensors

    return {
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "safetensors": safetensors.__version__,
        "threads": options.threads,
        "rounds": options.rounds,
        "loads": options.loads,
    }


if __name__ == "__main__":
    main()
