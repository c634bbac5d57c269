"""What an edit takes from its source: masks on the token grid, and tokens replaced inside every attention.

A mask here is 1 where the picture is kept (dit360 spec, sections 7.3 and 7.4). Inpainting masks, white where to
make anew, are 1 minus that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....layers.attention import Attention
from ....layers.ring import check_padding, pad_ring
from ....runtime.errors import InputError
from ..model import CallableAttention
from ..sampling import Predict
from .checks import check_keep, check_share

PADDING_RULES = ("wrapped", "own_edge")


def grid_mask(picture: Tensor, rows: int, columns: int) -> Tensor:
    """A mask picture [H, W] → one value per token [rows, columns], float32, by the published rule.

    1 where the nearest pixel to the token's centre is pure white (255 of a byte picture, 1.0 of floats), 0 for
    everything else, greys of smooth outlines included. Raises InputError for another shape.
    """
    if picture.ndim != 2 or 0 in picture.shape:
        raise InputError(f"a mask picture must be [H, W], one channel, got {list(picture.shape)}")
    white = picture == (1.0 if picture.is_floating_point() or picture.dtype == torch.bool else 255)
    return F.interpolate(white.float()[None, None], size=(rows, columns), mode="nearest-exact")[0, 0]


def pad_mask(mask: Tensor, padding: int = 1, rule: str = "wrapped") -> Tensor:
    """A mask on the token grid [rows, columns] → on the padded tokens [rows·(columns + 2·padding), 1].

    "wrapped" gives padding columns what the columns they copy have. "own_edge" repeats the edge they lie at, as
    published; the two differ when the mask touches the seam. Raises InputError for another rule or shape.
    """
    if mask.ndim != 2:
        raise InputError(f"mask must be [rows, columns] of tokens, got {list(mask.shape)}")
    check_padding(padding, mask.shape[1])
    if rule == "wrapped":
        return pad_ring(mask, padding).reshape(-1, 1)
    if rule == "own_edge":
        left, right = mask[:, :1].expand(-1, padding), mask[:, -1:].expand(-1, padding)
        return torch.cat([left, mask, right], dim=1).reshape(-1, 1)
    raise InputError(f"unknown rule {rule!r}: choose one of {', '.join(PADDING_RULES)}")


def replace_tokens(predict: Predict, transformer: nn.Module, keep: Tensor, tau: float = 0.5) -> Predict:
    """`predict` whose second half of the batch uses the first half's tokens where `keep` [N, 1] is above a half.

    Active at noise levels above `tau` (0..1; lower holds the picture faster, at some cost in quality). Not for true
    CFG, whose batch is laid out otherwise. Raises InputError for another mask or tau.
    """
    check_keep(keep, len(keep))
    check_share("tau", tau)

    def call(tokens: Tensor, sigma: float) -> Tensor:
        if sigma <= tau:
            return predict(tokens, sigma)
        if tokens.shape[1] != len(keep):
            raise InputError(
                f"keep has {len(keep)} tokens, the network gets {tokens.shape[1]}: pad both alike"
            )
        with shared_tokens(transformer, keep):
            return predict(tokens, sigma)

    return call


@contextmanager
def shared_tokens(transformer: nn.Module, keep: Tensor) -> Iterator[None]:
    """While open, every attention of `transformer` has the second half of the batch use the q, k and v of the first
    half for the image tokens where `keep` [N, 1] is above a half; text, MLPs and residuals stay their own.

    That equals replacing the normed, modulated tokens before the projections. The attention callable that was set
    before (or torch's) does the attention. Restored on leaving, also after an error.
    """
    before = dict(transformer.attn_processors)
    chosen = (keep.flatten() > 0.5).nonzero().flatten()
    sharing = {}
    for name, processor in before.items():
        own = isinstance(processor, CallableAttention)
        inner = processor.attention if own else F.scaled_dot_product_attention
        sharing[name] = CallableAttention(_sharing(inner, chosen, len(keep)))
    transformer.set_attn_processor(sharing)
    try:
        yield
    finally:
        transformer.set_attn_processor(before)


def _sharing(inner: Attention, chosen: Tensor, count: int) -> Attention:
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if len(q) % 2:
            raise InputError(f"a batch of {len(q)} has no halves: give as many sources as edits")
        # Text comes first, however long it is.
        index = chosen.to(q.device) + (q.shape[2] - count)
        return inner(*(_from_first_half(x, index) for x in (q, k, v)))

    return attention


def _from_first_half(x: Tensor, index: Tensor) -> Tensor:
    source, edited = x.chunk(2)
    return torch.cat([source, edited.index_copy(2, index, source.index_select(2, index))])
