"""Runs every template in a real ComfyUI and keeps what it saved as the template's picture.

COMFYUI_PATH=… python -m tests.server.make_thumbnails
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image

from tests.server.comfy_server import Server
from tests.server.conftest import TEMPLATES
from tests.server.workflows import read_workflow, to_prompt

SIZE = (768, 384)


def main() -> None:
    with tempfile.TemporaryDirectory() as base:
        server = Server(Path(base))
        try:
            definitions = server.get("/object_info")
            for path in TEMPLATES:
                run = server.run(to_prompt(read_workflow(path), definitions))
                if not run.succeeded:
                    raise SystemExit(f"{path.name}: {run.named('execution_error')}")
                (entry,) = [image for output in run.outputs.values() for image in output.get("images", [])]
                picture = Image.open(io.BytesIO(server.view(entry))).convert("RGB")
                picture.resize(SIZE, Image.Resampling.LANCZOS).save(path.with_suffix(".jpg"), quality=88)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
