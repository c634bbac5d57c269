"""What the templates' real files and pictures are replaced by in a test server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from panodiff_core.engines.star.config import STARConfig, VQVAEConfig
from panodiff_core.engines.star.generator import STARGenerator
from panodiff_core.engines.star.scales import Scales
from panodiff_core.engines.star.training.text import TowerConfig, new_text_tower
from panodiff_core.engines.star.vqvae import VQVAE
from tests.conftest import COMFYUI_PATH
from tests.tiny_files import CLIP_SIZES, T5_SIZES
from tests.tiny_model import WORDS, liven

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


@dataclass(frozen=True)
class StarFiles:
    """Names of STAR's parts in ComfyUI's folders: diffusion_models, vae, and a folder in diffusers."""

    generator: str = "tiny_star.pth"
    vqvae: str = "tiny_vqvae.pth"
    text: str = "tiny-sd21"


def write_star_files(models: Path) -> StarFiles:
    """STAR as it is published, with random weights: the trainer's .pth, VAR's flat .pth, and a text encoder's folder.

    The autoencoder has the levels of the real one, a fifth as wide; four scales make faces of 128 pixels.
    """
    files, scales = StarFiles(), Scales((1, 2, 4, 8))
    star = STARConfig(
        depth=2, width=64, heads=2, patch_nums=scales.sides, text_width=32, vocab=64, latent_channels=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20253)
        generator = liven(STARGenerator(star)).state_dict()
        vqvae = liven(VQVAE(VQVAEConfig(channels=32, vocab=64, latent_channels=8), scales)).state_dict()
        tower = new_text_tower(TowerConfig(width=star.text_width, layers=1, heads=4, max_length=24), WORDS)
    for kind in ("diffusion_models", "vae"):
        (models / kind).mkdir(parents=True, exist_ok=True)
    trainer = {"config": {"patch_nums": scales.sides}, "var_wo_ddp": generator}
    torch.save({"epoch": 1, "iter": 1, "trainer": trainer}, models / "diffusion_models" / files.generator)
    torch.save(vqvae, models / "vae" / files.vqvae)
    tower.model.save_pretrained(models / "diffusers" / files.text / "text_encoder")
    tower.tokenizer.save_pretrained(models / "diffusers" / files.text / "tokenizer")
    return files
