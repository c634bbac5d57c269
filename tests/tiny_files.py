"""FLUX.1's parts as single files with random weights: official key names, small sizes, read without any config.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

CLIP_WIDTH, T5_WIDTH = 64, 64
CLIP_SIZES = {
    "hidden_size": CLIP_WIDTH,
    "intermediate_size": 128,
    "num_attention_heads": 1,
    "num_hidden_layers": 2,
}
T5_SIZES = {"d_model": T5_WIDTH, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2}
"""As ComfyUI and transformers name them in their configurations."""


@dataclass(frozen=True)
class TinyFiles:
    """The files of one model, in ComfyUI's folders below `models`."""

    models: Path
    transformer: str
    vae: str
    clip: str
    t5: str
    lora: str
    checkpoint: str

    def path(self, kind: str, name: str) -> Path:
        return self.models / kind / name


def build_tiny_files(models: Path, name: str = "tiny", *, width: int = 128, vae_width: int = 32) -> TinyFiles:
    """Write all files below `models`, the same each time; `width` is the transformer's, a multiple of 128.

    `vae_width` 128 makes a VAE of FLUX's own size, the only one for which ComfyUI has a configuration. There is a
    checkpoint with all parts only at the smallest sizes.
    """
    kinds = ("flux", "ae", "clip_l", "t5xxl", "dit360", "checkpoint")
    files = TinyFiles(Path(models), *(f"{name}_{kind}.safetensors" for kind in kinds))
    multipliers = (1, 2, 4, 4) if vae_width == 128 else (1, 1, 1, 1)
    parts = {
        ("diffusion_models", files.transformer): _random(flux_shapes(width), 1),
        ("vae", files.vae): _random(ae_shapes(vae_width, multipliers), 2),
        ("text_encoders", files.clip): _random(clip_shapes(), 3),
        ("text_encoders", files.t5): _random(t5_shapes(), 4),
        ("loras", files.lora): _random(lora_shapes(width), 5),
    }
    prefixes = ("model.diffusion_model.", "vae.", "text_encoders.clip_l.transformer.",
                "text_encoders.t5xxl.transformer.")  # fmt: skip
    if (width, vae_width) == (128, 32):
        whole = zip(prefixes, list(parts.values())[:4], strict=True)
        parts["checkpoints", files.checkpoint] = {
            prefix + name: weight for prefix, weights in whole for name, weight in weights.items()
        }
    for (kind, file), weights in parts.items():
        _save(weights, files.path(kind, file))
    return files


def flux_shapes(width: int) -> Shapes:
    """BFL's keys, with one double and one single block and heads of 128."""
    shapes: Shapes = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    for name, inputs in (("img_in", 64), ("txt_in", T5_WIDTH)):
        linear(name, inputs, width)
    for name, inputs in (("time_in", 256), ("vector_in", CLIP_WIDTH), ("guidance_in", 256)):
        linear(f"{name}.in_layer", inputs, width)
        linear(f"{name}.out_layer", width, width)
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}"
        linear(f"{block}_mod.lin", width, 6 * width)
        linear(f"{block}_attn.qkv", width, 3 * width)
        linear(f"{block}_attn.proj", width, width)
        linear(f"{block}_mlp.0", width, 4 * width)
        linear(f"{block}_mlp.2", 4 * width, width)
        for norm in ("query_norm", "key_norm"):
            shapes[f"{block}_attn.norm.{norm}.scale"] = (128,)
    linear("single_blocks.0.modulation.lin", width, 3 * width)
    linear("single_blocks.0.linear1", width, 7 * width)
    linear("single_blocks.0.linear2", 5 * width, width)
    for norm in ("query_norm", "key_norm"):
        shapes[f"single_blocks.0.norm.{norm}.scale"] = (128,)
    linear("final_layer.linear", width, 64)
    linear("final_layer.adaLN_modulation.1", width, 2 * width)
    return shapes


