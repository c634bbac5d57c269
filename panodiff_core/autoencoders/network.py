"""A VAE's encoder or decoder as a flat list of operations, so that it can be evaluated band by band of rows.

Every operation says which of its input rows a band of its output rows reads; all but the attention of the middle
block and the statistics of the group norms are local.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ..runtime.errors import InputError


@dataclass(frozen=True)
class Operation:
    """One step of the network on its state (h, skip).

    `kind`: "conv" h = module(h) · "norm" h = act(module(h)) with given statistics · "fork" skip = h · "join"
    h = h + module(skip), or + skip where module is None · "up", "down" h = module(h), twice or half the size ·
    "attention" h = module(h), over the whole picture. `channels` are those of the resulting h. `stage` counts
    the sizes: an "up" opens one, a "down" closes one.
    """

    kind: str
    module: nn.Module | None
    channels: int
    stage: int = 0
    act: Callable[[Tensor], Tensor] | None = None

    def reads(self, first: int, last: int, rows: int) -> tuple[int, int]:
        """The rows [first, last) of the output need these of the `rows` input rows."""
        if self.kind == "conv":
            reach = self.module.kernel_size[0] // 2
            return max(0, first - reach), min(rows, last + reach)
        if self.kind == "up":
            return max(0, (first - 1) // 2), min(rows, last // 2 + 1)
        if self.kind == "down":
            return 2 * first, min(rows, 2 * last + 1)
        return first, last

    def resized(self, n: int) -> int:
        """Rows or columns of the output for `n` of the input."""
        return {"up": 2 * n, "down": n // 2}.get(self.kind, n)


def unroll(network: nn.Module) -> list[Operation]:
    """The operations of diffusers' `AutoencoderKL.encoder` or `.decoder`, in order.

    Raises InputError for a network with other parts (time embeddings, other resampling, several attentions).
    """
    try:
        return _numbered(_operations(network))
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"tiling 'global' cannot take this VAE apart ({error}): use tiling 'tiles'"
        ) from error


def _operations(network: nn.Module) -> Iterator[Operation]:
    yield _conv(network.conv_in)
    if hasattr(network, "up_blocks"):
        yield from _middle(network.mid_block)
        for block in network.up_blocks:
            yield from _block(block, "up", block.upsamplers)
    else:
        for block in network.down_blocks:
            yield from _block(block, "down", block.downsamplers)
        yield from _middle(network.mid_block)
    yield _norm(network.conv_norm_out, network.conv_act)
    yield _conv(network.conv_out)


def _middle(block: nn.Module) -> Iterator[Operation]:
    first, *others = block.resnets
    yield from _resnet(first)
    for attention, resnet in zip(block.attentions, others, strict=True):
        if attention is not None:
            yield Operation("attention", attention, attention.to_out[0].out_features)
        yield from _resnet(resnet)


def _block(block: nn.Module, kind: str, resamplers: nn.ModuleList | None) -> Iterator[Operation]:
    for resnet in block.resnets:
        yield from _resnet(resnet)
    for resampler in resamplers or ():
        if not isinstance(resampler.conv, nn.Conv2d) or resampler.norm is not None:
            raise TypeError(f"unknown resampling {type(resampler).__name__}")
        yield Operation(kind, resampler, resampler.conv.out_channels)


def _resnet(block: nn.Module) -> Iterator[Operation]:
    plain = block.time_emb_proj is None and block.upsample is None and block.downsample is None
    if not plain or block.time_embedding_norm == "scale_shift" or block.output_scale_factor != 1.0:
        raise TypeError(f"unknown block {type(block).__name__}")
    width = block.conv2.out_channels
    yield Operation("fork", None, block.conv1.in_channels)
    for norm, conv in ((block.norm1, block.conv1), (block.norm2, block.conv2)):
        yield _norm(norm, block.nonlinearity)
        yield _conv(conv)
    yield Operation("join", block.conv_shortcut, width)


def _conv(conv: nn.Conv2d) -> Operation:
    if conv.stride != (1, 1) or conv.kernel_size not in ((1, 1), (3, 3)):
        raise TypeError(f"unknown convolution {conv}")
    return Operation("conv", conv, conv.out_channels)


def _norm(norm: nn.GroupNorm, act: Callable[[Tensor], Tensor]) -> Operation:
    if not isinstance(norm, nn.GroupNorm):
        raise TypeError(f"unknown norm {type(norm).__name__}")
    return Operation("norm", norm, norm.num_channels, act=act)


def _numbered(operations: Iterator[Operation]) -> list[Operation]:
    stage, numbered = 0, []
    for operation in operations:
        stage += operation.kind == "up"
        numbered.append(replace(operation, stage=stage))
        stage += operation.kind == "down"
    return numbered
