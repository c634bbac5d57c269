"""t2i.safetensors: whole trajectories through the engine, with true CFG off and on, and with the LoRA."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ....autoencoders import ring as ring_vae
from ....autoencoders.latents import unscale
from ....conditioning.text import TextCondition
from ....layers.ring import pack, unpack
from ....runtime.progress import Step
from ..lora import MODES, LoraStack, read_lora
from ..model import RingGrid
from .folder import VectorFolder, grid_of
from .rows import Row, compare

NAME = "t2i"
BOUND, CALL, CODING, SIGMAS = 2e-4, 5e-5, 1e-4, 2e-7
LORAS = {"lora": 1.0, "lora_half": 0.5}


def check(vectors: VectorFolder) -> Iterator[Row]:
    """Every step's noise level, state and velocity, the final latents and the decoded picture."""
    about = vectors.metadata(NAME)
    transformer = vectors.transformer()
    for name, cfg in (("cfg_off", 1.0), ("cfg_on", float(about["true_cfg"]))):
        for batched in (True, False) if cfg != 1.0 else (True,):
            how = "" if cfg == 1.0 else " (one call)" if batched else " (two calls)"
            yield from _trajectory(vectors, transformer, name, cfg, batched, how)
    yield from _picture(vectors)
    # The vectors were made by a loader that knows no alpha: scale and strength are one.
    adapter = read_lora(vectors.path("lora_dit360.safetensors"))
    for mode in MODES:
        for name, strength in LORAS.items():
            lora = LoraStack(transformer, [adapter], [strength], mode)
            yield from _lora(vectors, transformer, name, f" ({mode})")
            lora.remove()
    original = vectors.transformer().state_dict()
    worst = max((weight - original[n]).abs().max().item() for n, weight in transformer.state_dict().items())
    yield Row(NAME, "weights after the LoRA is taken off", worst, 0.0)


def condition(vectors: VectorFolder, count: int, negative: bool = False) -> TextCondition:
    """The first `count` prompts of t2i.safetensors."""
    t = vectors.tensors(NAME)
    keys = ["in.prompt_embeds", "in.pooled_prompt_embeds"]
    if negative:
        keys += ["in.negative_prompt_embeds", "in.negative_pooled_prompt_embeds"]
    return TextCondition(*(t[key][:count] for key in keys))


def final_tokens(vectors: VectorFolder, transformer, count: int | None = None, **options) -> Tensor:
    """Unpadded tokens after the engine's own loop, from the vectors' noise."""
    noise = vectors.tensors(NAME)["in.latents_spatial"][:count]
    bound = condition(vectors, len(noise), "cfg" in options)
    return pack(vectors.engine(transformer).sample(bound, latents=noise, **options))


def _trajectory(
    vectors: VectorFolder, transformer, name: str, cfg: float, batched: bool, how: str
) -> Iterator[Row]:
    t, steps = vectors.tensors(NAME), []
    expected = t[f"{name}.final_packed"]
    options = {"true_cfg_batched": batched, "on_step": steps.append}
    if cfg != 1.0:
        options["cfg"] = cfg
    final = final_tokens(vectors, transformer, len(expected), **options)
    size = grid_of(vectors.metadata(NAME))
    yield compare(NAME, f"{name}.final_packed{how}", final, expected, BOUND)
    yield compare(NAME, f"{name}.final_latent{how}", unpack(final, *size), t[f"{name}.final_latent"], BOUND)
    before = t["in.latents_spatial"][: len(expected)]
    for i, step in enumerate(steps):
        yield from _step(t, name, how, i, step, before, RingGrid(*size, 1))
        before = step.latents


def _step(t: dict[str, Tensor], name: str, how: str, i: int, step: Step, before: Tensor, grid: RingGrid):
    key = f"{name}.latents_padded.{i}"
    yield compare(NAME, key + how, grid.enter(step.latents), t[key], BOUND)
    sigmas = t[f"{name}.sigmas"]
    yield Row(NAME, f"{name}.sigmas.{i + 1}{how}", abs(step.sigma - sigmas[i + 1].item()), SIGMAS)
    if name == "cfg_off":
        velocity = (before - step.denoised) / sigmas[i]
        yield compare(NAME, f"{name}.velocity.{i}", grid.enter(velocity), t[f"{name}.velocity.{i}"], BOUND)


@torch.no_grad()
def _picture(vectors: VectorFolder) -> Iterator[Row]:
    t, vae = vectors.tensors(NAME), vectors.vae()
    for name in ("cfg_off", "cfg_on"):
        latents = t[f"{name}.final_latent"]
        raw = unscale(latents, vae)
        yield compare(NAME, f"{name}.vae_input", raw, t[f"{name}.vae_input"], 1e-6)
        decoded = ring_vae.decode(vae, latents[: len(t[f"{name}.image_raw"])], ring=False)
        yield compare(NAME, f"{name}.image_raw", decoded, t[f"{name}.image_raw"], CODING)
    shown = t["cfg_off.image_u8"].permute(0, 3, 1, 2)
    pixels = ring_vae.to_pixels(ring_vae.decode(vae, t["cfg_off.final_latent"], ring=False))
    levels = (pixels[: len(shown)] * 255).round()
    yield compare(NAME, "cfg_off.image_u8, levels of 255", levels, shown, 1.0)


def _lora(vectors: VectorFolder, transformer, name: str, how: str) -> Iterator[Row]:
    t, steps = vectors.tensors(NAME), []
    expected = t[f"{name}.final_packed"]
    final = final_tokens(vectors, transformer, len(expected), on_step=steps.append)
    yield compare(NAME, f"{name}.final_packed{how}", final, expected, BOUND)
    key = f"{name}.latents_padded.0"
    if key in t:
        grid = RingGrid(*grid_of(vectors.metadata(NAME)), 1)
        yield compare(NAME, key + how, grid.enter(steps[0].latents), t[key], BOUND)
