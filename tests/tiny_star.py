"""Small complete model folders of STAR: the golden vectors' weights in our layout, with a text tower made for them."""

from __future__ import annotations

from pathlib import Path

import torch

from panodiff_core.engines.star.checkpoint import ModelConfig, write_model
from panodiff_core.engines.star.options import GenerationOptions
from panodiff_core.engines.star.training.text import TowerConfig, new_text_tower
from panodiff_core.engines.star.verification import StarVectors
from tests.tiny_model import WORDS

VECTORS = Path(__file__).resolve().parent / "vectors" / "star"
LENGTH = 24


def build_tiny_star(
    folder: Path, *, faceray: bool = True, sampler: bool = True, defaults: GenerationOptions | None = None
) -> Path:
    """Write config.json, star.safetensors, vqvae.safetensors, text_encoder/ and tokenizer/ and return the folder.

    With `faceray` there are adapters in the generator, and in the masked sampler, whose weights are left out without
    `sampler`.
    """
    vectors = StarVectors(VECTORS)
    weights = vectors.weights()
    entries = dict(weights.generator)
    adapters = vectors.faceray_weights() if faceray else {}
    generator = vectors.generator_config(cross_attention="per_row" if faceray else "cond_shared")
    entries |= adapters
    if not sampler:
        gone = (
            "feat_extract_blocks.",
            "word_embed_head.",
            "pos_start_last",
            "lvl_embed_2.",
            "encoder_proj2.",
        )
        gone += ("head_proj.", "head_logits2.")
        entries = {name: entry for name, entry in entries.items() if not name.startswith(gone)}
        generator = generator.changed(sampler_blocks=0)
    config = ModelConfig(
        generator,
        vectors.vqvae_config(),
        vectors.faceray_config() if faceray else None,
        "star",
        defaults or GenerationOptions(),
    )
    write_model(folder, config, entries, weights.vqvae, torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20252)
        sizes = TowerConfig(width=generator.text_width, layers=1, heads=4, max_length=LENGTH)
        tower = new_text_tower(sizes, WORDS)
        with torch.no_grad():
            for weight in tower.model.parameters():
                weight.add_(torch.randn_like(weight) * 0.2)
    tower.model.save_pretrained(folder / "text_encoder")
    tower.tokenizer.save_pretrained(folder / "tokenizer")
    return folder
