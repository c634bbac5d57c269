"""What the templates' real files and pictures are replaced by in a test server."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import COMFYUI_PATH
from tests.tiny_files import CLIP_SIZES, T5_SIZES

EXAMPLE_SEED = 299
SMALL_TEXT_ENCODERS = f"""
import comfy.sd

sizes = {{"model_config": {CLIP_SIZES!r}, "t5xxl_model_config": {T5_SIZES!r}}}
load_clip = comfy.sd.load_clip


def load_small_clip(*args, model_options=None, **more):
    return load_clip(*args, model_options={{**(model_options or {{}}), **sizes}}, **more)


comfy.sd.load_clip = load_small_clip
NODE_CLASS_MAPPINGS = {{}}
"""
"""ComfyUI builds CLIP-L and T5-XXL at their real sizes whatever a file holds (T5: 9 GB); this node file of the test
server passes it the sizes of `tests.tiny_files` by options that ComfyUI has for it ("model_config" is what it makes CLIP-L's of,
while it looks for long positions). The loader node stays its own."""


def install_small_text_encoders(base: Path) -> str:
    """Write them among a base directory's custom nodes; the name to allow."""
    name = "small_text_encoders.py"
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    (base / "custom_nodes" / name).write_text(SMALL_TEXT_ENCODERS, encoding="utf-8")
    return name


def write_example_picture(base: Path) -> None:
    """example.png in a base directory's input, where every ComfyUI has one: here a rendered world, 512 x 256."""
    from panodiff_core.data.worlds import render_equirect, sample_scene
    from panodiff_core.io.images import to_bytes_image

    (base / "input").mkdir(parents=True, exist_ok=True)
    pixels = render_equirect(sample_scene(EXAMPLE_SEED), 256, 512)
    to_bytes_image(pixels).save(base / "input" / "example.png")


def smallest_flux() -> int:
    """The smallest width of a FLUX that the ComfyUI under test loads.

    Newer ones count the heads, 128 wide each; older ones take 24 for any FLUX, so that only the real width fits.
    """
    text = (Path(COMFYUI_PATH) / "comfy" / "model_detection.py").read_text(encoding="utf-8")
    return 128 if 'dit_config["num_heads"] = dit_config["hidden_size"] //' in text else 3072
