"""Equirectangular <-> cubemap: speed against a bare `grid_sample` and the peers, and error against a known
function.

    python -m benchmarks.geometry [--rounds 31] [--height 1024] [--size 512] [--out
    benchmarks/results/geometry.json]

Run it from the repository root. Peers: pip install py360convert pytorch360convert pyequilib. When OpenCV is
installed too (pip install opencv-python-headless), py360convert is measured both without and with it.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from panodiff_core import geometry
from panodiff_core.geometry.layouts import CubeLayout, EquirectLayout
from panodiff_core.geometry.plans import make_plan

from .geometry_error import measure_error, truth_equirect
from .summary import interval

Convert = Callable[[object], object]


class Contestant:
    """A library's way to the cube and back, on its own kind of picture; `tensor` turns its results into
    [N,C,h,w].
    """

    def __init__(
        self, name, to_cube: Convert, to_equirect: Convert, picture, faces, forget=lambda: None
    ) -> None:
        self.name, self.to_cube, self.to_equirect, self.forget = name, to_cube, to_equirect, forget
        self.picture, self.faces = picture, faces


def ours(height: int, size: int) -> Contestant:
    return Contestant(
        "panodiff",
        lambda x: geometry.equirect_to_cubemap(x, size),
        lambda c: geometry.cubemap_to_equirect(c, height),
        lambda x: x[None],
        lambda c: c[None],
        geometry.clear_grid_cache,
    )


def py360(height: int, size: int, opencv: bool) -> Contestant:
    # A second copy of the package under its own name: the choice of back end is a module global there.
    origin = importlib.util.find_spec("py360convert")
    name = "py360convert_opencv" if opencv else "py360convert_plain"
    spec = importlib.util.spec_from_file_location(
        name, origin.origin, submodule_search_locations=list(origin.submodule_search_locations)
    )
    lib = importlib.util.module_from_spec(spec)
    sys.modules[name] = lib
    spec.loader.exec_module(lib)
    utils = sys.modules[f"{name}.utils"]
    if opencv:
        utils.cv2.setNumThreads(torch.get_num_threads())
    else:
        utils.cv2 = None

    def forget() -> None:
        for holder in (utils, utils.EquirecSampler, utils.CubeFaceSampler):
            for member in list(vars(holder)):
                clear = getattr(getattr(holder, member), "cache_clear", None)
                if clear is not None:
                    clear()

    return Contestant(
        "py360convert + OpenCV" if opencv else "py360convert",
        lambda x: lib.e2c(x, size, mode="bilinear", cube_format="list"),
        lambda c: lib.c2e(c, height, 2 * height, mode="bilinear", cube_format="list"),
        lambda x: np.ascontiguousarray(x.permute(1, 2, 0).numpy()),
        lambda c: [np.ascontiguousarray(face.permute(1, 2, 0).numpy()) for face in c],
        forget,
    )


def pytorch360(height: int, size: int) -> Contestant:
    import pytorch360convert as lib

    options = {"mode": "bilinear", "cube_format": "stack", "channels_first": True}
    return Contestant(
        "pytorch360convert",
        lambda x: lib.e2c(x, size, **options),
        lambda c: lib.c2e(c, height, 2 * height, **options),
        lambda x: x,
        lambda c: c,
    )


def equilib(height: int, size: int) -> Contestant:
    # Its classes keep what does not depend on the rotation between calls: its fastest way.
    import equilib as lib

    state = {}

    def forget() -> None:
        state["cube"] = lib.Equi2Cube(w_face=size, cube_format="horizon", mode="bilinear")
        state["equi"] = lib.Cube2Equi(cube_format="horizon", height=height, width=2 * height, mode="bilinear")

    forget()
    still = [{"roll": 0.0, "pitch": 0.0, "yaw": 0.0}]
    return Contestant(
        "pyequilib",
        lambda x: state["cube"](x, still),
        lambda c: state["equi"](c),
        lambda x: x[None],
        lambda c: torch.cat(list(c), -1)[None],
        forget,
    )


def bare(height: int, size: int, split: bool) -> Contestant:
    """`grid_sample` alone over a ready grid and a ready, packed source; `split` hands the work to all
    threads.
    """
    equirect, cube = EquirectLayout(height), CubeLayout(size)
    there = make_plan(equirect, cube.directions(0, cube.rows), "bilinear").passes[0].grid.float()
    back = make_plan(cube, equirect.directions(0, height), "bilinear").passes[0].grid.float()
    parts = (6, torch.get_num_threads()) if split else (1, 1)

    def read(source, grid, n):
        grid = grid.view(n, grid.shape[0] // n, grid.shape[1], 2)
        out = F.grid_sample(source.expand(n, -1, -1, -1), grid, padding_mode="border", align_corners=False)
        return out.transpose(0, 1).reshape(3, -1, grid.shape[2]) if n not in (1, 6) else out

    return Contestant(
        "bare grid_sample" + (", split over threads" if split else ""),
        lambda x: read(x, there, parts[0]),
        lambda c: read(c, back, parts[1]),
        lambda x: x[None],
        lambda c: c.transpose(0, 1).reshape(1, 3, 6 * size, size).contiguous(),
    )


def race(contestants, way: str, picture, faces, rounds: int, cold: bool) -> dict[str, list[float]]:
    """Milliseconds of every contestant in every round; the order rotates so that nobody always follows the
    same.

    Whoever takes over five times as long as ours leaves after a third of the rounds: its ratio is clear by
    then.
    """
    inputs = {c.name: c.picture(picture) if way == "to_cube" else c.faces(faces) for c in contestants}
    times = {c.name: [] for c in contestants}
    for turn in range(-1, rounds):
        slow = {
            n
            for n, t in times.items()
            if t and statistics.median(t) > 5 * statistics.median(times["panodiff"])
        }
        for k in range(len(contestants)):
            c = contestants[(turn + k) % len(contestants)]
            if 3 * turn > rounds and c.name in slow:
                continue
            if cold:
                c.forget()
            start = time.perf_counter()
            getattr(c, way)(inputs[c.name])
            if turn >= 0:
                times[c.name].append(1e3 * (time.perf_counter() - start))
    return times


def table(times: dict[str, list[float]]) -> dict[str, dict]:
    """Per contestant: its time, and its time over ours in the same round, both as medians with intervals."""
    mine = times["panodiff"]
    return {
        name: {"ms": interval(t), "times_ours": interval([a / b for a, b in zip(t, mine, strict=False)])}
        for name, t in times.items()
    }


def show(title: str, rows: dict[str, dict]) -> None:
    print(f"\n{title}\n{'':34}{'ms, median [95 %]':>30}{'x ours, paired':>28}")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["ms"]["median"]):
        ms, ratio = row["ms"], row["times_ours"]
        print(
            f"{name:34}{ms['median']:10.1f} [{ms['low']:7.1f},{ms['high']:7.1f}]"
            f"{ratio['median']:12.2f} [{ratio['low']:5.2f},{ratio['high']:6.2f}]"
        )


def verdicts(results: dict, libraries: list[str]) -> dict[str, dict]:
    """The claims this benchmark is for, each with its figure."""
    made = {}
    for way, least in (("to_cube", 1.7), ("to_equirect", 4.0)):
        rows = results["warm"][way]
        ratio = 1.0 / rows["bare grid_sample"]["times_ours"]["median"]
        made[f"{way}: ours / bare grid_sample <= 1.3"] = {"value": ratio, "holds": ratio <= 1.3}
        best = min(rows[name]["times_ours"]["median"] for name in libraries)
        made[f"{way}: best peer / ours >= {least}"] = {"value": best, "holds": best >= least}
        errors = results["error"][way]
        for kind in ("rms", "max"):
            lowest = min(errors[name][kind] for name in libraries)
            made[f"{way}: our {kind} error / smallest of the peers <= 1"] = {
                "value": errors["panodiff"][kind] / lowest,
                "holds": errors["panodiff"][kind] <= lowest,
            }
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "geometry.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = (options.height, options.size)
    has_opencv = importlib.util.find_spec("cv2") is not None
    peers = [py360(*shape, False), pytorch360(*shape), equilib(*shape)]
    extra = [py360(*shape, True)] if has_opencv else []
    libraries = [p.name for p in peers]
    field = [ours(*shape), bare(*shape, False), bare(*shape, True), *peers, *extra]
    picture = truth_equirect(options.height)
    faces = torch.rand(6, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    results = {"machine": machine(options), "warm": {}, "cold": {}, "error": {}}
    for way, cold in itertools.product(("to_cube", "to_equirect"), (False, True)):
        runners = [c for c in field if not (cold and c.name.startswith("bare"))]
        times = race(runners, way, picture, faces, 5 if cold else options.rounds, cold)
        results["cold" if cold else "warm"][way] = table(times)
        show(f"{way}, {'cold' if cold else 'warm'}", table(times))
    results["error"] = {"to_cube": {}, "to_equirect": {}}
    for c in [field[0], *peers, *extra]:
        for way, error in measure_error(c, *shape).items():
            results["error"][way][c.name] = error
            print(
                f"{way:12}{c.name:24} rms {error['rms']:.3e}  max {error['max']:.3e}  ({error['convention']})"
            )
    results["claims"] = verdicts(results, libraries)
    if extra:
        results["claims_with_opencv"] = verdicts(results, [*libraries, extra[0].name])
    for group in ("claims", "claims_with_opencv"):
        for claim, outcome in results.get(group, {}).items():
            print(f"{group}: {claim}: {outcome['value']:.3f} {'yes' if outcome['holds'] else 'NO'}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def machine(options: argparse.Namespace) -> dict:
    return {
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "load_average_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": options.threads,
        "height": options.height,
        "size": options.size,
        "rounds": options.rounds,
        "dtype": "float32",
        "channels": 3,
    }


if __name__ == "__main__":
    main()
