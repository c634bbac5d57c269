"""The runbook of FaceRay-STAR: its checks on a shallow, narrow model with the real scales and codebook.

Everything is made on the way, in a folder that the caller lends: scenes cut out of rendered panoramas, and a model with
random weights. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from ..data.cubemap_scenes import CubemapScenes
from ..data.cubemap_worlds import FACE_WORDS
from ..data.cubemap_writing import write_panorama_scenes
from ..data.token_batches import SceneCubes
from ..data.worlds import caption, render_equirect, sample_scene, vocabulary
from ..engines.star.checkpoint import find_model
from ..engines.star.config import FaceRayConfig, STARConfig, VQVAEConfig
from ..engines.star.faceray import FaceRayAdapter, FaceRayGenerator, ray_frames, seam_tables
from ..engines.star.generator import STARGenerator
from ..engines.star.inference import Watch, generate
from ..engines.star.options import GenerationOptions
from ..engines.star.scales import Scales
from ..engines.star.text import TextFeatures
from ..engines.star.training.cubes import (
    CubeTeacher,
    FaceRayTraining,
    cube_generator,
    cube_sampler,
)
from ..engines.star.training.text import TowerConfig, new_text_tower
from ..engines.star.vqvae import VQVAE
from ..geometry.cubemap import ADJACENCY
from ..io.atomic import write_text
from .config import LoopConfig
from .loop import Trainer
from .pictures import save_png
from .recipes.star_cubes import CubeModel
from .recipes.star_faceray import FaceRayRecipe
from .star_folder import StarParts, write_star

SCENES, SIZE = 10, 512
QUERIES, PAIRS = 4500, 24072
"""Boundary tokens of all scales of the 512-pixel model, and the neighbours that they see, by the method's own count."""
ORTHONORMAL, CACHED = 1e-3, 1e-4
GENERATOR = STARConfig(depth=3, width=64, heads=4, text_width=64, text_tokens=48, class_rows=0)
AUTOENCODER = VQVAEConfig(channels=8, multipliers=(1, 1, 2, 2, 4), blocks=1, norm_groups=8)


@dataclass(frozen=True)
class Check:
    """One check: what it is, whether it passed, and its figures in words."""

    title: str
    passed: bool
    figures: str


def runbook(folder: Path) -> Iterator[Check]:
    """The checks one after the other; `folder` is empty and takes scenes, model and checkpoints."""
    torch.manual_seed(0)
    stage = _Stage(folder)
    for check in (
        _dataset,
        _geometry,
        _zero_init,
        _adapter_calls,
        _training_step,
        _sampler,
        _cached_inference,
    ):
        yield check(stage)


class _Stage:
    """The scenes, and the model with fresh adapters, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.scales = folder, Scales(GENERATOR.patch_nums)

    @cached_property
    def scenes(self) -> CubemapScenes:
        """Ten scenes of 512 pixels, cut out of panoramas with a caption beside each."""
        for seed in range(SCENES):
            scene, path = sample_scene(seed), self.folder / "panoramas" / f"{seed}.png"
            save_png(render_equirect(scene, SIZE // 2, SIZE), path)
            write_text(path.with_suffix(".txt"), caption(scene, seed).text)
        write_panorama_scenes(self.folder / "scenes", self.folder / "panoramas", SIZE)
        return CubemapScenes(self.folder / "scenes", SIZE)

    @cached_property
    def model(self) -> CubeModel:
        """A plain STAR model folder with random weights, opened as a user's would be."""
        generator = STARGenerator(GENERATOR)
        generator.reset_parameters()
        vqvae = VQVAE(AUTOENCODER, self.scales)
        tower = new_text_tower(TowerConfig(width=GENERATOR.text_width), (*vocabulary(), *FACE_WORDS.values()))
        write_star(self.folder / "model", StarParts(GENERATOR, vqvae, generator, dtype=torch.float32))
        teacher = CubeTeacher(tower, vqvae)
        return CubeModel(find_model(self.folder / "model"), teacher, self.folder / "model")

    @cached_property
    def generator(self) -> FaceRayGenerator:
        """The extended generator: STAR's weights, fresh adapters."""
        return cube_generator(self.model.source).train(False)

    @cached_property
    def codes(self) -> Tensor:
        """Codes [6, L] of the first scene."""
        return self.model.teacher.codes({"faces": self.scenes[0]["faces"][None]})

    @cached_property
    def text(self) -> TextFeatures:
        """Its prompt."""
        return self.model.teacher.text([self.scenes[0]["prompt"]], torch.device("cpu"))

    def taught(self, generator: STARGenerator) -> tuple[Tensor, Tensor]:
        """(logits, features) of the first scene."""
        with torch.no_grad():
            return generator(self.model.teacher.teacher_input(self.codes), self.text)


