"""FLUX's size on a GPU: time per step, share of the matrix product rate, and memory against the estimate.

    python -m benchmarks.gpu [--steps 8] [--out RESULT.json]

Run it from the repository root on a machine with a GPU (an 80 GB card for all rows; what does not fit becomes a row that
says so). The weights are random, of FLUX.1-dev's shape: built without memory, then filled one tensor at a time. The
default is one picture of 1024x2048 with one padding column and 512 text tokens. Random weights say nothing about
quality, so step caching is timed as a step that is taken from the cache, not as a number of steps saved.

It has not been run at this size by its authors, who had no GPU: no figures are published from it. What they ran is the
smoke test, on a CPU, which shows that every row can be made:

    python -m benchmarks.gpu --width 256 --height 256 --device cpu --blocks 1 1 --steps 2
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from panodiff_core.autoencoders.coding import plan_coding
from panodiff_core.engines.dit360.config import SamplingOptions
from panodiff_core.engines.dit360.model import FluxNetwork, RingGrid, build_transformer
from panodiff_core.engines.dit360.model.memory import forward_bytes
from panodiff_core.engines.dit360.sampling.step_cache import step_cache
from panodiff_core.runtime.errors import InputError, MemoryLimitError
from panodiff_core.runtime.memory import MODES, estimate, measure
from panodiff_core.runtime.placement import Holder, choose_placement, parse_device
from panodiff_core.runtime.storage import STORAGES, parse_storage, store

HEAD, FACTOR, TEXT, POOLED = 128, 8, 4096, 768
VAE_CHANNELS, SMALL_VAE_CHANNELS = [128, 256, 512, 512], [32, 32, 64, 64]
FULL_WIDTH = 3072


@dataclass(frozen=True)
class Scene:
    """One setting of the benchmark: sizes, device, and how often."""

    width: int
    height: int
    blocks: tuple[int, int]
    text_length: int
    steps: int
    device: torch.device
    dtype: torch.dtype

    @property
    def options(self) -> SamplingOptions:
        """A picture of twice the height's width, one padding column, no second branch."""
        return SamplingOptions(height=self.height, width=2 * self.height, padding=1, cfg=1.0)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The latents'."""
        return 1, 16, self.height // FACTOR, 2 * self.height // FACTOR

    @property
    def tokens(self) -> int:
        """What enters the blocks, text and padding included."""
        _, _, height, width = self.shape
        return height // 2 * (width // 2 + 2) + self.text_length

    @property
    def flop(self) -> float:
        """Of one call: every block has 12 D² weights per token of its streams, and attention over all tokens."""
        blocks = sum(self.blocks)
        return blocks * (24 * self.tokens * self.width**2 + 4 * self.tokens**2 * self.width)


def random_transformer(scene: Scene) -> nn.Module:
    """FLUX.1-dev's topology with random weights, on the CPU; small ones, so that nothing overflows."""
    from accelerate import init_empty_weights

    config = {
        "num_layers": scene.blocks[0],
        "num_single_layers": scene.blocks[1],
        "num_attention_heads": scene.width // HEAD,
        "joint_attention_dim": TEXT,
        "pooled_projection_dim": POOLED,
        "guidance_embeds": True,
    }
    with init_empty_weights(include_buffers=False):
        network = build_transformer(config)
    return fill(network, scene)


def random_vae(scene: Scene) -> nn.Module:
    """FLUX's autoencoder with random weights, a narrow one below FLUX's width."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL

    with init_empty_weights(include_buffers=False):
        vae = AutoencoderKL(
            latent_channels=16,
            block_out_channels=VAE_CHANNELS if scene.width >= FULL_WIDTH else SMALL_VAE_CHANNELS,
            layers_per_block=2,
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        )
    return fill(vae, scene)


def fill(module: nn.Module, scene: Scene) -> nn.Module:
    """Random numbers, drawn on the benchmark's device and kept on the CPU."""
    state = {
        name: torch.empty(t.shape, device=scene.device, dtype=scene.dtype).normal_(0.0, 0.02).cpu()
        for name, t in module.state_dict().items()
    }
    module.load_state_dict(state, strict=True, assign=True)
    return module.train(False).requires_grad_(False)


