"""faceray.safetensors, the part with weights: single adapters, six faces taught and generated, the masked sampler."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ....verification import Group, Row, compare_scaled
from ..checkpoint import FACERAY, SAMPLER, SAMPLER_FACERAY, fill_generator
from ..checkpoint.filling import added_part
from ..faceray import FaceRayAdapter, FaceRayGenerator, FaceRaySampler, face_layout, face_loss, sampler_layout
from ..faceray.branches import ADAPTER, seam_rule
from ..inference import Watch, generate
from ..masked_sampler import hidden_loss
from ..options import GenerationOptions
from ..text import TextFeatures
from .faceray_geometry import NAME, TIGHT
from .folder import FACERAY_RESULTS, FACERAY_WEIGHTS, StarVectors


def load_generator(vectors: StarVectors, **changed: str) -> FaceRayGenerator:
    """The extended generator with the folder's weights, in float32; `changed` are settings of the adapters.

    Each row hears its own text, as in the reference.
    """
    config = vectors.generator_config(cross_attention="per_row")
    module = FaceRayGenerator(config, vectors.faceray_config(**changed))
    _fill(vectors, module, (None, FACERAY))
    return module.train(False)


def load_sampler(vectors: StarVectors) -> FaceRaySampler:
    """The masked sampler of cubemaps with the folder's weights, in float32. It serves the last scale alone."""
    config = vectors.generator_config()
    config = config.changed(from_idx=len(config.patch_nums) - 1)
    module = FaceRaySampler(config, vectors.faceray_config())
    _fill(vectors, module, (SAMPLER, SAMPLER_FACERAY))
    return module.train(False)


def _fill(vectors: StarVectors, module: torch.nn.Module, parts: tuple[str | None, ...]) -> None:
    entries = {**vectors.weights().generator, **vectors.faceray_weights()}
    fill_generator(module, {k: v for k, v in entries.items() if added_part(k) in parts}, FACERAY_WEIGHTS)


def text_of(vectors: StarVectors, half: str = "") -> TextFeatures:
    """The text of the scenes, or with "_uncond" the empty one."""
    t = vectors.tensors(FACERAY_RESULTS)
    hidden, pooled, mask = (t[f"stack.text_{name}{half}"] for name in ("hidden", "pool", "mask"))
    return TextFeatures(hidden, pooled, mask.bool())


def codes_of(vectors: StarVectors) -> list[Tensor]:
    """The indices of each scale that the stack is taught with."""
    t = vectors.tensors(FACERAY_RESULTS)
    return [t[f"stack.idx.{scale}"].long() for scale in range(len(vectors.scales()))]


@torch.no_grad()
def check_adapter(vectors: StarVectors) -> Iterator[Row]:
    """The first adapter of the generator and of the sampler alone, and without the turn into ray frames."""
    t, config, scales = vectors.tensors(FACERAY_RESULTS), vectors.faceray_config(), vectors.scales()
    rule = seam_rule(config)
    layouts = {"": face_layout(scales.sides, rule), "sampler_": sampler_layout(scales.last_side, rule)}
    for kind, block in (("", "blocks.0"), ("sampler_", "feat_extract_blocks.0")):
        x, expected = t[f"adapter.{kind}x"], t[f"adapter.{kind}delta"]
        module = _adapter(vectors, block, x.shape[-1])
        yield compare_scaled(NAME, f"adapter.{kind}delta", module(x, layouts[kind]), expected, TIGHT)
        module.ray_subdim = 0
        wrong = compare_scaled(NAME, f"adapter.{kind}delta in world axes", module(x, layouts[kind]), expected)
        yield Row(NAME, wrong.what, wrong.error, wrong.bound, above=config.ray_subdim > 0)


def _adapter(vectors: StarVectors, block: str, width: int) -> FaceRayAdapter:
    prefix = f"{block}.{ADAPTER}."
    entries = {
        k.removeprefix(prefix): v for k, v in vectors.faceray_weights().items() if k.startswith(prefix)
    }
    module = FaceRayAdapter(width, vectors.faceray_config())
    fill_generator(module, entries, FACERAY_WEIGHTS)
    return module


