"""The viewer in headless Chromium: time to the first and to the sharp picture, frame times, memory.

    python -m benchmarks.viewer [--rounds 5] [--width 8192] [--other DIR] [--out
    benchmarks/results/viewer.json]

Run it from the repository root, with requirements-dev.txt installed and a Chromium on the path. DIR is a checkout
of github.com/ProGamerGov/ComfyUI_preview360panorama (seen at 2a44014) whose install.py has run.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import sys
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from panodiff_core.io.pyramid import cut_tiles, pyramid_levels
from tests.conftest import NO_CHROMIUM, chromium_path
from tests.web.conftest import CHROMIUM_FLAGS, TYPES, PlayedComfyUI, wait_until
from tests.web.test_large_pictures import encoded, stored

from .summary import interval

FRAMES = 20
RUNS = 50  # of one node, for what lasts
WINDOWS = {"640x360": (640, 360, 8.0), "1280x720": (1280, 720, 25.0)}  # and the milliseconds that we allow
SMALL = 4096
SETUP = (Path(__file__).parent / "viewer_page.js").read_text(encoding="utf-8")


class Server(PlayedComfyUI):
    """As in the tests, and with the other viewer's files where ComfyUI would have them."""

    def __init__(self, other: Path | None) -> None:
        super().__init__()
        self.other = other

    def answer(self, target: str) -> tuple[bytes, str] | None:
        name = target.removeprefix("/extensions/Other/")
        if self.other and name != target:
            path = self.other / "js" / name
            return (path.read_bytes(), TYPES[path.suffix]) if path.is_file() else None
        return super().answer(target)


