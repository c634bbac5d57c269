"""Which of FLUX's parts a weight file holds, and in which format, by header keys alone (dit360 spec, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....io.checkpoints.entries import Entry, with_prefix_removed
from ....io.checkpoints.filling import refuse_differences, some
from ....io.checkpoints.gguf import is_gguf, open_gguf
from ....io.checkpoints.quantised import dequantised, is_fp8, is_scaled
from ....io.checkpoints.safetensors_files import PICKLES, open_safetensors
from ....runtime.errors import CheckpointError
from .keys import transformer_from_bfl, vae_from_ldm

TRANSFORMER, VAE, CLIP, T5 = "transformer", "vae", "text_encoder", "text_encoder_2"
GGUF = "GGUF"
T5_EMBEDDING, T5_COPY = "shared.weight", "encoder.embed_tokens.weight"

_BFL = "double_blocks.0.img_attn.norm.key_norm.scale"
_SIGNATURES = (
    (TRANSFORMER, "BFL keys", _BFL),
    (TRANSFORMER, "diffusers keys", "transformer_blocks.0.attn.norm_added_q.weight"),
    (VAE, "ae keys", "decoder.mid.block_1.conv1.weight"),
    (VAE, "diffusers keys", "decoder.mid_block.resnets.0.conv1.weight"),
    (CLIP, "CLIP", "encoder.layers.0.self_attn.q_proj.weight"),
    (T5, "T5", "encoder.block.0.layer.0.SelfAttention.q.weight"),
)
_OTHER_MODELS = {
    "double_stream_modulation_img.lin.weight": "FLUX.2",
    "double_stream_modulation_img.linear.weight": "FLUX.2",
    "distilled_guidance_layer.in_proj.weight": "Chroma",
    "distilled_guidance_layer.layers.0.in_layer.weight": "Chroma",
    "joint_blocks.0.x_block.attn.qkv.weight": "Stable Diffusion 3",
    "input_blocks.0.0.weight": "Stable Diffusion 1, 2 or XL",
}
# Tensors that files carry along and no module of ours uses: CLIP's projections and position numbers, T5's spelling
# model and second copy of its embedding.
_CARRIED_ALONG = (
    "logit_scale",
    "text_projection",
    "text_projection.weight",
    "embeddings.position_ids",
    "spiece_model",
    T5_COPY,
)
_GUIDANCE = "time_text_embed.guidance_embedder.linear_1.weight"
_CHANNELS = {128: "FLUX.1-depth or FLUX.1-canny", 384: "FLUX.1-fill"}


@dataclass(frozen=True)
class FoundPart:
    """One part in a file: its tensors under the names of diffusers' or transformers' module, and the format found.

    `file_bytes` is the size of the whole file, or of all shards.
    """

    name: str
    format: str
    entries: dict[str, Entry]
    where: str
    file_bytes: int


def read_parts(files: list[Path]) -> dict[str, FoundPart]:
    """The parts of FLUX in a weight file, or in the shards of one, by diffusers' folder name.

    Reads headers only. Raises CheckpointError for a damaged file, a pickle, a model of another family (by name), a
    quantisation that is not read, or tensors that belong to none of the parts.
    """
    entries, storage, where = _open(files)
    places = _places(entries)
    if not places:
        _refuse_other_models(entries, where)
        raise CheckpointError(
            f"{where} holds no part of FLUX.1: it has {some(sorted(entries)) or 'no tensor at all'}; "
            "expected a FLUX.1-dev transformer, its VAE (ae), CLIP-L or T5-XXL"
        )
    size = sum(file.stat().st_size for file in files)
    claimed: set[str] = set()
    found = {}
    for name, (form, prefix) in places.items():
        names = {key for key in entries if key.startswith(prefix)}
        own = with_prefix_removed({key: entries[key] for key in names - claimed}, prefix)
        claimed |= names
        if name == TRANSFORMER:
            _refuse_other_models(own, where)
        label = ", ".join(filter(None, (form, prefix and f"prefix {prefix!r}", storage)))
        found[name] = FoundPart(name, label, _normal(name, form, own, where), f"{where} ({name})", size)
    left = sorted(key for key in entries.keys() - claimed if not key.endswith(_CARRIED_ALONG))
    refuse_differences(f"{where} has tensors that belong to no part of FLUX.1", [], left)
    return found


def refuse_relatives(entries: Mapping[str, Entry], config: Mapping[str, Any], where: str) -> None:
    """Raise CheckpointError by name for FLUX.1 models that the DiT360 LoRA was not trained on.

    `entries` are under diffusers' names, `config` holds the fields of transformer/config.json; either may tell.
    """
    embedder = entries.get("x_embedder.weight")
    columns = embedder.shape[-1] if embedder is not None and embedder.shape else None
    channels = next((n for n in (columns, config.get("in_channels")) if n in _CHANNELS), None)
    if channels is not None:
        raise CheckpointError(
            f"{where} is {_CHANNELS[channels]} ({channels} input channels instead of 64): DiT360 was trained on "
            "FLUX.1-dev, use that"
        )
    if _GUIDANCE not in entries or not config.get("guidance_embeds", False):
        raise CheckpointError(
            f"{where} has no guidance embedding: this is FLUX.1-schnell or made from it; DiT360 was trained on "
            "FLUX.1-dev, use that"
        )


def _open(files: list[Path]) -> tuple[dict[str, Entry], str, str]:
    where = str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} shards)"
    if any(files[0].match(pattern) for pattern in PICKLES):
        raise CheckpointError(f"{where} is a pickle; only safetensors and GGUF files are read")
    if len(files) == 1 and is_gguf(files[0]):
        opened = open_gguf(files[0])
        kind = opened.fields.get("general.architecture")
        if kind in ("t5", "t5encoder", "clip"):
            raise CheckpointError(
                f"{where} is a text encoder in GGUF ({kind}), which is not read: use t5xxl_fp16.safetensors or "
                "t5xxl_fp8_e4m3fn.safetensors for T5, clip_l.safetensors for CLIP-L"
            )
        if kind != "flux":
            raise CheckpointError(
                f"{where} is a GGUF file for {kind!r}, expected 'flux': use a FLUX.1-dev file"
            )
        return opened.entries, GGUF, where
    entries, metadata = open_safetensors(files)
    storage = "scaled fp8" if is_scaled(entries) else "fp8" if is_fp8(entries) else ""
    return dequantised(entries, metadata, where), storage, where


def _places(entries: Mapping[str, Entry]) -> dict[str, tuple[str, str]]:
    """Part → (format, prefix). Of several copies of a part the one with the most tensors counts."""
    places: dict[str, tuple[str, str]] = {}
    for part, form, signature in _SIGNATURES:
        prefixes = [n.removesuffix(signature) for n in entries if n.endswith(signature)]
        prefixes = [p for p in prefixes if not p or p.endswith(".")]
        if prefixes and part not in places:
            best = max(prefixes, key=lambda prefix: sum(n.startswith(prefix) for n in entries))
            places[part] = (form, best.removesuffix("text_model.") if part == CLIP else best)
    # Longest first: the rest of a file without prefix must not swallow what stands below one.
    return dict(sorted(places.items(), key=lambda item: -len(item[1][1])))


def _normal(part: str, form: str, entries: dict[str, Entry], where: str) -> dict[str, Entry]:
    """The entries under the module's names."""
    if part == TRANSFORMER and form == "BFL keys":
        if "img_in.weight" not in entries or len(entries["img_in.weight"].shape) != 2:
            raise CheckpointError(f"{where} lacks 'img_in.weight': the file is incomplete, fetch it again")
        found, unknown = transformer_from_bfl(entries, entries["img_in.weight"].shape[0])
        refuse_differences(f"{where} has tensors that FLUX.1-dev does not have", [], unknown)
        return found
    if part == VAE and form == "ae keys":
        return vae_from_ldm(entries)
    return text_names(entries) if part in (CLIP, T5) else entries


def text_names(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """CLIP's or T5's entries without the prefix `text_model.`, in which files and library versions differ, and
    without what no module reads."""
    plain = {name.removeprefix("text_model."): entry for name, entry in entries.items()}
    if T5_COPY in plain:
        plain.setdefault(T5_EMBEDDING, plain[T5_COPY])
    return {name: entry for name, entry in plain.items() if not name.endswith(_CARRIED_ALONG)}


def _refuse_other_models(entries: Mapping[str, Entry], where: str) -> None:
    for ending, family in _OTHER_MODELS.items():
        if any(name == ending or name.endswith("." + ending) for name in entries):
            raise CheckpointError(
                f"{where} is a {family} model: DiT360 was trained on FLUX.1-dev, use that transformer"
            )
