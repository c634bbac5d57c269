"""From logits to codes: top-k, top-p, one uniform number per token, or soft mixtures (VAR's sampling rules).

Numbers are drawn on the CPU by the caller, so a seed gives the same picture on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...runtime.errors import InputError


def check_filters(top_k: int, top_p: float) -> None:
    """Raises InputError for a `top_k` that is no whole number from 0 up, or a `top_p` outside 0..1."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 0:
        raise InputError(f"top_k must be a whole number of at least 0 (0 keeps all codes), got {top_k!r}")
    if isinstance(top_p, bool) or not isinstance(top_p, (int, float)) or not 0.0 <= top_p <= 1.0:
        raise InputError(f"top_p must be a number from 0 to 1 (0 keeps all codes), got {top_p!r}")


def candidates(logits: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor | None]:
    """The codes that may be drawn: (logits [B, N, K], indices [B, N, K]); dropped ones have −∞.

    With a filter they come in falling order; without, they are the input, and the indices None (all in order). The
    `top_k` largest survive, and those equal to the smallest of them; of these, by falling probability, those
    before which less than `top_p` has been gathered. 0 turns a filter off. Only survivors of top-k are sorted.
    """
    vocab = logits.shape[-1]
    if top_k == 0 or top_k >= vocab:
        if top_p == 0.0:
            return logits, None
        values, indices = logits.sort(dim=-1, descending=True)
    else:
        values, indices = logits.topk(top_k, dim=-1)
        smallest = values[..., -1:]
        most = int((logits >= smallest).sum(dim=-1).max())
        if most > top_k:  # equals of the smallest survive too
            values, indices = logits.topk(most, dim=-1)
            values = values.masked_fill(values < smallest, -torch.inf)
    if top_p > 0.0:
        shares = values.softmax(dim=-1)
        before = shares.cumsum(dim=-1) - shares
        before[..., 0] = -1.0  # the largest always survives
        values = values.masked_fill(before >= top_p, -torch.inf)
    return values, indices


def sample_codes(
    logits: Tensor, uniform: Tensor | None, top_k: int = 0, top_p: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Codes drawn from logits [B, N, V], float32: (indices [B, N], their probabilities [B, N]).

    `uniform` [B, N] in [0, 1) picks the place in the cumulative distribution of the filtered logits. `top_k` 1 is
    greedy and needs none; its probabilities are those before filtering, where all would be 1 after it.
    """
    if top_k == 1:
        best, indices = logits.max(dim=-1)
        return indices, (best - logits.logsumexp(dim=-1)).exp()
    values, indices = candidates(logits, top_k, top_p)
    shares = values.softmax(dim=-1)
    gathered = shares.cumsum(dim=-1)
    total = gathered[..., -1:]
    target = uniform.to(gathered).unsqueeze(-1) * total
    # A rounded product may reach the total, beyond which there is no code.
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(gathered, target, right=True)
    probability = shares.gather(-1, place).squeeze(-1)
    return (place if indices is None else indices.gather(-1, place)).squeeze(-1), probability


def smooth_temperature(progress: float) -> float:
    """Temperature of soft mixtures at `progress` = s/(S−1) in 0..1."""
    return max(0.27 * (1.0 - 0.95 * progress), 0.005)


def soft_one_hot(logits: Tensor, exponential: Tensor, temperature: float) -> Tensor:
    """Weights of a soft mixture of codes: softmax((logits − log e)/τ), with e drawn from Exp(1), as logits in shape."""
    return ((logits - exponential.to(logits).log()) / temperature).softmax(dim=-1)
