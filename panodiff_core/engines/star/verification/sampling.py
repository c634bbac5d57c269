"""star.safetensors, how codes are drawn: filters, soft mixtures, the masked sampler and its steps."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from ....verification import Group, Row, compare_scaled
from ..attention import SeparateGrids
from ..filters import candidates, soft_one_hot
from ..inference import Watch, generate
from ..masked_sampler import MaskedSampler, hidden_loss, keep_probability, official_loss
from ..masked_steps import VERSIONS, reveal_counts
from ..options import GenerationOptions
from .folder import RESULTS, StarVectors
from .generator import decoded, halves_first, load_generator, load_sampler, modes, text_of

NAME = "sampling"
TIGHT = 1e-5
SOFT_TEMPERATURE = 0.1
"""At which the vectors' soft one-hot codes were made."""


def check_filters(vectors: StarVectors) -> Iterator[Row]:
    """Which codes survive top-k and top-p, and their probabilities; soft mixtures."""
    t = vectors.tensors(RESULTS)
    logits = t["filter.logits"]
    cases = [re.fullmatch(r"filter\.(k(\d+)_p([\d.]+))\.probs", key) for key in sorted(t)]
    cases = [found for found in cases if found]
    if not cases:
        raise KeyError("filter.*.probs")
    for found in cases:
        values, indices = candidates(logits, int(found[2]), float(found[3]))
        if indices is not None:
            values = torch.full_like(logits, -torch.inf).scatter(-1, indices, values)
        yield _row(t, f"filter.{found[1]}.kept", values.isfinite())
        yield _row(t, f"filter.{found[1]}.probs", values.softmax(dim=-1))
    yield _row(t, "gumbel.out", soft_one_hot(logits, t["gumbel.exponential"], SOFT_TEMPERATURE))


def check_schedule(vectors: StarVectors) -> Iterator[Row]:
    """Tokens per step for every size in the file, and the share of visible tokens in training."""
    t = vectors.tensors(RESULTS)
    for key in sorted(t):
        if found := re.fullmatch(r"schedule\.steps(\d+)\.pn(\d+)", key):
            counts = reveal_counts(int(found[2]) ** 2, int(found[1]))
            yield _row(t, key, torch.tensor(counts, dtype=t[key].dtype))
    key = "schedule.arccos_keep_prob"
    yield _row(t, key, keep_probability(t[f"{key}.r"]))


@torch.no_grad()
def check_network(vectors: StarVectors) -> Iterator[Row]:
    """The masked sampler on true codes, its input, its bias and both forms of the loss, in every mode of the file."""
    t, scales, sampler = vectors.tensors(RESULTS), vectors.scales(), load_sampler(vectors)
    grids = sampler.grids
    begin = scales.offsets[grids[0]]
    targets = torch.cat([t[f"vae.idx.{s}"] for s in grids], dim=1)
    text, keep = text_of(vectors, "cond"), t["sampler.keep_mask"].bool()
    yield _row(t, "sampler.attn_mask", _bias(sampler))
    for mode in modes(vectors, "sampler.", ".logits"):
        generator, prefix = load_generator(vectors, cross_attention=mode), f"sampler.{mode}"
        features = generator.features(t["vae.x_BLCv_wo_first_l"], text)[:, begin:]
        entered: list[Tensor] = []
        hook = sampler.feat_extract_blocks[0].register_forward_pre_hook(
            lambda module, inputs, entered=entered: entered.append(inputs[0])
        )
        with hook:
            logits = sampler(t["sampler.embed_Cvae"] * keep.unsqueeze(-1), features, text.pooled)
        if f"{prefix}.head_proj_out" in t:
            yield _row(t, f"{prefix}.head_proj_out", entered[0])
        yield _row(t, f"{prefix}.logits", logits)
        losses = {
            "loss_mask_hidden_mean": hidden_loss(logits, targets, keep),
            "loss_official": official_loss(logits, targets, keep, scales.total),
        }
        for name, loss in losses.items():
            yield _row(t, f"{prefix}.{name}", loss.view(1))


def _bias(sampler: MaskedSampler) -> Tensor:
    """The additive bias that the sampler's attention amounts to: asked with one-hot values, it says what it sees."""
    lengths = [sampler.scales.lengths[s] for s in sampler.grids]
    size = 1 + sum(lengths)
    marks = torch.eye(size).view(1, 1, size, size)
    seen = SeparateGrids(lengths, torch.nn.functional.scaled_dot_product_attention)(
        marks * 0.0, marks * 0.0, marks
    )
    return torch.where(seen > 0.0, 0.0, -torch.inf)


class _Recorded:
    """The uniform numbers of a run of the reference, in the order of their use."""

    def __init__(self, t: dict[str, Tensor], prefix: str) -> None:
        keys = [key for key in t if key.startswith(prefix)]
        self.left = iter([t[key] for key in sorted(keys, key=lambda key: int(key.removeprefix(prefix)))])

    def tokens(self, count: int) -> Tensor:
        raise AssertionError("greedy decoding draws no codes")

    def confidences(self, count: int) -> Tensor:
        return next(self.left)

    mixtures = tokens


def check_steps(vectors: StarVectors) -> Iterator[Row]:
    """Greedy generation with the masked sampler, in each version of the file."""
    t, about = vectors.tensors(RESULTS), vectors.about()
    versions = [version for version in VERSIONS if f"wmask.{version}.f_hat" in t]
    if not versions:
        raise KeyError("wmask.*.f_hat")
    generator = load_generator(vectors, cross_attention="per_row")
    sampler, quantizer = load_sampler(vectors), vectors.vqvae().quantize
    for version in versions:
        prefix, steps, last = f"wmask.{version}", [], []
        drawn: list[Tensor] = []
        watch = Watch(
            logits=lambda network, scale, features, guided, last=last: last.append((network, features)),
            drawn=lambda scale, indices, drawn=drawn: drawn.append(indices),
            masked=lambda scale, step, steps=steps: steps.append(step.indices),
        )
        options = GenerationOptions(cfg=about["cfg_wmask"], top_k=1, top_p=0.0, sampler=version)
        draws = _Recorded(t, f"{prefix}.uniform.")
        text, empty = text_of(vectors, "cond"), text_of(vectors, "uncond")
        latents = generate(
            generator, quantizer, text, empty, options, sampler=sampler, draws=draws, watch=watch
        )
        for what, values in (("idx", drawn), ("step_idx", steps)):
            for index, value in enumerate(values):
                yield _row(t, f"{prefix}.{what}.{index}", value)
        network, features = last[-1]
        key = f"{prefix}.last_sampler_logits"  # the text token's own, the first, are computed by nobody here
        yield compare_scaled(NAME, key, halves_first(network.head(features), 2), t[key][:, 1:], TIGHT)
        yield _row(t, f"{prefix}.f_hat", latents)
        yield _row(t, f"{prefix}.img01", decoded(vectors, latents))


def _row(t: dict[str, Tensor], key: str, got: Tensor) -> Row:
    return compare_scaled(NAME, key, got, t[key], TIGHT)


GROUPS = (
    Group("filters and soft mixtures", check_filters),
    Group("masked sampler: steps and shares", check_schedule),
    Group("masked sampler: network, losses", check_network),
    Group("masked sampler: generation in both versions", check_steps),
)
