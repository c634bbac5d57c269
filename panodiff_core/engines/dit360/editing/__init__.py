"""Editing a panorama as DiT360 does: RF inversion and the controlled reverse (dit360 spec, section 7).

`invert` carries a picture to noise, `edit` comes back in two branches: the source, pulled to the picture, and the
edit, which takes tokens from it in every attention (`replace_tokens`) and places from it after every step. Both run
on ring-padded tokens [B, N, 4C] like the reference, whose padding columns need not be copies here. The noise levels
are those of the *unpadded* length: `lay_noise_levels` with mu "unpadded".

    predict = replace_tokens(network, transformer, keep, tau=0.5)
    tokens = edit(scheduler, predict, grid, image, invert(scheduler, empty, image, noise, gamma=1.0), fresh, keep)
    picture = grid.leave(tokens[len(image):])
"""

from .inversion import OnInversionStep, inversion_residual, inversion_time, invert, invert_closed_form
from .reverse import EditOptions, edit
from .sharing import grid_mask, pad_mask, replace_tokens, shared_tokens

__all__ = [
    "EditOptions",
    "OnInversionStep",
    "edit",
    "grid_mask",
    "inversion_residual",
    "inversion_time",
    "invert",
    "invert_closed_form",
    "pad_mask",
    "replace_tokens",
    "shared_tokens",
]
