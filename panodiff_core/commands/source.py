"""A picture that `generate` starts from: image to image and inpainting on the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.images import load_image
from ..runtime.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Source:
    """A panorama [1, 3, H, W] in 0..1, how much of it is made anew, and where: a mask [1, H, W] (1 = anew) or None."""

    pixels: Tensor
    strength: float
    mask: Tensor | None

    def sampling(self, engine, memory_gb: float | None) -> dict[str, object]:
        """The picture, encoded, as options of `engine.sample`."""
        from ..autoencoders.masks import latent_mask

        latents = engine.encode_image(self.pixels, memory_gb=memory_gb)
        mask = None if self.mask is None else latent_mask(self.mask, *latents.shape[2:])
        return {"image_latents": latents, "strength": self.strength, "mask": mask}


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """--image, --strength, --mask."""
    group = parser.add_argument_group("a picture to start from")
    group.add_argument(
        "--image", type=Path, metavar="FILE", help="a panorama, width = 2 x height; gives the size"
    )
    group.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="how much is made anew, above 0 to 1 (default: 1 with --mask)",
    )
    group.add_argument("--mask", type=Path, metavar="FILE", help="where: white is made anew, black stays")


def read_source(args: argparse.Namespace) -> Source | None:
    """What the options ask for, read and checked; None without --image. Sets `args.height` to that of the picture.

    Raises InputError for options that contradict each other, and for pictures that cannot be read or do not fit.
    """
    if args.image is None:
        for name in ("strength", "mask"):
            if getattr(args, name) is not None:
                raise InputError(
                    f"--{name} without --image has no effect; leave it out, or add --image FILE."
                )
        return None
    pixels = load_image(args.image)
    if args.strength is None and args.mask is None:
        raise InputError("--image needs --strength (0.5 changes much, 0.3 little), --mask FILE, or both.")
    strength = 1.0 if args.strength is None else args.strength
    if not 0.0 < strength <= 1.0:
        raise InputError(f"--strength must be above 0 and at most 1, got {args.strength}.")
    height, width = pixels.shape[2:]
    if width != 2 * height:
        raise InputError(f"{args.image.name} is {width} x {height}: a panorama is twice as wide as high.")
    if args.height not in (None, height):
        raise InputError(
            f"--height {args.height} contradicts --image, which is {height} high; leave --height out."
        )
    args.height = height
    return Source(pixels, strength, None if args.mask is None else _read_mask(args.mask))


def _read_mask(path: Path) -> Tensor:
    mask = load_image(path).mean(1)
    height, width = mask.shape[1:]
    if width != 2 * height:
        raise InputError(
            f"{path.name} is {width} x {height}: a mask is for the whole panorama, twice as wide as high."
        )
    return mask
