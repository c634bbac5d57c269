"""The small text tower, of the layout of the published one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....data.tokenizers import build_clip_tokenizer
from ....runtime.checks import check_least
from ....runtime.errors import InputError
from ..text import TextTower


@dataclass(frozen=True)
class TowerConfig:
    """Sizes of the tower. `max_length` counts all tokens of a prompt, start and end included. Raises InputError for a
    value out of range.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    max_length: int = 48

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads"):
            check_least(f"{name} of the text tower", getattr(self, name))
        check_least("max_length of the text tower", self.max_length, 3)  # start, a word, end
        if self.width % self.heads:
            raise InputError(
                f"width {self.width} of the text tower is no multiple of its {self.heads} heads: choose another"
            )


def new_text_tower(config: TowerConfig, words: Sequence[str]) -> TextTower:
    """A CLIP text model with fresh weights that knows `words`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = build_clip_tokenizer(tuple(dict.fromkeys(words)), config.max_length)
    end = tokenizer.eos_token_id
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            projection_dim=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    return TextTower(tokenizer, model)
