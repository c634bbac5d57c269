"""A headless Chromium, a synthetic panorama, and a small server that plays ComfyUI for the viewer."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from PIL import Image

from tests.conftest import NO_CHROMIUM, chromium_path

WEB = Path(__file__).resolve().parents[2] / "web"
VIEWER = WEB / "viewer"
HARNESS = Path(__file__).with_name("harness")
CHROMIUM_FLAGS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"}
# As strict as ComfyUI with --disable-api-nodes, and stricter about scripts and styles.
POLICY = "default-src 'self'; img-src 'self' data: blob:; connect-src 'self'; object-src 'none'"


# One per module: an open browser keeps an event loop running in this thread, in the way of other tests'.
@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright: pip install -r requirements-dev.txt"
    )
    if not chromium_path():
        pytest.skip(NO_CHROMIUM)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable]:
    """open_page(address, width, height, **context options) -> page. Fails the test on any script error."""
    contexts, problems = [], []

    def opened(address: str, width: int = 960, height: int = 540, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda problem: problems.append(str(problem)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(address)
        page.problems = problems
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems, problems


def wait_until(page, expression: str, arg=None, seconds: float = 30.0) -> None:
    """Until a JavaScript expression or function of `arg` is true; Playwright's waiting needs unsafe-eval."""
    for _ in range(round(seconds / 0.05)):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not within {seconds} s: {expression}")


def synthetic_panorama(height: int = 256) -> torch.Tensor:
    """[3,H,2H] in 0..1, rounded to bytes: colours that tell all directions apart, under a fine texture."""
    generator = torch.Generator().manual_seed(5)
    width = 2 * height
    lat = (0.5 - (torch.arange(height) + 0.5) / height) * torch.pi
    lon = ((torch.arange(width) + 0.5) / width - 0.5) * 2 * torch.pi
    lat, lon = torch.meshgrid(lat, lon, indexing="ij")
    smooth = torch.stack(
        [0.5 + 0.3 * lat.cos() * lon.sin(), 0.5 + 0.3 * lat.sin(), 0.5 + 0.3 * lat.cos() * lon.cos()]
    )
    texture = 0.35 * (torch.rand((3, height, width), generator=generator) - 0.5)
    return ((smooth + texture).clamp(0, 1) * 255).round() / 255


def png_bytes(pixels: torch.Tensor) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy()).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def panorama() -> torch.Tensor:
    return synthetic_panorama()


class PlayedComfyUI:
    """Serves the extension, the harness and pictures; remembers which pictures were asked for."""

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/harness/index.html"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, target: str) -> tuple[bytes, str] | None:
        url = urlsplit(target)
        if url.path == "/api/view":
            query = parse_qs(url.query, keep_blank_values=True)
            assert {"filename", "subfolder", "type", "rand"} == set(query), query
            self.asked.append(query["filename"][0])
            data = self.pictures.get(query["filename"][0])
            return data and (data, "video/webm" if query["filename"][0].endswith(".webm") else "image/png")
        for prefix, folder in (
            ("/extensions/PanoDiff/", WEB),
            ("/harness/", HARNESS),
            ("/scripts/", HARNESS),
        ):
            path = folder / url.path.removeprefix(prefix)
            if url.path.startswith(prefix) and path.is_file() and path.suffix in TYPES:
                return path.read_bytes(), TYPES[path.suffix]
        return (b"", "image/x-icon") if url.path == "/favicon.ico" else None

    def _handler(played) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = played.answer(self.path)
                body, kind = found or (b"not found", "text/plain")
                asked = self.headers.get("Range", "").removeprefix("bytes=").split("-")  # by videos
                if found and asked[0]:
                    first, last = int(asked[0]), int(asked[1] or len(body) - 1)
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
                    body = body[first : last + 1]
                else:
                    self.send_response(200 if found else 404)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", POLICY)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def comfy(panorama) -> Iterator[PlayedComfyUI]:
    played = PlayedComfyUI()
    played.pictures["pano.png"] = png_bytes(panorama)
    yield played
    played.server.shutdown()
    played.server.server_close()