def ae_shapes(width: int, multipliers: tuple[int, ...]) -> Shapes:
    """The keys of ae.safetensors."""
    shapes: Shapes = {}
    widths = [width * m for m in multipliers]

    def conv(name: str, inputs: int, outputs: int, size: int = 3) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs, size, size), (outputs,)

    def norm(name: str, channels: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (channels,)

    def block(name: str, inputs: int, outputs: int) -> None:
        norm(f"{name}.norm1", inputs)
        conv(f"{name}.conv1", inputs, outputs)
        norm(f"{name}.norm2", outputs)
        conv(f"{name}.conv2", outputs, outputs)
        if inputs != outputs:
            conv(f"{name}.nin_shortcut", inputs, outputs, 1)

    def middle(name: str, channels: int) -> None:
        block(f"{name}.block_1", channels, channels)
        norm(f"{name}.attn_1.norm", channels)
        for part in ("q", "k", "v", "proj_out"):
            conv(f"{name}.attn_1.{part}", channels, channels, 1)
        block(f"{name}.block_2", channels, channels)

    last = len(widths) - 1
    conv("encoder.conv_in", 3, width)
    for level, channels in enumerate(widths):
        before = widths[max(level - 1, 0)]
        for index in range(2):
            block(f"encoder.down.{level}.block.{index}", channels if index else before, channels)
        if level < last:
            conv(f"encoder.down.{level}.downsample.conv", channels, channels)
    middle("encoder.mid", widths[-1])
    norm("encoder.norm_out", widths[-1])
    conv("encoder.conv_out", widths[-1], 32)
    conv("decoder.conv_in", 16, widths[-1])
    middle("decoder.mid", widths[-1])
    for level in reversed(range(len(widths))):
        before = widths[min(level + 1, last)]
        for index in range(3):
            block(f"decoder.up.{level}.block.{index}", widths[level] if index else before, widths[level])
        if level:
            conv(f"decoder.up.{level}.upsample.conv", widths[level], widths[level])
    norm("decoder.norm_out", width)
    conv("decoder.conv_out", width, 3)
    return shapes


def clip_shapes() -> Shapes:
    """The keys of clip_l.safetensors, with the vocabulary and the positions of CLIP-L."""
    width, inner = CLIP_WIDTH, CLIP_SIZES["intermediate_size"]
    shapes: Shapes = {
        "text_model.embeddings.token_embedding.weight": (49408, width),
        "text_model.embeddings.position_embedding.weight": (77, width),
    }
    for layer in range(CLIP_SIZES["num_hidden_layers"]):
        name = f"text_model.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{name}.self_attn.{part}.weight"] = (width, width)
            shapes[f"{name}.self_attn.{part}.bias"] = (width,)
        shapes |= {f"{name}.mlp.fc1.weight": (inner, width), f"{name}.mlp.fc1.bias": (inner,)}
        shapes |= {f"{name}.mlp.fc2.weight": (width, inner), f"{name}.mlp.fc2.bias": (width,)}
        for norm in ("layer_norm1", "layer_norm2"):
            shapes[f"{name}.{norm}.weight"] = shapes[f"{name}.{norm}.bias"] = (width,)
    norm = "text_model.final_layer_norm"
    shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (width,)
    return shapes


def t5_shapes() -> Shapes:
    """The keys of t5xxl_fp16.safetensors, with T5's vocabulary."""
    width, inner = T5_WIDTH, T5_SIZES["d_kv"] * T5_SIZES["num_heads"]
    shapes: Shapes = {"shared.weight": (32128, width)}
    for index in range(T5_SIZES["num_layers"]):
        attention, feed = f"encoder.block.{index}.layer.0", f"encoder.block.{index}.layer.1"
        for part in ("q", "k", "v"):
            shapes[f"{attention}.SelfAttention.{part}.weight"] = (inner, width)
        shapes[f"{attention}.SelfAttention.o.weight"] = (width, inner)
        for part in ("wi_0", "wi_1"):
            shapes[f"{feed}.DenseReluDense.{part}.weight"] = (T5_SIZES["d_ff"], width)
        shapes[f"{feed}.DenseReluDense.wo.weight"] = (width, T5_SIZES["d_ff"])
        shapes[f"{attention}.layer_norm.weight"] = shapes[f"{feed}.layer_norm.weight"] = (width,)
    first = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return {**shapes, first: (32, T5_SIZES["num_heads"]), "encoder.final_layer_norm.weight": (width,)}


def lora_shapes(width: int, rank: int = 4) -> Shapes:
    """PEFT's keys for what DiT360's LoRA changes."""
    shapes: Shapes = {}
    for block, parts in (
        ("transformer_blocks.0", ("to_q", "to_k", "to_v", "to_out.0")),
        ("single_transformer_blocks.0", ("to_q", "to_k", "to_v")),
    ):
        for part in parts:
            name = f"transformer.{block}.attn.{part}"
            shapes |= {f"{name}.lora_A.weight": (rank, width), f"{name}.lora_B.weight": (width, rank)}
    return shapes


def _random(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """bfloat16; matrices keep the size of what goes through them, norms are near 1 and biases near 0."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        weight = torch.randn(shape, generator=generator, dtype=torch.bfloat16)
        if len(shape) > 1:
            weight *= weight[0].numel() ** -0.5
        else:
            weight = 0.1 * weight + (0.0 if name.endswith("bias") else 1.0)
        weights[name] = weight
    return weights


def _save(weights: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
