"""Whole trajectories: with and without guidance, with the LoRA, and variants of the padding."""

from __future__ import annotations

import copy

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .autoencoder import make_autoencoder
from .network import CFG, COLUMNS, GUIDANCE, PADDING, ROWS, STEPS, TEXT, VAE, Maker
from .tokens import crop, ids, pack, pad, shift_exponent, unpack


def loop(
    maker: Maker,
    noise: Tensor,
    p: int = PADDING,
    mu: float | None = None,
    columns: Tensor | None = None,
    offsets: list[int] | None = None,
    net: nn.Module | None = None,
    cfg: float = 1.0,
) -> dict[str, Tensor]:
    """The published loop on tokens padded once, or (`offsets`) turned and padded before every call."""
    rows, count = noise.shape[2] // 2, noise.shape[3] // 2
    mu = shift_exponent(rows * (count + 2 * p)) if mu is None else mu
    scheduler, positions = maker.scheduler(STEPS, mu), pad(ids(rows, count), rows, p)
    if columns is not None:
        positions.view(rows, -1, 3)[..., 2] = columns
    state, out = pad(pack(noise), rows, p), {"sigmas": scheduler.sigmas, "timesteps": scheduler.timesteps}
    for i, time in enumerate(scheduler.timesteps):
        if offsets is not None:
            state = _turned(state, rows, p, offsets[i])
        velocity = maker.call(state, time / 1000, maker.prompts[True], GUIDANCE, positions, net)
        out[f"velocity.{i}"] = velocity
        if cfg != 1.0:
            below = maker.call(state, time / 1000, maker.prompts[False], GUIDANCE, positions, net)
            velocity = below + cfg * (velocity - below)
        state = scheduler.step(velocity, time, state, return_dict=False)[0]
        if offsets is not None:
            state = _turned(state, rows, p, -offsets[i])
        out[f"latents_padded.{i}"] = state
    out["final_packed"] = crop(state, rows, p)
    out["final_latent"] = unpack(out["final_packed"], rows)
    return out


def _turned(state: Tensor, rows: int, p: int, offset: int) -> Tensor:
    grid = crop(state, rows, p).unflatten(1, (rows, -1)).roll(offset, 2)
    return pad(grid.flatten(1, 2), rows, p)


def make_padding(maker: Maker) -> None:
    """Of the first sample alone, which shows that a file may hold fewer than the trajectories do."""
    noise, mu = maker.noise[:1], shift_exponent(ROWS * (COLUMNS + 2 * PADDING))
    right = loop(maker, noise)["final_packed"]
    beyond = torch.arange(-PADDING, COLUMNS + PADDING)
    offsets = [0, 3, 1]
    found = {
        "own_loop_p2_wrapped": right,
        "p0_no_padding": loop(maker, noise, p=0, mu=mu)["final_packed"],
        "p1_wrapped": loop(maker, noise, p=1, mu=mu)["final_packed"],
        "p2_extended_ids": loop(maker, noise, columns=beyond)["final_packed"],
        "p2_repad_each_step": loop(maker, noise, offsets=[0, 0, 0])["final_packed"],
        "p2_wrapped_mu_unpadded": loop(maker, noise, mu=shift_exponent(ROWS * COLUMNS))["final_packed"],
        "p2_wrapped_mu_static_1.15": loop(maker, noise, mu=1.15)["final_packed"],
        "p2_log2_key_bias": right,  # no tokens but ln 2 on the keys: equal in exact arithmetic
        "roll_each_step": loop(maker, noise, offsets=offsets)["final_packed"],
    }
    tensors = {f"derived.{name}.final_packed": value for name, value in found.items()}
    edge = torch.tensor([2.0, 2.0, 1.0, 2.0, 2.0]).log().repeat(ROWS)
    tensors["derived.p2_log2_key_bias.bias"] = torch.cat([torch.zeros(TEXT), edge])
    tensors["derived.roll_each_step.offsets"] = torch.tensor(offsets)
    maker.save("derived_padding", tensors)


def make_trajectories(maker: Maker) -> None:
    """Two samples without guidance, one with; LoRAs at strengths that the checkout's vectors do not have."""
    t = {"in.latents_spatial": maker.noise, "in.latents": pack(maker.noise)}
    for name, prompt in (("", maker.prompts[True]), ("negative_", maker.prompts[False])):
        t[f"in.{name}prompt_embeds"], t[f"in.{name}pooled_prompt_embeds"] = prompt
    t["mu_padded"] = torch.tensor(shift_exponent(ROWS * (COLUMNS + 2 * PADDING)), dtype=torch.float64)
    off = loop(maker, maker.noise)
    latents = off["final_latent"] / VAE["scaling_factor"] + VAE["shift_factor"]
    picture = maker.vae.decode(latents[:1]).sample
    shown = ((picture / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
    off |= {"vae_input": latents, "image_raw": picture, "image_u8": shown}
    runs = {"cfg_off": off, "cfg_on": loop(maker, maker.noise[:1], cfg=CFG)}
    runs["cfg_on"].pop("latents_padded.1")
    for name, strength in {"lora": 1.0, "lora_0.3": 0.3}.items():
        run = loop(maker, maker.noise, net=_with_lora(maker, strength))
        runs[name] = {key: run[key] for key in ("final_packed", "latents_padded.0")}
    t |= {f"{name}.{key}": value for name, run in runs.items() for key, value in run.items()}
    maker.save("t2i", t, steps=STEPS, guidance=GUIDANCE, true_cfg=CFG)
    make_autoencoder(maker, latents, maker.vae.decode(latents).sample, shown)


def _with_lora(maker: Maker, strength: float) -> nn.Module:
    file = maker.folder / "lora_dit360.safetensors"
    if not file.exists():
        shapes = {
            name: layer.weight.shape
            for name, layer in maker.net.named_modules()
            if name.endswith(("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"))
        }
        pairs = {}
        for name, (wide, deep) in shapes.items():
            pairs[f"transformer.{name}.lora_A.weight"] = torch.randn(3, deep) * 0.3
            pairs[f"transformer.{name}.lora_B.weight"] = torch.randn(wide, 3) * 0.3
        save_file(pairs, file)
    pairs, changed = load_file(file), copy.deepcopy(maker.net)
    for name, layer in changed.named_modules():
        a, b = (pairs.get(f"transformer.{name}.lora_{which}.weight") for which in "AB")
        if a is not None:
            layer.weight += strength * b @ a
    return changed
