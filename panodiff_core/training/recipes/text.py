"""Recipe `dit360-text`: the two small text encoders, taught what captions say."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...conditioning.text import encode_clip, encode_t5
from ...data.captions import CaptionBatches, caption_classes
from ...data.tokenizers import build_clip_tokenizer, build_t5_tokenizer
from ..card import RunFacts
from ..model_folder import save_half

log = logging.getLogger(__name__)

NAME = "dit360-text"
HELP = "small CLIP and T5 encoders, trained to know what a caption states"
DEFAULTS = {"learning_rate": 2e-3, "steps": 1500, "picture_every": 0, "ema_decay": 0.995, "warmup": 50}


@dataclass(frozen=True)
class TextConfig:
    """Sizes of both encoders. `max_length` counts all tokens, start and end included."""

    width: int = 128
    clip_layers: int = 2
    t5_layers: int = 3
    heads: int = 4
    max_length: int = 48


class TextModule(nn.Module):
    """Both encoders and the heads that read every attribute back; the heads are thrown away after training.

    CLIP's pooled vector is read by one linear map. T5's sequence is read by one attention query per attribute, so
    that every attribute is stated somewhere in the sequence, as a transformer's cross-attention will look for it.
    """

    def __init__(self, config: TextConfig, words: int, eos: int) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

        super().__init__()
        width, self.eos = config.width, eos
        self.clip = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=words,
                hidden_size=width,
                intermediate_size=4 * width,
                projection_dim=width,
                num_hidden_layers=config.clip_layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.max_length,
                bos_token_id=0,
                eos_token_id=eos,
                pad_token_id=eos,
            )
        )
        self.t5 = T5EncoderModel(
            T5Config(
                vocab_size=words,
                d_model=width,
                d_kv=width // config.heads,
                d_ff=2 * width,
                num_layers=config.t5_layers,
                num_heads=config.heads,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                pad_token_id=0,
                eos_token_id=1,
                use_cache=False,
                is_encoder_decoder=False,
            )
        )
        self.classes = tuple(caption_classes().values())
        self.from_pooled = nn.Linear(width, sum(self.classes))
        self.queries = nn.Parameter(torch.randn(len(self.classes), width) * width**-0.5)
        self.from_sequence = nn.ModuleList(nn.Linear(width, n) for n in self.classes)

    def forward(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        pooled, sequence = self.logits(batch)
        losses, right = [], []
        for name, logits in (("clip", pooled), ("t5", sequence)):
            each = [F.cross_entropy(x.float(), batch["targets"][:, i]) for i, x in enumerate(logits)]
            losses.append(torch.stack(each).mean())
            right.append((name, _accuracy(logits, batch["targets"])))
        parts = {f"{name}_accuracy": value for name, value in right}
        return {"loss": losses[0] + losses[1], "clip": losses[0], "t5": losses[1], **parts}

    def logits(self, batch: dict[str, Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Logits per attribute from CLIP's pooled vector and from T5's sequence."""
        pooled = encode_clip(self.clip, batch["clip"], self.eos)
        sequence = encode_t5(self.t5, batch["t5"])
        scale = sequence.shape[-1] ** -0.5
        weights = torch.softmax(4.0 * scale * (self.queries @ sequence.transpose(1, 2)).float(), dim=-1)
        read = weights.to(sequence.dtype) @ sequence
        return (
            self.from_pooled(pooled).split(self.classes, dim=-1),
            tuple(head(read[:, i]) for i, head in enumerate(self.from_sequence)),
        )


def _accuracy(logits: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    return torch.stack([(x.argmax(-1) == targets[:, i]).float().mean() for i, x in enumerate(logits)]).mean()


class TextRecipe:
    """See `training.loop.Recipe`."""

    name = NAME

    def __init__(self, config: TextConfig, batch_size: int, seed: int) -> None:
        from ...data.worlds import vocabulary

        self.config, self.batch_size, self.seed = config, batch_size, seed
        self.words = vocabulary()
        self.tokenizer = build_clip_tokenizer(self.words, config.max_length)
        self.tokenizer_2 = build_t5_tokenizer(self.words, config.max_length)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return TextModule(self.config, len(self.tokenizer), self.tokenizer.eos_token_id)

    def batches(self) -> Dataset:
        return CaptionBatches(self.tokenizer, self.tokenizer_2, self.batch_size, self.seed)

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.AdamW(module.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        ]

    def pictures(self, module: nn.Module) -> None:
        return None

    def export(self, module: nn.Module, folder: Path, run: RunFacts) -> None:
        """Measure both encoders on combinations never trained on, bring their outputs to unit size, save them."""
        figures = self.evaluate(module)
        normalise_outputs(module, CaptionBatches(self.tokenizer, self.tokenizer_2, 256, self.seed + 1)[0])
        log.info("held-out captions: %s", json.dumps(figures))
        for name, model in (("text_encoder", module.clip), ("text_encoder_2", module.t5)):
            save_half(model, folder / name)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        self.tokenizer_2.save_pretrained(folder / "tokenizer_2")

    @torch.no_grad()
    def evaluate(self, module: nn.Module, captions: int = 512) -> dict[str, dict[str, float]]:
        """Accuracy per attribute on captions of held-out attribute combinations, for both encoders."""
        device = next(module.parameters()).device
        batch = CaptionBatches(self.tokenizer, self.tokenizer_2, captions, self.seed + 2, split="held_out")[0]
        batch = {key: value.to(device) for key, value in batch.items()}
        names = list(caption_classes())
        return {
            encoder: {
                name: round(float((x.argmax(-1) == batch["targets"][:, i]).float().mean()), 4)
                for i, (name, x) in enumerate(zip(names, logits, strict=True))
            }
            for encoder, logits in zip(("clip", "t5"), module.logits(batch), strict=True)
        }


@torch.no_grad()
def normalise_outputs(module: TextModule, batch: dict[str, Tensor]) -> None:
    """Scale the last norm of each encoder so that its output has root mean square 1 over a batch of captions."""
    device = next(module.parameters()).device
    pooled = encode_clip(module.clip, batch["clip"].to(device), module.eos).float()
    sequence = encode_t5(module.t5, batch["t5"].to(device)).float()
    text_model = getattr(module.clip, "text_model", module.clip)
    for parameters, output in (
        (text_model.final_layer_norm.parameters(), pooled),
        (module.t5.encoder.final_layer_norm.parameters(), sequence),
    ):
        for parameter in parameters:
            parameter.div_(output.square().mean().sqrt())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    default = TextConfig()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=default.width)
    parser.add_argument(
        "--max-length", type=int, default=default.max_length, help="tokens per prompt, all included"
    )


def build(args: argparse.Namespace) -> TextRecipe:
    """The recipe that the command line describes."""
    return TextRecipe(TextConfig(width=args.width, max_length=args.max_length), args.batch_size, args.seed)
