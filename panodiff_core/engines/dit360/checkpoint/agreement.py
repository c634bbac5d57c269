"""Whether the parts of a model are those of FLUX.1-dev and belong together, by their configurations."""

from __future__ import annotations

from collections.abc import Mapping

from ....conditioning.text import TextEncoder
from ....layers.ring import PATCH
from ....runtime.errors import CheckpointError
from ..model import check_transformer_config
from .formats import CLIP, T5, TRANSFORMER, VAE, refuse_relatives
from .layout import KINDS, SOURCE, ModelSource, PartSource


def check_kind(part: PartSource) -> None:
    """Raise CheckpointError when the configuration is another family's."""
    if part.name == TRANSFORMER:
        refuse_relatives(part.entries, part.config, part.where)
        return check_transformer_config(part.config, part.where)
    key, value = KINDS[part.name]
    found = part.config.get(key)
    if found != value:
        raise CheckpointError(f"{part.where}/config.json has {key} {found!r}, expected {value!r}: {SOURCE}")
    return None


def check_configs(parts: Mapping[str, PartSource]) -> None:
    """`check_kind` of every part. Raises CheckpointError also when the widths at which they meet differ."""
    try:
        for part in parts.values():
            check_kind(part)
    except TypeError as error:
        raise CheckpointError(
            f"{part.where} has a config.json with a value of the wrong type ({error})"
        ) from error
    transformer, vae = parts[TRANSFORMER].config, parts[VAE].config
    for what, left, right, other in (
        (
            "joint_attention_dim",
            transformer.get("joint_attention_dim", 4096),
            parts[T5].config.get("d_model"),
            T5,
        ),
        (
            "pooled_projection_dim",
            transformer.get("pooled_projection_dim", 768),
            parts[CLIP].config.get("hidden_size"),
            CLIP,
        ),
        ("in_channels", transformer.get("in_channels", 64), PATCH**2 * vae.get("latent_channels", 4), VAE),
    ):
        if left != right:
            raise CheckpointError(
                f"{parts[TRANSFORMER].where} has {what} {left}, {parts[other].where} gives {right}: "
                "the parts come from different models"
            )


def check_vocabulary(source: ModelSource, text: TextEncoder) -> None:
    """Raise CheckpointError when a tokenizer has more tokens, or longer texts, than its encoder has room for."""
    for part, encoder, tokenizer in (
        ("tokenizer", CLIP, text.tokenizer),
        ("tokenizer_2", T5, text.tokenizer_2),
    ):
        folder, config = source.tokenizers[part], source.parts[encoder].config
        room, words = config.get("vocab_size"), len(tokenizer)
        if room is not None and words > room:
            raise CheckpointError(
                f"{folder} has {words} tokens, {encoder} has {room} embeddings: they belong to different models"
            )
        positions = config.get("max_position_embeddings")
        if positions is not None and tokenizer.model_max_length > positions:
            raise CheckpointError(
                f"{folder}: model_max_length {tokenizer.model_max_length} exceeds the {positions} positions of {encoder}"
            )
