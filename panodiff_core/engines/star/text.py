"""Prompts → what STAR listens to: the text tower of Stable Diffusion 2.1 (OpenCLIP ViT-H), or one of the same layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...conditioning.text import Reading, check_tokenizer, read_prompts
from ...runtime.errors import CheckpointError, InputError

SOURCE = (
    "take text_encoder/ and tokenizer/ from Stable Diffusion 2.1 in diffusers' layout, and put them into the model's "
    "folder, or give their folder as text (--text)"
)


@dataclass(frozen=True)
class TextFeatures:
    """Encoded prompts, one row each: `hidden` [P, T, D], the tower's last hidden states; `pooled` [P, D], that at the
    end-of-text token, without projection; `mask` [P, T], True where a token is real. Raises InputError when the shapes
    do not belong together, or a row has no real token.
    """

    hidden: Tensor
    pooled: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        shape = self.hidden.shape
        good = (
            self.hidden.ndim == 3
            and self.pooled.shape == (shape[0], shape[2])
            and self.mask.shape == shape[:2]
        )
        if not good:
            raise InputError(
                "text must be hidden [P, T, D], pooled [P, D] and mask [P, T], got "
                f"{list(shape)}, {list(self.pooled.shape)} and {list(self.mask.shape)}"
            )
        if not self.mask.bool().any(dim=1).all():
            raise InputError("the text mask hides every token of a row: each needs at least one")

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.hidden)

    def __getitem__(self, rows: slice) -> TextFeatures:
        return TextFeatures(self.hidden[rows], self.pooled[rows], self.mask[rows])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> TextFeatures:
        """The same on another device, and in another precision; the mask stays where it is."""
        return TextFeatures(self.hidden.to(device, dtype), self.pooled.to(device, dtype), self.mask)

    def take(self, rows: Sequence[int]) -> TextFeatures:
        """These rows, which may repeat."""
        return TextFeatures(self.hidden[list(rows)], self.pooled[list(rows)], self.mask[list(rows)])

    def each(self, times: int) -> TextFeatures:
        """Every row so many times, one after the other."""
        return self.take([row for row in range(len(self)) for _ in range(times)])

    def repeat(self, prompts: int) -> TextFeatures:
        """One row for all of so many prompts, or the rows as they are. Raises InputError for another number."""
        if len(self) == prompts:
            return self
        if len(self) != 1:
            raise InputError(f"{len(self)} texts for {prompts} prompts: give one for all, or one each")
        return TextFeatures(*(x.expand(prompts, *x.shape[1:]) for x in (self.hidden, self.pooled, self.mask)))

    def interleave(self, other: TextFeatures, run: int = 1) -> TextFeatures:
        """Rows of both in turn, `run` at a time: self 0, other 0, self 1, … The shorter texts are padded with hidden
        tokens.
        """
        length = max(self.hidden.shape[1], other.hidden.shape[1])
        pairs = zip(self._padded(length), other._padded(length), strict=True)
        runs = ([each.unflatten(0, (-1, run)) for each in pair] for pair in pairs)
        return TextFeatures(*(torch.stack(pair, dim=1).flatten(0, 2) for pair in runs))

    def _padded(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        more = length - self.hidden.shape[1]
        return F.pad(self.hidden, (0, 0, 0, more)), self.pooled, F.pad(self.mask.bool(), (0, more))


class TextTower:
    """A CLIP text model with its tokenizer. Raises CheckpointError for a tokenizer that cannot serve it."""

    def __init__(self, tokenizer: Any, model: nn.Module) -> None:
        check_tokenizer("tokenizer", tokenizer)
        self.tokenizer, self.model = tokenizer, model
        positions = model.config.max_position_embeddings
        if tokenizer.model_max_length > positions:
            raise CheckpointError(
                f"tokenizer/ reads {tokenizer.model_max_length} tokens and text_encoder/ has {positions} positions: "
                "they do not belong together"
            )
        if len(tokenizer) > model.config.vocab_size:
            raise CheckpointError(
                f"tokenizer/ knows {len(tokenizer)} tokens and text_encoder/ {model.config.vocab_size}: "
                "they do not belong together"
            )

    @property
    def width(self) -> int:
        """Width of its hidden states."""
        return self.model.config.hidden_size

    def read(self, prompts: Sequence[str]) -> Reading:
        """Which words have no token, and what is cut off. Needs no model."""
        return read_prompts((("CLIP", self.tokenizer),), prompts)

    def encode(self, prompts: Sequence[str], device: torch.device | str | None = None) -> TextFeatures:
        """Encoded prompts; "" is the text of guidance's unconditional half. Gradients flow.

        Padded to the longest of them, not to the model's limit: the tower is causal, so what follows a text, seen or
        not, changes nothing in it, and hidden tokens are masked anyway. Raises InputError for no prompts.
        """
        if isinstance(prompts, str) or not prompts or not all(isinstance(each, str) for each in prompts):
            raise InputError(f"prompts must be a list of texts, got {prompts!r}")
        encoded = self.tokenizer(
            list(prompts),
            padding="longest",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        )
        ids, mask = encoded["input_ids"], encoded["attention_mask"].bool()
        hidden = self.model(input_ids=ids.to(device)).last_hidden_state
        # Told by the mask, not by the token: Stable Diffusion 1 and others also pad with the end-of-text token.
        end = (mask & (ids == self.tokenizer.eos_token_id)).int().argmax(dim=1).to(hidden.device)
        return TextFeatures(hidden, hidden[torch.arange(len(ids), device=hidden.device), end], mask)


def load_text_tower(folder: Path, width: int | None = None, dtype: torch.dtype = torch.float32) -> TextTower:
    """The tower in `folder`/text_encoder with `folder`/tokenizer, frozen, on the CPU.

    `width` is what the generator expects. Raises CheckpointError when a part is missing, cannot be read, is incomplete,
    or another model's.
    """
    from transformers import AutoTokenizer, CLIPTextModel

    for part in ("text_encoder", "tokenizer"):
        if not (folder / part).is_dir():
            raise CheckpointError(f"{folder} has no {part}/: {SOURCE}")
    try:
        model, found = CLIPTextModel.from_pretrained(
            str(folder / "text_encoder"),
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=dtype,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
    except Exception as error:  # the library raises whatever its parsers raise
        raise CheckpointError(f"{folder} cannot be read as a text encoder ({error}): {SOURCE}") from error
    if found["missing_keys"] or found["mismatched_keys"]:
        lacking = sorted(found["missing_keys"]) or sorted(map(str, found["mismatched_keys"]))
        raise CheckpointError(
            f"{folder / 'text_encoder'} lacks {len(lacking)} tensors, first {lacking[0]}: {SOURCE}"
        )
    tower = TextTower(tokenizer, model.train(False).requires_grad_(False))
    if width is not None and tower.width != width:
        raise CheckpointError(
            f"{folder / 'text_encoder'} is {tower.width} wide and the generator expects {width}: {SOURCE}"
        )
    return tower