def _dataset(stage: _Stage) -> Check:
    items = [stage.scenes[index] for index in range(len(stage.scenes))]
    shapes = {tuple(item["faces"].shape) for item in items}
    inside = all(0.0 <= float(item["faces"].min()) <= float(item["faces"].max()) <= 1.0 for item in items)
    good = shapes == {(6, 3, SIZE, SIZE)} and len(items) == SCENES and inside
    prompts = sum(bool(item["prompt"]) for item in items)
    said = f"{len(items)} scenes, faces {[list(shape) for shape in shapes]} in 0..1, {prompts} with a prompt"
    return Check("1  dataset: ten scenes load", good and prompts == SCENES, said)


def _geometry(stage: _Stage) -> Check:
    error, queries, pairs, adjacent = 0.0, 0, 0, 0
    for side in stage.scales.sides:
        tables = seam_tables(side)
        frames = ray_frames(side).flatten(0, 1)[tables.queries]
        error = max(error, float((frames @ frames.mT - torch.eye(3)).abs().max()))
        seen = tables.neighbours >= 0
        own = (tables.queries // side**2)[:, None].expand_as(seen)[seen]
        beside = torch.tensor([[g in {edge.face for edge in face} for g in range(6)] for face in ADJACENCY])
        adjacent += int(beside[own, tables.neighbours[seen] // side**2].sum())
        queries, pairs = queries + len(seen), pairs + len(own)
    good = error < ORTHONORMAL and (queries, pairs, adjacent) == (QUERIES, PAIRS, PAIRS)
    said = (
        f"max |RᵀR − I| {error:.1e}, {queries} boundary tokens, {pairs} neighbours, "
        f"{adjacent / pairs:.0%} on adjacent faces"
    )
    return Check("2  geometry: frames and neighbours", good, said)


def _zero_init(stage: _Stage) -> Check:
    plain = STARGenerator(stage.generator.config)
    shared = {name: value for name, value in stage.generator.state_dict().items() if "faceray" not in name}
    plain.load_state_dict(
        shared, assign=True
    )  # the same memory: products depend on where it lies, in the last bit
    with _deltas(stage.generator) as deltas:
        extended = stage.taught(stage.generator)
    same = all(torch.equal(a, b) for a, b in zip(extended, stage.taught(plain.train(False)), strict=True))
    good = same and fmean(deltas) == 0.0 and len(deltas) == GENERATOR.depth
    said = f"mean |Δ| {fmean(deltas):.1e}, logits {'identical to' if same else 'NOT those of'} plain STAR"
    return Check("3a zero-init: the extended model is STAR", good, said)


def _adapter_calls(stage: _Stage) -> Check:
    with _deltas(stage.generator) as deltas:
        _greedy(stage, stage.generator, Watch())
    expected = GENERATOR.depth * len(stage.scales)
    said = f"{len(deltas)} calls in {GENERATOR.depth} blocks × {len(stage.scales)} scales, mean |Δ| {fmean(deltas):.1e}"
    return Check("3b adapters run at every block and scale", len(deltas) == expected, said)


def _training_step(stage: _Stage) -> Check:
    scenes = SceneCubes(stage.scenes, 1, seed=0)
    recipe = FaceRayRecipe(stage.model, FaceRayConfig(), FaceRayTraining(), scenes, seed=0)
    config = LoopConfig(
        out=stage.folder / "run", steps=1, precision="no", warmup=0, picture_every=0, ema_decay=0.0
    )
    trainer = Trainer(recipe, config)
    generator, losses = trainer.module.generator, {}
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    done = trainer.run(on_step=lambda step, parts: losses.update(parts))
    generator.train(False)
    with _deltas(generator) as deltas:
        stage.taught(generator)
    after = generator.state_dict()
    moved = sorted({name.rsplit(".", 2)[-2] for name in before if not torch.equal(before[name], after[name])})
    # At first only out_proj has a gradient; weight decay moves qkv.
    good = done and "out_proj" in moved and set(moved) <= {"out_proj", "qkv"} and fmean(deltas) > 0.0
    said = f"face {losses['face']:.4f}, seam {losses['seam']:.4f}, moved: {', '.join(moved)}; mean |Δ| {fmean(deltas):.1e}"
    return Check("4  one step of train star-faceray", good, said)


def _sampler(stage: _Stage) -> Check:
    sampler = cube_sampler(stage.model.source, stage.generator).train(False)
    last = stage.scales.slice(len(stage.scales) - 1)
    codes = stage.model.teacher.vqvae.quantize.codes(stage.codes[:, last])
    features = stage.taught(stage.generator)[1][:, last]
    with torch.no_grad():
        logits, keep = sampler.predict_hidden(codes, features, stage.text.pooled)
    tokens = 6 * stage.scales.lengths[-1]
    shapes = tuple(logits.shape) == (1, tokens, GENERATOR.vocab) and tuple(keep.shape) == (1, tokens)
    finite = bool(torch.isfinite(logits).all())
    said = f"logits {list(logits.shape)}, mask {list(keep.shape)}, {float(keep.float().mean()):.0%} visible"
    return Check("5  masked sampler: logits and mask", shapes and finite, said)


def _cached_inference(stage: _Stage) -> Check:
    """On adapters that do something, so that their cached and their taught layouts are compared, too."""
    for block in stage.generator.blocks:
        nn.init.normal_(block.faceray_adapter.out_proj.weight, std=0.02)
    cached: list[Tensor] = []
    drawn: list[Tensor] = []
    watch = Watch(
        logits=lambda network, scale, features, logits: cached.append(logits),
        drawn=lambda scale, indices: drawn.append(indices),
    )
    _greedy(stage, stage.generator, watch)
    with torch.no_grad():
        teacher = stage.model.teacher.teacher_input(torch.cat(drawn, dim=1))
        taught, _ = stage.generator(teacher, stage.text)
    joined = torch.cat(cached, dim=1)
    error, size = float((taught - joined).abs().max()), float(joined.abs().max())
    said = f"max difference {error:.1e}, logits up to {size:.2f}"
    return Check("6  cached inference equals teacher forcing", error < CACHED * (1 + size), said)


def _greedy(stage: _Stage, generator: FaceRayGenerator, watch: Watch) -> None:
    """One cube without guidance, of the likeliest codes."""
    options = GenerationOptions(cfg=0.0, top_k=1)
    quantizer = stage.model.teacher.vqvae.quantize
    generate(generator, quantizer, stage.text, options=options, group=6, watch=watch)


@contextmanager
def _deltas(generator: FaceRayGenerator) -> Iterator[list[float]]:
    """While open, notes the mean size of what every call of an adapter adds."""
    sizes: list[float] = []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        sizes.append(float(output.detach().abs().mean()))

    adapters = [module for module in generator.modules() if isinstance(module, FaceRayAdapter)]
    hooks = [adapter.register_forward_hook(note) for adapter in adapters]
    try:
        yield sizes
    finally:
        for hook in hooks:
            hook.remove()