def scene(width: int) -> torch.Tensor:
    """[3,W/2,W] in 0..1: smooth colours, edges and grain, which compress about as a photograph does."""
    generator = torch.Generator().manual_seed(1)
    lon = torch.linspace(0, 2 * torch.pi, width)[None, :]
    lat = torch.linspace(torch.pi / 2, -torch.pi / 2, width // 2)[:, None]
    edges = 0.1 * ((40 * lon).sin() * (30 * lat).sin()).sign()
    smooth = torch.stack([lat.cos() * (lon + turn).sin() for turn in (0.0, 2.0, 4.0)])
    grain = 0.02 * torch.randn(smooth.shape, generator=generator)
    return (0.5 + 0.3 * smooth + edges + grain).clamp(0, 1)


def whole(server: Server, width: int) -> dict:
    """Serve a picture in one file; what the node would tell of it."""
    pixels = (scene(width) * 255).round().byte().permute(1, 2, 0).numpy()
    server.pictures["whole.png"] = encoded(Image.fromarray(pixels))
    return {"filename": "whole.png", "subfolder": "", "type": "temp"}


def opened(browser: Browser, server: Server) -> Page:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(server.address)
    wait_until(page, "window.harness")
    page.evaluate(SETUP)
    return page


def memory_mb(browser: Browser) -> float | None:
    """Memory of all of the browser's processes, shared parts divided among their users; Linux only."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    try:
        rollups = [Path(f"/proc/{one['id']}/smaps_rollup").read_text() for one in processes]
    except OSError:
        return None
    lines = [line for text in rollups for line in text.splitlines() if line.startswith("Pss:")]
    return sum(int(line.split()[1]) for line in lines) / 1024


def loading(browser: Browser, server: Server, entry: dict, rounds: int) -> dict:
    """A node that runs: the first and the sharp picture after `executed`, and the longest task, in ms. Every round
    has a page of its own, whose viewer waits for its first result.
    """
    runs = []
    for _ in range(rounds):
        page = opened(browser, server)
        runs.append(page.evaluate("entry => measureLoading(entry)", entry))
        runs[-1]["memory_mb"] = memory_mb(browser)
        page.close()
    names = ("preview", "sharp", "longest_task", "texture_mb", "memory_mb")
    return {
        name: interval([run[name] for run in runs if run[name] is not None] or [float("nan")])
        for name in names
    }


def frames(browser: Browser, server: Server, entry: dict) -> dict:
    """Median time of a finished frame in ms, by window and mode, with everything loaded that it shows."""
    page = opened(browser, server)
    page.evaluate("entry => measureLoading(entry)", entry)
    times = {
        name: page.evaluate(
            "([width, height, count]) => measureFrames(width, height, count)", [*size, FRAMES]
        )
        for name, (*size, _) in WINDOWS.items()
    }
    page.close()
    return {name: {mode: interval(values) for mode, values in modes.items()} for name, modes in times.items()}


def lasting(browser: Browser, server: Server, entry: dict) -> dict:
    """What a node holds after its first runs and after RUNS more: heap after a forced collection, elements, bytes of
    textures.
    """
    page = opened(browser, server)
    session = page.context.new_cdp_session(page)
    page.evaluate("entry => measureLoading(entry)", entry)

    def held(runs: int) -> dict:
        for _ in range(runs):
            page.evaluate("entry => runAgain(entry)", entry)
        page.wait_for_timeout(1500)  # announcements are over
        session.send("HeapProfiler.collectGarbage")
        return {
            "heap_mb": session.send("Runtime.getHeapUsage")["usedSize"] / 1e6,
            "nodes": session.send("Memory.getDOMCounters")["nodes"],
            "texture_mb": page.evaluate("harness.statistics()")["textureBytes"] / 1e6,
        }

    found = {"first": held(5), "later": held(RUNS)}
    page.close()
    return found


def other_viewer(browser: Browser, server: Server, rounds: int) -> dict:
    """The other viewer's first picture. Its data address is in the page already when the clock starts: how it comes
    there, through the web socket in ComfyUI, is not counted.
    """
    address = f"data:image/png;base64,{base64.b64encode(server.pictures['whole.png']).decode()}"
    runs = []
    for _ in range(rounds):
        page = opened(browser, server)
        runs.append(
            {**page.evaluate("address => measureOther(address)", address), "memory_mb": memory_mb(browser)}
        )
        page.close()
    return {
        name: interval([run[name] or float("nan") for run in runs])
        for name in ("preview", "longest_task", "memory_mb")
    }


def verdicts(results: dict) -> dict:
    large = results["large"]
    found = {
        "preview <= 500 ms": (large["preview"]["median"], 500),
        "sharp <= 3000 ms": (large["sharp"]["median"], 3000),
        "longest main-thread task <= 100 ms": (large["longest_task"]["median"], 100),
    }
    first, later = results["lasting"]["first"], results["lasting"]["later"]
    for name, allowed in (("heap_mb", 0.5), ("nodes", 5), ("texture_mb", 0)):
        found[f"{name} after {RUNS} more runs <= {allowed} more"] = (later[name] - first[name], allowed)
    for kind in ("frames_whole", "frames_tiles"):
        for window, (*_, most) in WINDOWS.items():
            slowest = max(times["median"] for times in results[kind][window].values())
            found[f"{kind}: slowest mode at {window} <= {most} ms"] = (slowest, most)
    return {name: {"value": value, "holds": value <= most} for name, (value, most) in found.items()}


def machine(options: argparse.Namespace, browser: Browser) -> dict:
    return {
        "cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "browser": browser.version,
        "graphics": "SwiftShader", "width": options.width, "rounds": options.rounds,
        "load_average_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }  # fmt: skip


def show(title: str, rows: dict) -> None:
    print(title)
    for name, value in rows.items():
        print(f"  {name:16}{value['median']:10.1f}  ({value['low']:.1f} to {value['high']:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=8192)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "viewer.json")
    options = parser.parse_args()
    if not chromium_path():
        sys.exit(NO_CHROMIUM)
    if not options.other:
        print("Without --other the other viewer is left out.")
    server = Server(options.other)
    levels = pyramid_levels(Image.new("RGB", (options.width, options.width // 2)))
    print(f"{sum(len(list(cut_tiles(level))) for level in levels[:-1])} tiles of {len(levels) - 1} levels")
    large, small = stored(server, "large", scene(options.width)), whole(server, SMALL)
    results = {}
    with sync_playwright() as playwright:
        for name in ("ours", *(["other"] if options.other else [])):  # a browser each, for the memory's sake
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
            results.setdefault("machine", machine(options, browser))
            if name == "other":
                results["other"] = other_viewer(browser, server, options.rounds)
                show(f"other viewer, {SMALL} wide", results["other"])
            else:
                results["small"] = loading(browser, server, small, options.rounds)
                results["large"] = loading(browser, server, large, options.rounds)
                results["lasting"] = lasting(browser, server, small)
                results["frames_whole"] = frames(browser, server, small)
                results["frames_tiles"] = frames(browser, server, large)
                show(f"{SMALL} wide, one file", results["small"])
                show(f"{options.width} wide, tiles", results["large"])
            browser.close()
    for kind in ("frames_whole", "frames_tiles"):
        for window, times in results[kind].items():
            show(f"{kind}, {window}, ms", times)
    results["claims"] = verdicts(results)
    for claim, outcome in results["claims"].items():
        print(f"{claim}: {outcome['value']:.1f} {'yes' if outcome['holds'] else 'NO'}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
