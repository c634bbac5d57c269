"""Teaching a generator to correct itself: some faces are given wrong coarse codes, and what is asked of the finer ones is
what leads back to the picture.

In use the first scales of all faces are drawn at once, before they see one another, and contradict each other; true codes
alone never show that. The idea is the bitwise self-correction of Infinity (arXiv:2412.04431, section 3.3), here with codes
of other pictures at the coarsest scales.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..vqvae import Quantizer

MOST_WRONG = 3
"""Wrong are the first 1 to so many scales, the same number for all faces of a step."""


class Lesson(NamedTuple):
    """What the generator sees, `given`, and what it is asked for, `asked`, both codes [R, L]."""

    given: Tensor
    asked: Tensor


@torch.no_grad()
def with_wrong_starts(quantizer: Quantizer, codes: Tensor, share: float, group: int = 6) -> Lesson:
    """Codes [R, L] of R/`group` cubes, where each row begins wrong with probability `share`: with the codes of the same
    face of another cube of the batch, or of another face where there is one cube. Numbers come from torch's generator
    on the CPU.
    """
    rows = len(codes)
    count = int(torch.randint(1, min(MOST_WRONG, len(quantizer.scales) - 1) + 1, ()))
    turn = group if rows > group else int(torch.randint(1, max(rows, 2), ()))
    wrong = (torch.rand(rows) < share).nonzero().flatten().to(codes.device)
    if not len(wrong):
        return Lesson(codes, codes)
    lengths = quantizer.scales.lengths
    true, other = (each[wrong].split(lengths, dim=1) for each in (codes, codes.roll(turn, 0)))
    picture = quantizer.start(len(wrong))
    for scale, indices in enumerate(true):
        picture = quantizer.add_scale(picture, quantizer.codes(indices), scale)
    shown, given, asked = quantizer.start(len(wrong)), [], []
    for scale in range(len(lengths)):
        asked.append(quantizer.search(picture - shown, scale))
        given.append(other[scale] if scale < count else asked[-1])
        shown = quantizer.add_scale(shown, quantizer.codes(given[-1]), scale)
    return Lesson(*(codes.index_copy(0, wrong, torch.cat(each, dim=1)) for each in (given, asked)))
