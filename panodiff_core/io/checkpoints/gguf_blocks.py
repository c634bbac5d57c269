"""The block types of GGUF files, turned back into float32.

A row is a sequence of blocks; a block holds 32 or 256 small integers and the scales that make numbers of them. Every
function takes raw blocks [N, bytes] (uint8) and returns values [N, elements]. Layouts: ggml's `block_*` structures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockType:
    """How many numbers a block holds, in how many bytes, and how they are read."""

    name: str
    elements: int
    bytes: int
    decode: Callable[[Tensor], Tensor]


def _half(blocks: Tensor, start: int) -> Tensor:
    """A float16 at byte `start` of every block: [N, 1] float32."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor) -> Tensor:
    """Low halves of all bytes, then the high halves: [N, b] → [N, 2b]."""
    return torch.cat([packed & 0x0F, packed >> 4], dim=1)


def _bits(packed: Tensor) -> Tensor:
    """The single bits of bytes, lowest first: [N, b] → [N, 8b]."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] >> shifts) & 1).flatten(1)


def _plain(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda blocks: blocks.contiguous().view(dtype).float()


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].contiguous().view(torch.int8).float() * _half(blocks, 0)


def _q4_0(blocks: Tensor) -> Tensor:
    return (_nibbles(blocks[:, 2:]).float() - 8.0) * _half(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    return _nibbles(blocks[:, 4:]).float() * _half(blocks, 0) + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 6:]) | (_bits(blocks[:, 2:6]) << 4)
    return (values.float() - 16.0) * _half(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 8:]) | (_bits(blocks[:, 4:8]) << 4)
    return values.float() * _half(blocks, 0) + _half(blocks, 2)


def _pairs_of_bits(packed: Tensor) -> Tensor:
    """Two-bit numbers of a 256-block, [N, 64] → [N, 2, 4, 32]: halves, then the four places in a byte."""
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=packed.device)
    return (packed.view(-1, 2, 1, 32) >> shifts[:, None]) & 3


def _q2_k(blocks: Tensor) -> Tensor:
    scales, packed = blocks[:, :16], blocks[:, 16:80]
    factor = _half(blocks, 80) * (scales & 0x0F).float()
    offset = _half(blocks, 82) * (scales >> 4).float()
    values = _pairs_of_bits(packed).reshape(-1, 16, 16).float()
    return (values * factor[..., None] - offset[..., None]).flatten(1)


def _q3_k(blocks: Tensor) -> Tensor:
    high, packed, scales = blocks[:, :32], blocks[:, 32:96], blocks[:, 96:108]
    low_bits = torch.cat([scales[:, :8] & 0x0F, scales[:, :8] >> 4], dim=1)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=blocks.device)
    high_bits = ((scales[:, None, 8:] >> shifts[:, None]) & 3).flatten(1)
    factor = _half(blocks, 108) * ((low_bits | (high_bits << 4)).float() - 32.0)
    places = torch.arange(8, dtype=torch.uint8, device=blocks.device)
    present = ((high[:, None, :] >> places[:, None]) & 1).view(-1, 2, 4, 32)
    values = _pairs_of_bits(packed).float() - 4.0 * (1 - present.float())
    return (values.reshape(-1, 16, 16) * factor[..., None]).flatten(1)


def _scales_and_offsets(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The eight 6-bit scales and offsets that Q4_K and Q5_K pack into 12 bytes: two times [N, 8] float32."""
    first, second, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat([first & 63, (rest & 0x0F) | ((first >> 6) << 4)], dim=1)
    offsets = torch.cat([second & 63, (rest >> 4) | ((second >> 6) << 4)], dim=1)
    return scales.float(), offsets.float()


def _nibble_rows(packed: Tensor) -> Tensor:
    """[N, 128] → [N, 8, 32]: of every 32 bytes the low halves, then the high ones."""
    groups = packed.view(-1, 4, 1, 32)
    return torch.cat([groups & 0x0F, groups >> 4], dim=2).view(-1, 8, 32)


def _four_or_five_bits(blocks: Tensor, values: Tensor) -> Tensor:
    scales, offsets = _scales_and_offsets(blocks[:, 4:16])
    factor, offset = _half(blocks, 0) * scales, _half(blocks, 2) * offsets
    return (values.float() * factor[..., None] - offset[..., None]).flatten(1)


def _q4_k(blocks: Tensor) -> Tensor:
    return _four_or_five_bits(blocks, _nibble_rows(blocks[:, 16:]))


def _q5_k(blocks: Tensor) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=blocks.device)
    high = (blocks[:, None, 16:48] >> places[:, None]) & 1
    return _four_or_five_bits(blocks, _nibble_rows(blocks[:, 48:]) | (high << 4))


def _q6_k(blocks: Tensor) -> Tensor:
    low = blocks[:, :128].view(-1, 2, 2, 32)
    low = torch.cat([low & 0x0F, low >> 4], dim=2)
    values = (low | (_pairs_of_bits(blocks[:, 128:192]) << 4)).float() - 32.0
    scales = blocks[:, 192:208].contiguous().view(torch.int8).float()
    factor = _half(blocks, 208) * scales
    return (values.reshape(-1, 16, 16) * factor[..., None]).flatten(1)


BLOCK_TYPES: dict[int, BlockType] = {
    0: BlockType("F32", 1, 4, _plain(torch.float32)),
    1: BlockType("F16", 1, 2, _plain(torch.float16)),
    2: BlockType("Q4_0", 32, 18, _q4_0),
    3: BlockType("Q4_1", 32, 20, _q4_1),
    6: BlockType("Q5_0", 32, 22, _q5_0),
    7: BlockType("Q5_1", 32, 24, _q5_1),
    8: BlockType("Q8_0", 32, 34, _q8_0),
    10: BlockType("Q2_K", 256, 84, _q2_k),
    11: BlockType("Q3_K", 256, 110, _q3_k),
    12: BlockType("Q4_K", 256, 144, _q4_k),
    13: BlockType("Q5_K", 256, 176, _q5_k),
    14: BlockType("Q6_K", 256, 210, _q6_k),
    30: BlockType("BF16", 1, 2, _plain(torch.bfloat16)),
}
"""By ggml's type number. The IQ types are not read: no FLUX file of them is known."""
