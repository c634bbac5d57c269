"""The second pass at twice the size, against pictures that are known at both sizes, and against other ways to do it.

    python -m benchmarks.upscale [--model PATH] [--worlds 6] [--threads 2] [--out RESULT.json]

Run it from the repository root. Worlds are rendered at the size the model makes and at twice that size; the small one,
through the autoencoder, is what a first pass would give, the large one the truth. Three claims: the second pass has more
detail than the enlarged picture, before and after the autoencoder; it is nearer to the truth than without putting back what
the small picture could hold, than other position ids, one tile for all and enlarged latents; and tiles leave no trace at
their borders.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

import panodiff_core as pano
from panodiff_core.data import worlds
from panodiff_core.engines.dit360.upscale import second_pass as passes
from panodiff_core.engines.dit360.upscale.tiles import plan_upscale, tile_shifts
from panodiff_core.io.images import save_panorama
from panodiff_core.layers.ring import image_ids
from panodiff_core.metrics.ring import column_steps

from .summary import interval

FACTOR = 2
LUMA = (0.299, 0.587, 0.114)


def energies(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Energy [B] along the rows between the poles' caps: in the upper half of what the small picture can hold, and
    beyond what it can hold at all."""
    luma = (pixels * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1)
    rows, waves = luma.shape[1], luma.shape[2] // 2
    power = torch.fft.rfft(luma[:, rows // 6 : -(rows // 6)]).abs().square().mean(1)
    top = waves // FACTOR
    return power[:, top // 2 : top].sum(1), power[:, top:].sum(1)


def placed_ids(id_scale: float) -> type:
    """Tiles whose ids say where they lie: on the trained grid (1/factor) or on the fine one (1). For tiles that stay."""

    class Placed(passes.TiledVelocity):
        def __init__(self, plan, padding, channels, bind, device, on_tile) -> None:
            super().__init__(plan, padding, channels, bind, device, on_tile)
            ids = image_ids(plan.rows.length // 2, plan.columns.length // 2, id_scale=id_scale, device=device)
            self.tiles = [replace(tile, predict=bind(ids[tile.places])) for tile in self.tiles]

    return Placed


def changed(**names: object) -> Callable[[], ExitStack]:
    """The second pass with some of its parts exchanged."""

    def enter() -> ExitStack:
        stack = ExitStack()
        for name, value in names.items():
            stack.enter_context(mock.patch.object(passes, name, value))
        return stack

    return enter


def enlarged_latents(engine, source: Tensor, factor: int, *_) -> Tensor:
    return passes.resize_sphere(source, factor)


def still(columns, steps: int) -> tuple[int, ...]:
    return (0,) * steps


def border_figures(pixels: Tensor, start: Tensor, borders: set[int], axis: int) -> dict[str, float]:
    """How pixel steps at tile borders compare with those at other multiples of 8 pixels, the VAE's own grid.

    Steps are sums over all pictures, relative to the enlarged picture's at the same place, so that what the pictures show
    does not count.
    """
    turn = (lambda x: x) if axis == 3 else (lambda x: x.transpose(2, 3))
    ratio = column_steps(turn(pixels)).sum(0) / column_steps(turn(start)).sum(0)
    length = len(ratio)
    at = {edge: float(ratio[(edge - 1) % length]) for edge in range(0, length, 8) if axis == 3 or edge}
    inside = torch.tensor([value for edge, value in at.items() if edge not in borders])
    edges = torch.tensor([at[edge] for edge in borders])
    limit = float(inside.quantile(0.95))
    return {
        "borders": len(borders),
        "mean_at_borders": float(edges.mean()),
        "mean_inside": float(inside.mean()),
        "percentile_95_inside": limit,
        "share_of_borders_above": float((edges > limit).float().mean()),
    }


def tile_borders(plan, shifts: tuple[int, ...], factor: int) -> tuple[set[int], set[int]]:
    """Pixel rows and columns at which a tile began or ended in any step."""
    rows = {factor * end for span in plan.rows.spans() for end in span} - {0, factor * plan.rows.length}
    width = factor * plan.columns.length
    columns = {
        factor * (end - 2 * shift) % width
        for shift in shifts
        for span in plan.columns.spans()
        for end in span
    }
    return rows, columns


def measure(engine, options: argparse.Namespace, folder: Path | None) -> dict:
    scenes = [worlds.sample_scene(seed, "held_out") for seed in range(options.worlds)]
    captions = [worlds.caption(scene, seed, "full").text for seed, scene in enumerate(scenes)]
    defaults = engine.config.defaults
    sizes = [(defaults.height, defaults.width), (FACTOR * defaults.height, FACTOR * defaults.width)]
    small, truth = (torch.stack([worlds.render_equirect(s, *size) for s in scenes]) for size in sizes)
    condition = engine.encode(captions, "")
    source = engine.encode_image(small)
    shape = [FACTOR * n for n in source.shape[2:]]
    pictures = {
        "bicubic": passes.resize_sphere(engine.decode(source).pixels, FACTOR),
        "bicubic, through the autoencoder": engine.decode(passes.enlarge(engine, source, FACTOR)).pixels,
        "truth, through the autoencoder": engine.decode(engine.encode_image(truth)).pixels,
    }
    ways = {
        "second pass": (changed(), {}),
        "nothing put back": (changed(), {"keep_layout": False}),
        "tiles that stay": (changed(tile_shifts=still), {}),
        "tiles that stay, ids of the sphere": (
            changed(tile_shifts=still, TiledVelocity=placed_ids(1 / FACTOR)),
            {},
        ),
        "tiles that stay, ids of the fine grid": (
            changed(tile_shifts=still, TiledVelocity=placed_ids(1.0)),
            {},
        ),
        "one tile": (changed(), {"tile": tuple(shape)}),
        "from enlarged latents": (changed(enlarge=enlarged_latents), {}),
    }
    seconds = {}
    for name, (enter, extra) in ways.items():
        begin = time.perf_counter()
        with enter():
            latents = engine.upscale(source, condition, factor=FACTOR, strength=options.strength, **extra)
        seconds[name] = (time.perf_counter() - begin) / options.worlds
        pictures[name] = engine.decode(latents).pixels
        print(f"{name}: {seconds[name]:.1f} s per picture", flush=True)
    results = {"ways": table(pictures, truth, seconds), "borders": {}}
    plan = plan_upscale(*shape, source.shape[2:])
    start = pictures["bicubic, through the autoencoder"]
    first = int(defaults.steps - min(defaults.steps * options.strength, defaults.steps))
    for name, law in (
        ("second pass", tile_shifts),
        ("nothing put back", tile_shifts),
        ("tiles that stay", still),
    ):
        rows, columns = tile_borders(plan, law(plan.columns, defaults.steps)[first:], engine.vae_factor)
        results["borders"][name] = {
            "columns": border_figures(pictures[name], start, columns, 3),
            "rows": border_figures(pictures[name], start, rows, 2),
        }
    if folder is not None:
        keep(folder, {**pictures, "truth": truth})
    return results


def table(pictures: dict[str, Tensor], truth: Tensor, seconds: dict[str, float]) -> dict:
    rows = {}
    exact, bicubic, encoded = (
        energies(x) for x in (truth, pictures["bicubic"], pictures["bicubic, through the autoencoder"])
    )
    for name, pixels in pictures.items():
        error = (pixels - truth).square().mean((1, 2, 3)).sqrt()
        mine = energies(pixels)
        rows[name] = {"rms_error": interval(error.tolist())}
        for band, k in (("upper half", 0), ("beyond", 1)):
            rows[name] |= {
                f"{band}, of the truth's": interval((mine[k] / exact[k]).tolist()),
                f"{band}, of bicubic's": interval((mine[k] / bicubic[k]).tolist()),
                f"{band}, of encoded bicubic's": interval((mine[k] / encoded[k]).tolist()),
            }
        if name in seconds:
            rows[name]["seconds_per_picture"] = seconds[name]
    return rows


def claims(results: dict) -> dict:
    ways, made = results["ways"], {}
    for other in ("bicubic's", "encoded bicubic's"):
        low = ways["second pass"][f"beyond, of {other}"]["low"]
        made[f"energy beyond the small picture's, of {other}, lower end > 1"] = {
            "value": low,
            "holds": low > 1,
        }
    error = ways["second pass"]["rms_error"]["median"]
    for other in (
        "nothing put back",
        "tiles that stay, ids of the sphere",
        "tiles that stay, ids of the fine grid",
        "one tile",
        "from enlarged latents",
    ):
        ratio = error / ways[other]["rms_error"]["median"]
        made[f"error of the second pass / {other} < 1"] = {"value": ratio, "holds": ratio < 1}
    for axis, row in results["borders"]["second pass"].items():
        value = row["mean_at_borders"] / row["percentile_95_inside"]
        made[f"{axis}: mean step at tile borders / 95th percentile inside <= 1"] = {
            "value": value,
            "holds": value <= 1,
        }
    share = results["borders"]["second pass"]["columns"]["share_of_borders_above"]
    made["columns: share of borders above that percentile <= 0.1"] = {"value": share, "holds": share <= 0.1}
    return made


def keep(folder: Path, pictures: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in pictures.items():
        for index, one in enumerate(pixels.clamp(0.0, 1.0)):
            save_panorama(one, folder / f"{index} {name}.png")


def show(results: dict) -> None:
    keys = ("rms_error", "upper half, of the truth's", "beyond, of the truth's", "beyond, of bicubic's")
    print(f"\n{'':40}" + "".join(f"{key:>28}" for key in keys))
    for name, row in results["ways"].items():
        cells = (f"{row[k]['median']:10.4f} [{row[k]['low']:.4f},{row[k]['high']:.4f}]" for k in keys)
        print(f"{name:40}" + "".join(f"{cell:>28}" for cell in cells))
    for name, axes in results["borders"].items():
        for axis, row in axes.items():
            print(f"{name}, {axis}: " + ", ".join(f"{key} {value:.3f}" for key, value in row.items()))
    for claim, outcome in results["claims"].items():
        print(f"{claim}: {outcome['value']:.4f} {'yes' if outcome['holds'] else 'NO'}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model folder; default: the small model")
    parser.add_argument("--worlds", type=int, default=6)
    parser.add_argument("--strength", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="keep the pictures there")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "upscale.json")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    engine = pano.load("dit360", options.model, device="cpu")
    results = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "threads": options.threads,
            "worlds": options.worlds,
            "strength": options.strength,
            "steps": engine.config.defaults.steps,
            "cfg": engine.config.defaults.cfg,
        }
    }
    results |= measure(engine, options, options.pictures)
    results["claims"] = claims(results)
    show(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