def clock(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's queue included."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def gemm_rate(scene: Scene) -> float:
    """FLOP/s of one product with the shape of a block's widest layer."""
    a = torch.randn(scene.tokens, scene.width, device=scene.device, dtype=scene.dtype)
    b = torch.randn(scene.width, 4 * scene.width, device=scene.device, dtype=scene.dtype)
    best = min(clock(lambda: a @ b, scene.device) for _ in range(30))
    return 2 * scene.tokens * scene.width * 4 * scene.width / best


class Steps:
    """Calls of the network as the sampler makes them, on one random state and condition."""

    def __init__(self, scene: Scene, network: nn.Module, device: torch.device) -> None:
        grid = RingGrid(*scene.shape[2:], 1, device=device)
        self.device = device
        self.call = FluxNetwork(network, grid.ids, scene.text_length)
        self.state = grid.enter(torch.randn(scene.shape, device=device))
        self.condition = (
            torch.randn(1, scene.text_length, TEXT, device=device, dtype=scene.dtype),
            torch.randn(1, POOLED, device=device, dtype=scene.dtype),
            torch.full((1,), 2.8, device=device),
        )

    @torch.no_grad()
    def times(self, count: int, network: Callable | None = None) -> list[float]:
        """Seconds per call; one call before them does not count, since it fills caches and traces hooks."""
        run = network or self.call
        levels = torch.linspace(1.0, 0.1, count + 1).tolist()
        return [clock(lambda s=s: run(self.state, s, self.condition), self.device) for s in levels][1:]


def peak_bytes(device: torch.device) -> int | None:
    """The most that tensors held on the device since `reset_peak`; unknown but for CUDA."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def reset_peak(device: torch.device) -> None:
    """Free what is left over and begin to count anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def row(scene: Scene, what: str, times: list[float], rate: float, needed: int | None) -> dict:
    """One line of the table."""
    step = statistics.median(times)
    return {
        "what": what,
        "step_s": step,
        "share_of_gemm_rate": scene.flop / step / rate,
        "peak_bytes": peak_bytes(scene.device),
        "estimate_bytes": needed,
    }


def measure_placements(scene: Scene, storage: str | None, rate: float) -> Iterator[dict]:
    """Every placement with one storage type; what cannot be done is a row that says why."""
    label = storage or str(scene.dtype).removeprefix("torch.")
    try:
        parse_storage(storage, scene.dtype, scene.device)
    except InputError as error:
        yield {"what": label, "error": str(error)}
        return
    network = random_transformer(scene)
    if storage is not None:
        store(network, storage, scene.dtype, scene.device)
    holder = Holder(transformer=network)
    for mode in MODES[::-1]:  # "none" last: it leaves the weights on the device
        what = f"{label}, offload {mode}"
        try:
            parse_storage(storage, scene.dtype, scene.device, mode)
            yield measure_placement(scene, holder, mode, what, rate)
        except (InputError, MemoryLimitError) as error:
            yield {"what": what, "error": str(error)}
    if storage is None:
        yield from measure_levers(scene, holder, label, rate)


def measure_placement(scene: Scene, holder: Holder, mode: str, what: str, rate: float) -> dict:
    """Time and memory of one mode."""
    work = forward_bytes(holder.transformer, scene.shape, scene.text_length, scene.options)
    prefetch = scene.device.type == "cuda"
    expected = estimate({"transformer": measure("transformer", holder, work, prefetch=prefetch)}, mode)
    placement = choose_placement({"transformer": holder}, scene.device, mode)
    reset_peak(scene.device)
    with placement.use("transformer", holder, work) as device:
        times = Steps(scene, holder.transformer, device).times(scene.steps)
    return row(scene, what, times, rate, expected.needed)


def measure_levers(scene: Scene, holder: Holder, label: str, rate: float) -> Iterator[dict]:
    """What makes a resident step faster: a compiled network, and steps from the cache."""
    network = holder.transformer
    steps = Steps(scene, network, scene.device)
    reset_peak(scene.device)
    with step_cache(network, 1.0) as cache:
        times = steps.times(scene.steps, cache.keyed(steps.call))
    yield row(scene, f"{label}, a step from the cache", times, rate, None)
    plain = network.forward
    network.forward = torch.compile(plain)
    try:
        steps.times(1)
        reset_peak(scene.device)
        yield row(scene, f"{label}, compiled", steps.times(scene.steps), rate, None)
    except RuntimeError as error:  # the compiler needs a toolchain that is not everywhere
        yield {"what": f"{label}, compiled", "error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    finally:
        network.forward = plain


@torch.no_grad()
def measure_decode(scene: Scene) -> Iterator[dict]:
    """Decoding a picture whole and in bands, and its memory beside the estimate."""
    vae = random_vae(scene)
    height, width = scene.options.height, scene.options.width
    weights = sum(p.numel() * p.element_size() for p in vae.parameters())
    vae.to(scene.device)
    for tiling in ("off", "global"):
        coding = plan_coding(vae, "decode", height, width, tiling=tiling)
        latents, pixels = torch.randn(scene.shape), torch.empty(1, 3, height, width)
        times = []
        for _ in range(3):
            reset_peak(scene.device)
            times.append(clock(lambda c=coding, x=latents, y=pixels: c.run(x, y, scene.device), scene.device))
        yield {
            "what": f"decode, tiling {tiling}",
            "step_s": statistics.median(times[1:]),
            "peak_bytes": peak_bytes(scene.device),
            "estimate_bytes": weights + coding.bytes,
        }


def table(rows: list[dict]) -> str:
    """The rows in Markdown."""

    def size(count: int | None) -> str:
        return "" if count is None else f"{count / 2**30:.2f}"

    lines = ["| | s per step | of GEMM rate | peak GiB | estimate GiB |", "|---|---|---|---|---|"]
    for each in rows:
        if "error" in each:
            lines.append(f"| {each['what']} | {each['error']} | | | |")
            continue
        share = each.get("share_of_gemm_rate")
        cells = (
            each["what"],
            f"{each['step_s']:.4f}",
            "" if share is None else f"{100 * share:.0f} %",
            size(each["peak_bytes"]),
            size(each["estimate_bytes"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--width", type=int, default=FULL_WIDTH, help=f"of the transformer, a multiple of {HEAD}"
    )
    parser.add_argument("--height", type=int, default=1024, help="of the picture, which is twice as wide")
    parser.add_argument("--blocks", type=int, nargs=2, default=(19, 38), metavar=("DOUBLE", "SINGLE"))
    parser.add_argument("--text-length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8, help="calls per row; the median counts")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    return parser.parse_args()


def main() -> None:
    options = parse()
    device = parse_device(options.device)
    scene = Scene(
        options.width,
        options.height,
        tuple(options.blocks),
        options.text_length,
        options.steps,
        device,
        torch.bfloat16,
    )
    torch.manual_seed(0)
    rate = gemm_rate(scene)
    rows = []
    for storage in (None, *STORAGES[1:]):  # "dtype" is the same here as None
        rows += measure_placements(scene, storage, rate)
        gc.collect()
    rows += measure_decode(scene)
    print(table(rows))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    head = {
        "device": name,
        "torch": torch.__version__,
        "gemm_tflops": rate / 1e12,
        "flop_per_step": scene.flop,
    }
    sizes = {"width": scene.width, "height": scene.height, "blocks": scene.blocks, "tokens": scene.tokens}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**head, **sizes, "rows": rows}, indent=1, ensure_ascii=False)
    options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
