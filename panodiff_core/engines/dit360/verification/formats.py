"""Every weight file: told apart, loaded strictly, and giving the numbers that its rounding allows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ....autoencoders import ring as ring_vae
from ....autoencoders.latents import scale
from ....runtime.errors import CheckpointError
from ....verification import Row, compare, failed
from ..checkpoint.formats import CLIP, T5, TRANSFORMER, VAE, read_parts
from ..model import FluxNetwork
from .folder import CLIP_FILE, T5_FILE, DiT360Vectors
from .text import pooled_and_text

NAME = "formats"
CALL, CODING, TEXT = 5e-5, 1e-4, 1e-5
PLAIN = ("diffusers", "bfl")


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """The velocity of every transformer file, the picture of every VAE file, and the CLIP and T5 of every file that
    holds them in 16 or 32 bits."""
    files = vectors.files("transformer_*.safetensors", "transformer_*.gguf", "checkpoint_*.safetensors")
    files += vectors.files("vae_*.safetensors") + [
        vectors.path(CLIP_FILE),
        vectors.path(T5_FILE),
    ]
    for path in files:
        try:
            parts = read_parts([path])
            for name in sorted(parts):
                yield from _CHECKS[name](vectors, path, parts[name].format)
        except CheckpointError as error:
            yield failed(NAME, f"{path.name}: {error}")


def velocity_of(vectors: DiT360Vectors, transformer: nn.Module) -> Tensor:
    """The network's output for the inputs of forward.safetensors."""
    f = vectors.tensors("forward")
    network = FluxNetwork(transformer, f["in.img_ids"], f["in.prompt_embeds"].shape[1])
    with torch.no_grad():
        return network(
            f["in.hidden_states"],
            f["in.timestep"],
            (f["in.prompt_embeds"], f["in.pooled_prompt_embeds"], f["in.guidance"]),
        )


def _transformer(vectors: DiT360Vectors, path: Path, form: str) -> Iterator[Row]:
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


def _vae(vectors: DiT360Vectors, path: Path, form: str) -> Iterator[Row]:
    v = vectors.tensors("vae")
    vae = vectors.part(path.name, VAE)
    with torch.no_grad():
        picture = ring_vae.decode(vae, scale(v["in.vae_input"], vae), ring=False)
    yield compare(NAME, f"{path.name} ({form}): decode", picture, v["decode"], CODING)


def _clip(vectors: DiT360Vectors, path: Path, form: str) -> Iterator[Row]:
    clip = vectors.part(path.name, CLIP)
    rounded = _rounding(vectors, clip, CLIP_FILE, CLIP)
    if rounded is not None:
        yield Row(NAME, f"{path.name} ({form}): CLIP weights, rounded", rounded, 0.0)
        return
    pooled, _, _ = pooled_and_text(vectors, clip, None)
    expected = vectors.tensors("text")["clip.pooled"]
    yield compare(NAME, f"{path.name} ({form}): pooled", pooled, expected, TEXT)


def _t5(vectors: DiT360Vectors, path: Path, form: str) -> Iterator[Row]:
    t5 = vectors.part(path.name, T5)
    rounded = _rounding(vectors, t5, T5_FILE, T5)
    if rounded is not None:
        yield Row(NAME, f"{path.name} ({form}): T5 weights, rounded", rounded, 0.0)
        return
    t = vectors.tensors("text")
    _, text, _ = pooled_and_text(vectors, None, t5)
    for key in sorted(key for key in t if re.fullmatch(r"t5\.embeds_first\d+", key)):
        first = text[:, : t[key].shape[1]]
        yield compare(NAME, f"{path.name} ({form}): text", first, t[key], TEXT)


def _rounding(vectors: DiT360Vectors, encoder: nn.Module, file: str, name: str) -> float | None:
    """How far an encoder's weights are from those of `file` rounded to 8 bits; None where they are the same as there.

    No vector holds what an encoder says at that precision.
    """
    original = vectors.part(file, name).state_dict()
    weights = encoder.state_dict()
    if all(torch.equal(weight, original[key]) for key, weight in weights.items()):
        return None
    return max(
        (weight - original[key].to(torch.float8_e4m3fn).float()).abs().max().item()
        for key, weight in weights.items()
    )


_CHECKS = {TRANSFORMER: _transformer, VAE: _vae, CLIP: _clip, T5: _t5}
