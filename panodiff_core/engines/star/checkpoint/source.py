"""A STAR model on disk, whatever its layout: our folder, or the published files; sizes checked, no tensor read."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ....io.checkpoints.entries import Entry
from ....runtime.errors import CheckpointError, InputError
from ..config import FaceRayConfig, STARConfig, VQVAEConfig
from ..presets import PRESETS
from ..sources import where_to_get
from .folder import ModelConfig, missing_files, read_config, read_weights
from .formats import StarWeights, open_weights
from .shapes import ADAPTER, depth_of, faceray_config, generator_config, refuse_other_sizes, vqvae_config

_GENERATOR_SIZES = (
    "depth",
    "width",
    "heads",
    "text_width",
    "vocab",
    "latent_channels",
    "class_rows",
    "hidden",
    "sampler_blocks",
)
_PRESET_SIZES = ("depth", "width", "heads")
_VQVAE_SIZES = ("channels", "multipliers", "blocks", "latent_channels", "vocab", "phi_convs")


@dataclass(frozen=True)
class ModelSource:
    """A model that is known but not read: its configuration, and the entries of its two parts under official names."""

    config: ModelConfig
    generator: dict[str, Entry]
    vqvae: dict[str, Entry]
    form: str
    where: str


def find_model(path: Path, vqvae: Path | None = None, preset: str | None = None) -> ModelSource:
    """A model folder of ours, or a generator's weight file with the autoencoder in it or in the file `vqvae`.

    `preset` names the published model that a file is (`presets.PRESETS`); where it is left out the trainer's notes, the number of
    scales and the file's name must tell. Raises InputError for an unknown preset, or options that a folder has no use
    for; CheckpointError when a part is missing, damaged or of another depth or scale list.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}: there are {', '.join(PRESETS)}")
    if path.is_dir():
        if preset is not None or vqvae is not None:
            raise InputError(
                f"{path} is a model folder, which says itself what it is: leave preset and vqvae out"
            )
        return _from_folder(path)
    _refuse_absent(path, vqvae)
    weights = open_weights(path)
    if not weights.generator:
        raise CheckpointError(
            f"{path} holds an autoencoder and no generator: give it as vqvae, beside a generator"
        )
    if vqvae is not None:
        weights = replace(weights, vqvae=open_weights(vqvae).vqvae)
    if not weights.vqvae:
        raise CheckpointError(
            f"{vqvae or path} holds no autoencoder: give vae_ch160v4096z32.pth (huggingface.co/FoundationVision/var) as vqvae"
        )
    config = _config_of(weights, path.name, preset)
    return ModelSource(config, weights.generator, weights.vqvae, weights.form, weights.where)


def _refuse_absent(path: Path, vqvae: Path | None) -> None:
    missing = [] if path.exists() else [f"model folder or file {path}"]
    if vqvae is not None and not vqvae.exists():
        missing.append(f"autoencoder (vqvae) at {vqvae}")
    if missing:
        raise CheckpointError(
            f"there is no {', no '.join(missing)}. Any path may be given; where such files come from and go:\n"
            f"{where_to_get()}"
        )


def _from_folder(folder: Path) -> ModelSource:
    if lacking := missing_files(folder):
        raise CheckpointError(f"{folder} lacks {', '.join(lacking)}.\n{where_to_get()}")
    said, (generator, vqvae), where = read_config(folder), read_weights(folder), str(folder)
    found = generator_config(generator, said.generator, where)
    by = "config.json"
    refuse_other_sizes(found, said.generator, where, by, _GENERATOR_SIZES)
    refuse_other_sizes(vqvae_config(vqvae, said.vqvae, where), said.vqvae, where, by, _VQVAE_SIZES)
    if any(name.endswith(ADAPTER) for name in generator) != (said.faceray is not None):
        has, lacks = ("has", "lacks") if said.faceray is None else ("lacks", "has")
        raise CheckpointError(
            f"{where}: star.safetensors {has} FaceRay adapters, config.json {lacks} their settings"
        )
    if said.faceray is not None:
        adapters = faceray_config(generator, said.faceray, where)
        refuse_other_sizes(adapters, said.faceray, where, by, ("adapter_dim", "head_dim"))
    _check_together(said.generator, said.vqvae, where)
    return ModelSource(said, dict(generator), dict(vqvae), "PanoDiff folder", where)


def _config_of(weights: StarWeights, name: str, preset: str | None) -> ModelConfig:
    where, base = weights.where, _base(weights, name, preset)
    generator = generator_config(weights.generator, base, where)
    if preset is not None:
        refuse_other_sizes(generator, base, where, f"preset {preset!r}", _PRESET_SIZES)
    vqvae = vqvae_config(weights.vqvae, VQVAEConfig(), where)
    _check_together(generator, vqvae, where)
    faceray = faceray_config(weights.generator, FaceRayConfig(), where)
    if faceray is not None:  # adapters are trained with each row reading its own text
        generator = generator.changed(cross_attention="per_row")
    return ModelConfig(generator, vqvae, faceray)


def _base(weights: StarWeights, name: str, preset: str | None) -> STARConfig:
    """The settings that no tensor holds: of the preset, else by the trainer's scale list, else by what fits alone."""
    noted = weights.patch_nums
    if preset is not None:
        base = PRESETS[preset]
        if noted is not None and noted != base.patch_nums:
            raise CheckpointError(
                f"{weights.where} was trained on the scales {list(noted)}, preset {preset!r} has {list(base.patch_nums)}: "
                "choose the preset of this checkpoint"
            )
        return base
    if noted is not None:
        known = (each for each in PRESETS.values() if each.patch_nums == noted)
        try:
            return next(known, None) or STARConfig(patch_nums=noted)
        except InputError as error:
            raise CheckpointError(f"{weights.where}, notes of its training: {error}") from error
    return _only_fitting(weights, name)


def _only_fitting(weights: StarWeights, name: str) -> STARConfig:
    """The published model with this depth and number of scales; where there are two, the file's name must tell."""
    depth, level = depth_of(weights.generator, weights.where), weights.generator.get("lvl_embed.weight")
    scales = level.shape[0] if level is not None and level.shape else 0
    size = re.search(r"(?<!\d)(256|512|1024)(?!\d)", name)
    fitting = {
        key: each
        for key, each in PRESETS.items()
        if (each.depth, len(each.patch_nums)) == (depth, scales)
        and (size is None or key.split("-")[1] == size[1])
    }
    if len({each.patch_nums for each in fitting.values()}) != 1:
        raise CheckpointError(
            f"{weights.where} has {depth} blocks and {scales} scales, and nothing says which scales these are: choose "
            f"a preset ({', '.join(fitting or PRESETS)}), or make it a model folder with a config.json"
        )
    return next(iter(fitting.values()))


def _check_together(generator: STARConfig, vqvae: VQVAEConfig, where: str) -> None:
    refuse_other_sizes(generator, vqvae, where, "its autoencoder", ("vocab", "latent_channels"))