@torch.no_grad()
def check_taught(vectors: StarVectors) -> Iterator[Row]:
    """Teacher forcing of six faces: features and logits with either input of the adapters, and without them."""
    t, scales, codes = vectors.tensors(FACERAY_RESULTS), vectors.scales(), codes_of(vectors)
    teacher, text = vectors.vqvae().quantize.teacher_input(codes), text_of(vectors)
    last = scales.slice(len(scales) - 1)
    for kind in ("normed", "raw"):
        generator = load_generator(vectors, adapter_input=kind)
        seen: list[Tensor] = []
        adapter = getattr(generator.blocks[0], ADAPTER)
        with adapter.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output)):
            logits, features = generator(teacher, text)
        got = {
            "logits_last": logits[:, last],
            "logits_head": logits[:, : last.start],
            "feat_last": features[:, last],
            "block0_adapter_delta_last": seen[0][:, last],
            "loss_face": face_loss(logits, torch.cat(codes, dim=1)).view(1),
        }
        for name, value in got.items():
            key = f"stack.{kind}.{name}"
            if key in t or kind == "normed" or name == "logits_last":  # of raw inputs the file has the last
                yield _row(t, key, value[: len(t[key])])  # of some the file keeps the first rows
    plain, _ = generator(teacher, text, branches=generator.branches(0.0))
    expected = t["stack.off.logits_last"]
    yield _row(t, "stack.off.logits_last", plain[: len(expected), last])
    wrong = compare_scaled(NAME, "stack without adapters", plain[:, last], t["stack.normed.logits_last"])
    yield Row(NAME, wrong.what, wrong.error, wrong.bound, above=True)


@torch.no_grad()
def check_inference(vectors: StarVectors) -> Iterator[Row]:
    """Greedy generation of six faces together, and that its logits are those of teacher forcing on what it drew."""
    t, cfg = vectors.tensors(FACERAY_RESULTS), vectors.about(FACERAY_RESULTS)["cfg"]
    generator, quantizer = load_generator(vectors), vectors.vqvae().quantize
    text, empty = text_of(vectors), text_of(vectors, "_uncond")
    drawn: list[Tensor] = []
    guided: list[Tensor] = []
    watch = Watch(
        logits=lambda network, scale, features, logits: guided.append(logits),
        drawn=lambda scale, indices: drawn.append(indices),
    )
    options = GenerationOptions(cfg=cfg, top_k=1, top_p=0.0, part_tokens=2**62)
    latents = generate(generator, quantizer, text, empty, options, group=6, watch=watch)
    for scale, indices in enumerate(drawn):
        yield _row(t, f"infer6.idx.{scale}", indices)
    expected = t["infer6.cfg_logits_last"]
    yield _row(t, "infer6.cfg_logits_last", guided[-1][: len(expected)])
    yield _row(t, "infer6.f_hat", latents)
    teacher = quantizer.teacher_input(drawn)
    taught = [generator(teacher, half.repeat(len(text)))[0] for half in (text, empty)]
    for scale, place in enumerate(map(vectors.scales().slice, range(len(drawn)))):
        weight = cfg * scale / max(1, len(drawn) - 1)
        mixed = (1.0 + weight) * taught[0][:, place] - weight * taught[1][:, place]
        what = f"cached logits are those of teacher forcing, scale {scale}"
        yield compare_scaled(NAME, what, guided[scale], mixed, TIGHT)


@torch.no_grad()
def check_sampler(vectors: StarVectors) -> Iterator[Row]:
    """The masked sampler over six faces: its input codes, logits and loss."""
    t, scales, codes = vectors.tensors(FACERAY_RESULTS), vectors.scales(), codes_of(vectors)
    quantizer, text = vectors.vqvae().quantize, text_of(vectors)
    cubes = len(text)
    known = quantizer.codes(codes[-1])
    yield _row(t, "sampler6.embed_Cvae", known.reshape(cubes, -1, known.shape[-1]))
    features = load_generator(vectors).features(quantizer.teacher_input(codes), text)
    last, keep = scales.slice(len(scales) - 1), t["sampler6.keep_mask"]
    logits, kept = load_sampler(vectors).predict_hidden(known, features[:, last], text.pooled, keep)
    yield _row(t, "sampler6.logits", logits)
    loss = hidden_loss(logits, codes[-1].reshape(cubes, -1), kept)
    yield _row(t, "sampler6.loss_mask_hidden_mean", loss.view(1))
    inverted = F.cross_entropy(logits[kept], codes[-1].reshape(cubes, -1)[kept])
    wrong = compare_scaled(
        NAME, "loss of visible tokens", inverted.view(1), t["sampler6.loss_mask_hidden_mean"]
    )
    yield Row(NAME, wrong.what, wrong.error, wrong.bound, above=True)


def _row(t: dict[str, Tensor], key: str, got: Tensor) -> Row:
    return compare_scaled(NAME, key, got, t[key], TIGHT)


GROUPS = (
    Group("FaceRay: an adapter alone", check_adapter),
    Group("FaceRay: six faces, taught", check_taught),
    Group("FaceRay: six faces, generated", check_inference),
    Group("FaceRay: masked sampler of six faces", check_sampler),
)
