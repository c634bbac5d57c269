"""Which weights of STAR a file holds, under the official names: the wrappings that are around, unwrapped.

Files of STAR's trainer nest `trainer.var_wo_ddp` and `trainer.vae_local`; others hold one part alone, or both with
those prefixes. The CamVAR fork keeps copies of the autoencoder and of every adapter inside the generator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ....io.checkpoints.entries import Entry, with_prefix_removed
from ....io.checkpoints.filling import some
from ....io.checkpoints.safetensors_files import open_safetensors
from ....io.checkpoints.torch_files import open_torch, tensor_entries
from ....runtime.errors import CheckpointError

GENERATOR, VQVAE = "var_wo_ddp", "vae_local"
_GENERATOR_SIGN, _VQVAE_SIGN = "encoder_proj.weight", "quantize.embedding.weight"
_CLASS_CONDITIONAL_SIGN = "blocks.0.ada_lin.1.weight"
_FORK_COPIES = ("vae_local.", "quantize_local.")
_FORK_ADAPTERS = (
    (r"faceray_adapters\.(\d+)\.(.+)", r"blocks.\1.faceray_adapter.\2"),
    (r"faceray_sampler_adapters\.(\d+)\.(.+)", r"feat_extract_blocks.\1.faceray_adapter.\2"),
)


@dataclass(frozen=True)
class StarWeights:
    """The tensors of a file under the official names; a part that it lacks is empty.

    `patch_nums`: the scale list, where the trainer left it. `form`: the wrapping found, for people.
    """

    generator: dict[str, Entry]
    vqvae: dict[str, Entry]
    patch_nums: tuple[int, ...] | None
    form: str
    where: str


def open_weights(path: Path) -> StarWeights:
    """Read names and shapes of a .safetensors file or a file of torch.save; tensors are read later.

    Raises CheckpointError for a file that is missing, damaged, could run code, holds neither part, or is of a
    class-conditional VAR.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path}: give the generator's or the autoencoder's weight file"
        )
    if path.suffix == ".safetensors":
        entries, _ = open_safetensors([path])
        return split(entries, None, "safetensors", str(path))
    tree, form = open_torch(path), "flat .pth"
    if isinstance(tree, Mapping) and isinstance(tree.get("trainer"), Mapping):
        tree, form = tree["trainer"], "trainer .pth"
    if not isinstance(tree, Mapping):
        raise CheckpointError(f"{path} holds a {type(tree).__name__} instead of a dictionary of tensors")
    if GENERATOR not in tree and VQVAE not in tree:
        return split(tensor_entries(tree, str(path)), None, form, str(path))
    entries = {}
    for part in (GENERATOR, VQVAE):
        state = tree.get(part, {})
        if not isinstance(state, Mapping):
            raise CheckpointError(f"{path}: {part!r} is a {type(state).__name__}, not a state dict")
        found = tensor_entries(state, f"{path} ({part})")
        entries |= {f"{part}.{name}": entry for name, entry in found.items()}
    return split(entries, _scale_list(tree.get("config")), form, str(path))


def split(
    entries: Mapping[str, Entry], patch_nums: tuple[int, ...] | None, form: str, where: str
) -> StarWeights:
    """Sort entries into generator and autoencoder: by prefix, or by what a file without prefixes holds.

    Raises CheckpointError when they are neither, or when there is more than the two.
    """
    parts = {part: with_prefix_removed(entries, f"{part}.") for part in (GENERATOR, VQVAE)}
    if _GENERATOR_SIGN in entries:
        parts = {GENERATOR: dict(entries), VQVAE: {}}
    elif _VQVAE_SIGN in entries:
        parts = {GENERATOR: {}, VQVAE: dict(entries)}
    elif not any(parts.values()):
        _refuse(entries, where)
    elif len(entries) > sum(len(part) for part in parts.values()):
        left = sorted(n for n in entries if not n.startswith((f"{GENERATOR}.", f"{VQVAE}.")))
        raise CheckpointError(f"{where} holds more than STAR's weights: {some(left)}")
    generator, copies = _without_fork_copies(parts[GENERATOR], where)
    if generator and _GENERATOR_SIGN not in generator:
        _refuse(generator, where)
    return StarWeights(generator, parts[VQVAE] or copies, patch_nums, form, where)


def _without_fork_copies(
    entries: Mapping[str, Entry], where: str
) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """The generator's own entries, adapters under their block, and the autoencoder that the fork put among them."""
    own: dict[str, Entry] = {}
    doubles: dict[str, Entry] = {}
    for name, entry in entries.items():
        if name.startswith(_FORK_COPIES):
            continue
        placed = _in_its_block(name)
        (own if placed == name else doubles)[placed] = entry
    for name, entry in doubles.items():
        if name in own and not torch.equal(own[name].read(), entry.read()):
            raise CheckpointError(
                f"{where} gives {name!r} twice, with different numbers: the file is damaged"
            )
    return {**doubles, **own}, with_prefix_removed(entries, _FORK_COPIES[0])


def _in_its_block(name: str) -> str:
    for pattern, place in _FORK_ADAPTERS:
        if match := re.fullmatch(pattern, name):
            return match.expand(place)
    return name


def _refuse(entries: Mapping[str, Entry], where: str) -> None:
    if _CLASS_CONDITIONAL_SIGN in entries:
        raise CheckpointError(
            f"{where} is a class-conditional VAR: it takes no text. Use a generator of STAR (huggingface.co/taocrayon/STAR)"
        )
    raise CheckpointError(
        f"{where} holds no part of STAR: it has {some(sorted(entries)) or 'no tensor at all'}; expected a generator "
        "(huggingface.co/taocrayon/STAR) or vae_ch160v4096z32.pth (huggingface.co/FoundationVision/var)"
    )


def _scale_list(config: Any) -> tuple[int, ...] | None:
    sides = config.get("patch_nums") if isinstance(config, Mapping) else None
    if isinstance(sides, (list, tuple)) and sides and all(type(side) is int for side in sides):
        return tuple(sides)
    return None
