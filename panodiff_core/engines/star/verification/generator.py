"""star.safetensors, the generator's part: rotary tables, teacher forcing with its intermediates, cached inference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....verification import Group, Row, VectorFolder, compare_scaled
from ..blocks import norm
from ..checkpoint import SAMPLER, fill_generator
from ..checkpoint.filling import added_part
from ..config import CROSS_ATTENTION, STARConfig
from ..generator import STARGenerator
from ..inference import Watch, generate
from ..masked_sampler import MaskedSampler
from ..options import GenerationOptions
from ..rope import AxialRope, axial_angles, rotate
from ..scales import Scales
from ..span import Span
from ..text import TextFeatures
from .folder import RESULTS, WEIGHTS, StarVectors

NAME = "generator"
TIGHT = 1e-5
"""What float32 allows here; the vectors' own rule is ten times wider."""


def load_generator(vectors: StarVectors, **changed: str) -> STARGenerator:
    """The generator with the folder's weights, in float32; `changed` are settings such as cross_attention."""
    module = STARGenerator(vectors.generator_config(**changed))
    entries = {k: v for k, v in vectors.weights().generator.items() if added_part(k) is None}
    fill_generator(module, entries, WEIGHTS)
    return module.train(False)


def load_sampler(vectors: StarVectors) -> MaskedSampler:
    """The masked sampler with the folder's weights, in float32."""
    module = MaskedSampler(vectors.generator_config())
    entries = {k: v for k, v in vectors.weights().generator.items() if added_part(k) == SAMPLER}
    fill_generator(module, entries, WEIGHTS)
    return module.train(False)


def text_of(vectors: VectorFolder, half: str) -> TextFeatures:
    """The text "cond" or "uncond" of star.safetensors."""
    t = vectors.tensors(RESULTS)
    return TextFeatures(t[f"text.hidden_{half}"], t[f"text.pool_{half}"], t[f"text.mask_{half}"].bool())


def decoded(vectors: StarVectors, latents: Tensor) -> Tensor:
    """The picture of latents, 0..1."""
    return vectors.vqvae().decode(latents)


def modes(vectors: VectorFolder, prefix: str, suffix: str) -> list[str]:
    """The cross-attention modes for which the file has `prefix`MODE`suffix`."""
    found = [mode for mode in CROSS_ATTENTION if f"{prefix}{mode}{suffix}" in vectors.tensors(RESULTS)]
    if not found:
        raise KeyError(f"{prefix}*{suffix}")
    return found


def check_rotary(vectors: StarVectors) -> Iterator[Row]:
    """The tables of this model and of the published 512-pixel one, a rotation, and the LayerNorm."""
    t, config = vectors.tensors(RESULTS), vectors.generator_config()
    rope = AxialRope(vectors.scales(), config.head_dim, config.rope_norm, config.rope_theta)
    table = rope.table(Span(tuple(range(len(rope.scales)))))
    yield _row(t, "rope.freqs_cis", torch.view_as_real(table).squeeze(1))
    yield _row(t, "rope.q_out", rotate(t["rope.q_in"], table.squeeze(1)))
    real = STARConfig()
    sides = Scales(real.patch_nums).sides

    def angles(side: int) -> Tensor:
        angle = axial_angles(side, real.head_dim, real.rope_norm, real.rope_theta)
        return torch.stack([angle.cos(), angle.sin()], dim=-1)

    yield _row(t, "rope.d30_512.scales_0_to_5", torch.cat([angles(side) for side in sides[:6]]))
    yield _row(t, "rope.d30_512.last", angles(sides[-1])[t["rope.d30_512.last_rows"]])
    yield _row(t, "norm.ln_out", norm(t["norm.ln_in"], config.norm_eps))


