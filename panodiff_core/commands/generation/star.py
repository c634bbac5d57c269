"""`generate` with STAR: six faces, stitched."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ...engines.star.faceray import check_strength
from ...engines.star.memory import decoded_together, picture_bytes
from ...metrics.ring import MIN_WIDTH
from ...runtime.errors import InputError
from ..console import Progress
from ..star_options import (
    MAKING,
    add_sampling_options,
    check_drawing,
    face_prompts,
    face_side,
    planned_config,
    sampling_values,
)
from .made import Made

if TYPE_CHECKING:
    from ...engines.star.checkpoint import ModelConfig
    from ...engines.star.options import GenerationOptions

LEAST_HEIGHT = MIN_WIDTH // 2
"""Of a panorama whose seam can be measured, which is told of every picture."""


class StarMaking:
    """One request: `size` is that of the panorama, twice as wide as high.

    Raises InputError or CheckpointError for what can be refused without reading weights.
    """

    OPTIONS = MAKING

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.values, self.faces = args, sampling_values(args), face_prompts(args)
        config, self.fade = planned_config(args), args.fade or 0
        self.used = config.defaults.changed(**self.values)
        check_drawing(config, self.used, self.fade)
        _check_parts(config, self.used, args)
        if self.faces or config.face_texts:
            _check_face_texts(config, self.used)
        height = 2 * face_side(config) if args.height is None else args.height
        if height < LEAST_HEIGHT:
            raise InputError(f"--height must be at least {LEAST_HEIGHT}, got {height}.")
        if args.memory_gb is not None:
            decoded_together(picture_bytes(config.vqvae, face_side(config)), None, args.memory_gb)
        self.size = (height, 2 * height)

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """What of `OPTIONS` is STAR's alone; --cfg, --height and --memory-gb are DiT360's, too."""
        add_sampling_options(parser)

    def make(self, engine) -> Made:
        """The pictures and all that made them."""
        args, strength = self.args, 1.0 if self.args.adapter_strength is None else self.args.adapter_strength
        condition = engine.encode(args.prompt, args.negative, faces=self.faces)
        latents = engine.sample(
            condition,
            seed=args.seed,
            batch_size=args.batch,
            adapter_strength=strength,
            on_step=Progress("step"),
            **self.values,
        )
        cubes = engine.decode(latents, memory_gb=args.memory_gb)
        settings = {name: getattr(self.used, name) for name in self.used.__dataclass_fields__}
        settings |= {"adapter_strength": strength, "face_prompts": self.faces, "fade": self.fade}
        return Made(cubes.to_equirect(self.size[0], self.fade).pixels, settings, cubes)


def _check_face_texts(config: ModelConfig, used: GenerationOptions) -> None:
    if (used.cross_attention or config.generator.cross_attention) == "row0":
        raise InputError(
            "with cross-attention row0 all faces hear one text, and here they have texts of their own "
            "(--face-prompt, or the model's): use --cross-attention per_row."
        )


def _check_parts(config: ModelConfig, used: GenerationOptions, args: argparse.Namespace) -> None:
    """Raise InputError for what is asked of a model that does not have it."""
    if args.adapter_strength is not None:
        check_strength("--adapter-strength", args.adapter_strength)
    if config.faceray is None and args.adapter_strength not in (None, 0.0, 1.0):
        raise InputError("--adapter-strength: this model has no FaceRay adapters; leave it out.")
    if args.negative and not used.cfg:
        raise InputError(
            f"--negative has no effect at cfg 0; add --cfg 4, or leave it out ({args.negative!r})."
        )
