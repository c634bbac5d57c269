"""Image to image by strength, and inpainting."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from .network import GUIDANCE, Maker
from .tokens import crop, ids, pack, pad, shift_exponent


def make_image_to_image(maker: Maker) -> None:
    """2×6 tokens and one padding column, which only the shift exponent tells."""
    n, p, rows = 5, 1, 2
    clean, noise, mask = torch.randn(2, 1, 4, 4, 12).unbind() + (torch.rand(1, 1, 4, 12),)
    prompt, mu = maker.prompt(1, 6), shift_exponent(2 * (6 + 2 * p))
    positions, scheduler = pad(ids(rows, 6), rows, p), maker.scheduler(n, mu)
    t = {"in.z0": clean, "in.noise": noise, "in.inpaint_mask": mask}
    t |= {"in.prompt_embeds": prompt[0], "in.pooled": prompt[1]}

    def enter(x: Tensor) -> Tensor:
        return pad(pack(x), rows, p)

    for name, strength in (
        ("img2img.strength0.45", 0.45),
        ("img2img.strength1.0", 1.0),
        ("inpaint", 1.0),
    ):
        first = int(max(n - min(n * strength, n), 0))
        levels = scheduler.sigmas[first:]
        state = enter(levels[0] * noise + (1 - levels[0]) * clean)
        for here, after in pairwise(levels):
            state = state + (after - here) * maker.call(state, here, prompt, GUIDANCE, positions)
            if name == "inpaint":
                kept, m = enter(after * noise + (1 - after) * clean), enter(mask.expand_as(clean))
                state = m * state + (1 - m) * kept
        t |= {f"derived.{name}.sigmas": levels, f"derived.{name}.final_packed": crop(state, rows, p)}
    maker.save("derived_img2img_inpaint", t, steps=n, guidance=GUIDANCE, mu=mu)
