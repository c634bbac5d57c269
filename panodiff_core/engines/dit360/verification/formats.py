"""Every weight file: told apart, loaded strictly, and giving the numbers that its rounding allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ....autoencoders import ring as ring_vae
from ....autoencoders.latents import scale
from ....runtime.errors import CheckpointError
from ..formats import CLIP, T5, TRANSFORMER, VAE, read_parts
from ..model import FluxNetwork
from .folder import VectorFolder
from .rows import Row, compare
from .text import pooled_and_text

NAME = "formats"
CALL, CODING, TEXT = 5e-5, 1e-4, 1e-5
PLAIN = ("diffusers", "bfl")


def check(vectors: VectorFolder) -> Iterator[Row]:
    """The velocity of every transformer file, the picture of every VAE file, and the CLIP and T5 of every file that
    holds them in 16 or 32 bits."""
    files = vectors.files("transformer_*.safetensors", "transformer_*.gguf", "checkpoint_*.safetensors")
    files += vectors.files("vae_*.safetensors") + [
        vectors.path("clip_l.safetensors"),
        vectors.path("t5xxl_fp16.safetensors"),
    ]
    for path in files:
        try:
            parts = read_parts([path])
            for name in sorted(parts):
                yield from _CHECKS[name](vectors, path, parts[name].format)
        except CheckpointError as error:
            yield Row(NAME, f"{path.name}: {error}", float("inf"), 0.0)


def velocity_of(vectors: VectorFolder, transformer: nn.Module) -> Tensor:
    """The network's output for the inputs of forward.safetensors."""
    f = vectors.tensors("forward")
    network = FluxNetwork(transformer, f["in.img_ids"], f["in.prompt_embeds"].shape[1])
    with torch.no_grad():
        return network(
            f["in.hidden_states"],
            f["in.timestep"],
            (f["in.prompt_embeds"], f["in.pooled_prompt_embeds"], f["in.guidance"]),
        )


def _transformer(vectors: VectorFolder, path: Path, form: str) -> Iterator[Row]:
    expected = vectors.tensors("formats_expected")
    velocity = velocity_of(vectors, vectors.part(path.name, TRANSFORMER))
    yield compare(NAME, f"{path.name} ({form}): velocity", velocity, expected[_key(path, expected)], CALL)


def _key(path: Path, expected: dict[str, Tensor]) -> str:
    """Files that differ in their notes alone share one result, named by what they have in common."""
    if path.stem.removeprefix("transformer_") in PLAIN:
        return "velocity_reference"
    keys = [key for key in expected if path.stem.startswith(key.removeprefix("velocity."))]
    if not keys:
        raise CheckpointError(f"formats_expected has no velocity for {path.name}")
    return max(keys, key=len)


def _vae(vectors: VectorFolder, path: Path, form: str) -> Iterator[Row]:
    v = vectors.tensors("vae")
    vae = vectors.part(path.name, VAE)
    with torch.no_grad():
        picture = ring_vae.decode(vae, scale(v["in.vae_input"], vae), ring=False)
    yield compare(NAME, f"{path.name} ({form}): decode", picture, v["decode"], CODING)


def _clip(vectors: VectorFolder, path: Path, form: str) -> Iterator[Row]:
    t = vectors.tensors("text")
    pooled, _, _ = pooled_and_text(vectors, vectors.part(path.name, CLIP), None)
    yield compare(NAME, f"{path.name} ({form}): pooled", pooled, t["clip.pooled"], TEXT)


def _t5(vectors: VectorFolder, path: Path, form: str) -> Iterator[Row]:
    t5 = vectors.part(path.name, T5)
    if (
        "fp8" in form
    ):  # no vector holds T5's output at this precision: its weights must be the 16-bit ones, rounded
        original = vectors.part("t5xxl_fp16.safetensors", T5).state_dict()
        worst = max(
            (weight - original[name].to(torch.float8_e4m3fn).float()).abs().max().item()
            for name, weight in t5.state_dict().items()
        )
        yield Row(NAME, f"{path.name} ({form}): T5 weights, rounded", worst, 0.0)
        return
    expected = vectors.tensors("text")["t5.embeds_first96"]
    _, text, _ = pooled_and_text(vectors, None, t5)
    yield compare(NAME, f"{path.name} ({form}): text", text[:, : expected.shape[1]], expected, TEXT)


_CHECKS = {TRANSFORMER: _transformer, VAE: _vae, CLIP: _clip, T5: _t5}
