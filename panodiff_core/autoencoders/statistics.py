"""What a group norm and an attention need to know of a whole picture when the picture comes in bands."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Moments:
    """Mean and variance per group of channels, gathered over bands [1, C, rows, W] (Chan's merging formula)."""

    def __init__(self, groups: int) -> None:
        self.groups, self.count = groups, 0
        self.mean = torch.zeros(groups, dtype=torch.float64)
        self.squares = torch.zeros(groups, dtype=torch.float64)

    def add(self, band: Tensor) -> None:
        """Take in one more band; its own moments are float32, the merging is float64."""
        values = band.reshape(self.groups, -1)
        var, mean = (t.cpu().double() for t in torch.var_mean(values.float(), dim=1, correction=0))
        count = values.shape[1]
        total, delta = self.count + count, mean - self.mean
        self.squares += var * count + delta.square() * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total

    def per_channel(self, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and variance [C], float32."""
        parts = (self.mean, self.squares / self.count)
        mean, var = (t.float().repeat_interleave(channels // self.groups).to(device) for t in parts)
        return mean, var


def normalise(norm: nn.GroupNorm, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """`norm` with given statistics instead of those of `x`."""
    # Batch norm at inference is this very formula, in one pass that rounds once, also for 16-bit x.
    weight, bias = norm.weight.float(), norm.bias.float()
    return F.batch_norm(x, mean, var, weight, bias, training=False, eps=norm.eps)


def attend(attention: nn.Module, x: Tensor, score_bytes: int) -> Tensor:
    """diffusers' spatial self-attention over [1, C, h, w], a slice of queries at a time, so that no back end
    holds more than `score_bytes` of scores.
    """
    tokens = attention.group_norm(x.flatten(2)).transpose(1, 2)
    key, value = (_heads(attention, layer(tokens)) for layer in (attention.to_k, attention.to_v))
    per_query = 8 * attention.heads * tokens.shape[1]
    result = torch.empty_like(tokens)
    step = max(1, score_bytes // per_query)
    for first in range(0, tokens.shape[1], step):
        query = _heads(attention, attention.to_q(tokens[:, first : first + step]))
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        result[:, first : first + step] = attention.to_out[0](seen)
    result = result.transpose(1, 2).reshape(x.shape)
    if attention.residual_connection:
        result += x
    return result / attention.rescale_output_factor


def _heads(attention: nn.Module, x: Tensor) -> Tensor:
    return x.unflatten(2, (attention.heads, -1)).transpose(1, 2)
