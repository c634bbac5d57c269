"""A complete DiT360 model folder with random weights, small enough to build in a test."""

from __future__ import annotations

import json
from pathlib import Path

import torch

SENTENCES = """
a an the calm stormy sea desert meadow forest mountain city room at in with under over and of sunset night noon
sun moon stars clouds sky red blue green golden snow small large boat house window . ,
"""
WORDS = tuple(SENTENCES.split())
CLIP_LENGTH, T5_LENGTH = 24, 32
TRANSFORMER = {
    "_class_name": "FluxTransformer2DModel",
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 24,
    "guidance_embeds": True,
    "axes_dims_rope": [4, 6, 6],
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 16,
    "block_out_channels": [8, 8, 16, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 64,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "force_upcast": True,
    "mid_block_add_attention": True,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
}
SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
DEFAULTS = {"height": 64, "width": 128, "steps": 3}


def build_tiny_model(
    folder: str | Path,
    *,
    defaults: dict | None = None,
    kind: str | None = "small",
    transformer: dict | None = None,
    vae: dict | None = None,
) -> Path:
    """Write the diffusers layout into `folder` and return it; `kind=None` leaves panodiff.json out.

    Weights are random but the same each time; `defaults` go into panodiff.json over those of `DEFAULTS`, and
    `transformer` and `vae` change fields of those configs (a larger model for a benchmark).
    """
    from diffusers import AutoencoderKL, FluxTransformer2DModel

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20251)
        liven(FluxTransformer2DModel.from_config({**TRANSFORMER, **(transformer or {})})).save_pretrained(
            folder / "transformer"
        )
        liven(AutoencoderKL.from_config({**VAE, **(vae or {})})).save_pretrained(folder / "vae")
        _save_text(folder)
    _write(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    _write(folder / "model_index.json", _index())
    if kind is not None:
        settings = {"panodiff": 1, "kind": kind, "defaults": {**DEFAULTS, **(defaults or {})}}
        _write(folder / "panodiff.json", settings)
    return folder


def liven(module: torch.nn.Module) -> torch.nn.Module:
    """Default initialisation is close to an identity; random biases and gates make every mistake visible."""
    for name, weight in module.named_parameters():
        if weight.ndim == 1:
            centre = 1.0 if name.endswith("weight") else 0.0
            weight.data.normal_(centre, 0.1)
        else:
            weight.data.normal_(0.0, 1.0 / weight[0].numel() ** 0.5)
    return module


def _save_text(folder: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip_words = ("<|startoftext|>", "<|endoftext|>", "<unk>", *WORDS)
    t5_words = ("<pad>", "</s>", "<unk>", *WORDS)
    clip = CLIPTextConfig(
        vocab_size=len(clip_words),
        hidden_size=24,
        intermediate_size=48,
        projection_dim=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CLIP_LENGTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    t5 = T5Config(
        vocab_size=len(t5_words),
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    CLIPTextModel(clip).save_pretrained(folder / "text_encoder")
    T5EncoderModel(t5).save_pretrained(folder / "text_encoder_2")
    tokenizer = _tokenizer(clip_words, CLIP_LENGTH, "<|startoftext|> $A <|endoftext|>", bos="<|startoftext|>")
    tokenizer.save_pretrained(folder / "tokenizer")
    _tokenizer(t5_words, T5_LENGTH, "$A </s>").save_pretrained(folder / "tokenizer_2")


def _tokenizer(words: tuple[str, ...], length: int, template: str, bos: str | None = None):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    eos, pad = ("<|endoftext|>", "<|endoftext|>") if bos else ("</s>", "<pad>")
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokens.normalizer = normalizers.Lowercase()
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(word, words.index(word)) for word in (bos, eos) if word]
    tokens.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    names = {"unk_token": "<unk>", "pad_token": pad, "eos_token": eos}
    if bos:
        names["bos_token"] = bos
    return PreTrainedTokenizerFast(tokenizer_object=tokens, model_max_length=length, **names)


def _index() -> dict:
    return {
        "_class_name": "FluxPipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _write(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
