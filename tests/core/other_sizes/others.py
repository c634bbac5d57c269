"""Noise levels, losses cut from the checkout's vectors, and text encoders."""

from __future__ import annotations

import json
import math

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from tests.core.dit360_vectors import FOLDER

from .network import Maker
from .tokens import shift_exponent


def make_schedules(maker: Maker) -> None:
    official = []
    for rows, columns, p, steps in ((2, 4, 0, 1), (3, 5, 3, 7)):
        tokens = rows * (columns + 2 * p)
        mu = shift_exponent(tokens)
        row = {"width": 8 * columns, "height": 8 * rows, "n_h": rows, "n_w": columns, "pad_columns": p}
        row |= {"image_tokens": tokens, "steps": steps, "mu": mu}
        official.append({**row, "sigmas": maker.scheduler(steps, mu).sigmas.tolist()})
    u = [1 - i / 5 for i in range(5)]
    grids = {"linear": u, "cosine": [(1 - math.cos(math.pi * x)) / 2 for x in u]}
    text = json.dumps({"official": official, "derived_document_schedules": [{"steps": 5, **grids}]})
    (maker.folder / "schedules.json").write_text(text, encoding="utf-8")


def make_losses(maker: Maker) -> None:
    """Three of four channels in another order, the samples swapped; scalars of whole pictures are left out."""
    golden = load_file(FOLDER / "losses.safetensors")
    cut = {}
    for key, value in golden.items():
        if key.endswith("pred") or key == "in.target":
            axis = 2 if key.startswith("cube") else 1
            cut[key] = value.index_select(axis, torch.tensor([3, 0, 2])).flip(0)
        elif not key.endswith("loss"):
            cut[key] = value
    cut["main.loss"] = F.mse_loss(cut["in.pred"], cut["in.target"])
    maker.save("losses", cut)


def make_text(maker: Maker) -> None:
    """CLIP and T5 with 18 and 50 tokens, three prompts; their configurations stand in the file's header alone."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    words, end = 41, 40
    sizes = {"hidden_size": 20, "intermediate_size": 30, "projection_dim": 20, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 5, "max_position_embeddings": 18, "vocab_size": words}
    clip_config = CLIPTextConfig(**sizes, bos_token_id=39, eos_token_id=end, pad_token_id=end)
    sizes = {"d_model": 40, "d_kv": 6, "d_ff": 28, "num_layers": 3, "num_heads": 3, "vocab_size": words}
    t5_config = T5Config(**sizes, feed_forward_proj="gated-gelu")
    clip, t5 = CLIPTextModel(clip_config).eval(), T5EncoderModel(t5_config).eval()
    for module, file in ((clip, "clip_l"), (t5, "t5xxl_fp16")):
        for parameter in module.parameters():
            parameter.copy_(parameter.half())
        state = {name: weight.half() for name, weight in module.state_dict().items()}
        save_file(
            {name: weight.clone() for name, weight in state.items() if "embed_tokens" not in name},
            maker.folder / f"{file}.safetensors",
        )
    clip_ids = torch.full((3, 18), end)
    t5_ids = torch.zeros(3, 50, dtype=torch.long)
    for row, length in enumerate((4, 9, 16)):
        clip_ids[row, 0], clip_ids[row, 1:length] = 39, torch.randint(0, 39, (length - 1,))
        t5_ids[row, : length + 1] = torch.cat([torch.randint(2, words, (length,)), torch.tensor([1])])
    hidden = clip(input_ids=clip_ids).last_hidden_state
    first = (clip_ids == end).int().argmax(-1)
    text = t5(input_ids=t5_ids).last_hidden_state
    t = {"in.clip_ids": clip_ids, "in.t5_ids": t5_ids, "clip.pooled": hidden[range(3), first]}
    t |= {"t5.embeds_first17": text[:, :17], "t5.embeds_sum": text.double().sum((1, 2))}
    t["derived.t5_32_first17"] = t5(input_ids=t5_ids[:, :32]).last_hidden_state[:, :17]
    masked = t5(input_ids=t5_ids, attention_mask=t5_ids != 0).last_hidden_state
    t["derived.t5_masked_first17"] = masked[:, :17]
    maker.save("text", t, clip_config=clip_config.to_json_string(), t5_config=t5_config.to_json_string())