@torch.no_grad()
def check_taught(vectors: StarVectors) -> Iterator[Row]:
    """Teacher forcing in every mode that the file has, with all intermediates of the mode "per_row"."""
    t, scales = vectors.tensors(RESULTS), vectors.scales()
    targets = torch.cat([t[f"vae.idx.{s}"] for s in range(len(scales))], dim=1)
    for mode in modes(vectors, "tf.", ".logits"):
        generator = load_generator(vectors, cross_attention=mode)
        prefix = f"tf.{mode}"
        with ExitStack() as stack:
            seen = _look_on(generator, stack)
            logits, _ = generator(t["vae.x_BLCv_wo_first_l"], text_of(vectors, "cond"))
        for name, value in seen.items():
            if f"{prefix}.{name}" in t:
                yield _row(t, f"{prefix}.{name}", value)
        yield _row(t, f"{prefix}.logits", logits)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        yield _row(t, f"{prefix}.loss_mean_ce", loss.view(1))


def _look_on(generator: STARGenerator, stack: ExitStack) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module) -> None:
        hook = module.register_forward_hook(lambda module, inputs, output: seen.__setitem__(name, output))
        stack.callback(hook.remove)

    first = generator.blocks[0]
    enter = first.register_forward_pre_hook(lambda module, inputs: seen.__setitem__("embed", inputs[0]))
    stack.callback(enter.remove)
    parts = {"self_attn": first.attn, "cross_attn": first.cross_attn, "ffn": first.ffn}
    for name, module in parts.items():
        keep(f"block0.{name}_out", module)
    for index, block in enumerate(generator.blocks):
        keep(f"block{index}.out", block)
    return seen


def check_inference(vectors: StarVectors) -> Iterator[Row]:
    """Greedy generation in every mode, and that its logits are those of teacher forcing on what it drew."""
    t, about = vectors.tensors(RESULTS), vectors.about()
    quantizer = vectors.vqvae().quantize
    for mode in modes(vectors, "infer.", ".f_hat"):
        generator, prefix = load_generator(vectors, cross_attention=mode), f"infer.{mode}"
        seen, indices = {}, []
        watch = Watch(
            logits=lambda network, scale, features, guided, seen=seen: seen.update(
                {
                    f"raw_logits.{scale}": halves_first(network.head(features), 2),
                    f"cfg_logits.{scale}": guided,
                }
            ),
            drawn=lambda scale, drawn, indices=indices: indices.append(drawn),
        )
        text, empty = text_of(vectors, "cond"), text_of(vectors, "uncond")
        options = GenerationOptions(cfg=about["cfg"], top_k=1, top_p=0.0)
        latents = generate(generator, quantizer, text, empty, options, watch=watch)
        for scale, drawn in enumerate(indices):
            yield _row(t, f"{prefix}.idx.{scale}", drawn)
        for name, value in seen.items():
            if f"{prefix}.{name}" in t:
                yield _row(t, f"{prefix}.{name}", value)
        yield _row(t, f"{prefix}.f_hat", latents)
        yield _row(t, f"{prefix}.img01", decoded(vectors, latents))
        if mode == "per_row":
            with torch.no_grad():
                taught, _ = generator(quantizer.teacher_input(indices), text)
            last = vectors.scales().slice(len(indices) - 1)
            cached = seen[f"raw_logits.{len(indices) - 1}"][: len(text)]
            yield compare_scaled(
                NAME, "cached logits are those of teacher forcing", cached, taught[:, last], TIGHT
            )


def halves_first(rows: Tensor, halves: int) -> Tensor:
    """Rows [units, halves] as the file has them: all conditional ones, then the others."""
    return rows.unflatten(0, (-1, halves)).transpose(0, 1).flatten(0, 1)


def _row(t: dict[str, Tensor], key: str, got: Tensor) -> Row:
    return compare_scaled(NAME, key, got, t[key], TIGHT)


GROUPS = (
    Group("rotary codes and LayerNorm", check_rotary),
    Group("generator, taught: every stage of a block, logits, loss", check_taught),
    Group("generator, cached: indices, logits, pictures in each cross-attention mode", check_inference),
)
