"""derived_padding.safetensors: what circular padding is equal to, and what it is not (dit360 spec, section 4.3).

The engine has one form of padding. The others live here, as oracles: ids that do not wrap, keys and values repeated
inside every attention, and ln 2 on the edge columns' keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....layers.attention import Attention
from ....layers.ring import pack, pad_index
from ....schedulers.flow_matching import FlowMatchScheduler
from ....verification import Results, Row, compare
from ..model import FluxNetwork, RingGrid, use_attention
from ..sampling import sample_ring
from .folder import DiT360Vectors
from .trajectories import condition, final_tokens

NAME = "derived_padding"
BOUND, CONTROL, FAR = 1e-5, 0.05, 1e-3
WRONG_MU = 1.15
_BY_NAME = r"p(\d+)_(no_padding|wrapped|extended_ids|log2_key_bias|repad_each_step)"
_BY_MU = r"p(\d+)_wrapped_mu_(unpadded|static_([\d.]+))"
_OWN = r"own_loop_p\d+_wrapped"
FINAL = ".final_packed"


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """Every variant in the file, that copies stay copies, padding inside the layers, and that the wrong ones are wrong."""
    variants = _Variants(vectors)
    t, found = variants.t, []
    for key in sorted(key for key in t if key.endswith(FINAL)):
        name = key.removeprefix("derived.").removesuffix(FINAL)
        tokens = variants.run(name)
        if tokens is not None:
            found.append(name)
            yield t.row(key, tokens[: len(t[key])], BOUND)
    yield from variants.biases()
    paddings = {variants.padding, *(int(n) for name in found for n in re.findall(r"p(\d+)_", name))} - {0}
    for padding in sorted(paddings):
        yield variants.copies(padding)
        inside = variants.inside_the_layers(padding)
        outside = final_tokens(vectors, variants.transformer, padding=padding, mu=variants.mu)
        yield compare(NAME, f"padding {padding} inside every attention", inside, outside, BOUND)
    yield from _controls(vectors, variants)
    yield from t.left()


def _controls(vectors: DiT360Vectors, variants: _Variants) -> Iterator[Row]:
    """What is wrong on purpose must be far from what is right: by 0.05, or where the file shows that less is to be
    expected of this model, by most of that. Where it expects nothing there is nothing to show.
    """
    t, p = variants.t, variants.padding
    right = vectors.tensors("t2i")[f"cfg_off{FINAL}"]
    wrong = [("shifted ids", f"p{p}_extended_ids", variants.with_columns(p, 1))]
    if p:
        tokens = final_tokens(vectors, variants.transformer, padding=0)
        wrong.append(("no padding", "p0_no_padding", tokens))
    tokens = final_tokens(vectors, variants.transformer, mu=WRONG_MU)
    wrong.append((f"mu {WRONG_MU:g}", f"p{p}_wrapped_mu_static_{WRONG_MU:g}", tokens))
    for what, kindred, tokens in wrong:
        expected = t.get(f"derived.{kindred}{FINAL}")
        bound = CONTROL if expected is None else min(CONTROL, 0.9 * _apart(expected, right))
        if bound > FAR:
            yield Row("controls", what, _apart(tokens, right), bound, above=True)


def _apart(a: Tensor, b: Tensor) -> float:
    count = min(len(a), len(b))
    return (a[:count] - b[:count]).abs().max().item()


class _Variants:
    def __init__(self, vectors: DiT360Vectors) -> None:
        self.vectors, self.t = vectors, Results(NAME, vectors.tensors(NAME))
        self.transformer = vectors.transformer()
        self.size, self.padding = vectors.noise().shape[2:], vectors.padding()
        self.scheduler = FlowMatchScheduler(vectors.scheduler("t2i"))
        # One thing changes at a time: all variants use the shift of the trajectory that they are compared with.
        self.mu = self.scheduler.mu(RingGrid(*self.size, self.padding).tokens)

    def run(self, name: str) -> Tensor | None:
        """Final tokens of the variant that the vectors call so; None for a name that is not known."""
        match = re.fullmatch(_BY_MU, name)
        if match:
            padding, mu = int(match.group(1)), "unpadded" if match.group(3) is None else float(match.group(3))
            return final_tokens(self.vectors, self.transformer, padding=padding, mu=mu)
        if name == "roll_each_step":
            offsets = self.t.given("derived.roll_each_step.offsets")
            return final_tokens(self.vectors, self.transformer, roll=tuple(offsets.tolist()))
        if re.fullmatch(_OWN, name):
            return final_tokens(self.vectors, self.transformer)
        match = re.fullmatch(_BY_NAME, name)
        if match is None:
            return None
        padding, kind = int(match.group(1)), match.group(2)
        if kind == "extended_ids":
            return self.with_columns(padding, None)
        if kind == "log2_key_bias":
            return self.with_bias(self.bias(padding))
        roll = (0,) * self.vectors.steps() if kind == "repad_each_step" else "off"
        return final_tokens(self.vectors, self.transformer, padding=padding, mu=self.mu, roll=roll)

    def with_columns(self, padding: int, shift: int | None) -> Tensor:
        """Column ids moved by `shift`, or (None) going on beyond the edges instead of wrapping."""
        grid = RingGrid(*self.size, padding)
        ids = grid.ids.view(grid.rows, -1, 3).clone()
        ids[..., 2] = ids[..., 2] + shift if shift else torch.arange(-padding, grid.columns + padding)
        return self._loop(grid, ids.view(-1, 3))

    def with_bias(self, bias: Tensor) -> Tensor:
        """No extra tokens, but a bias [text + tokens] on the keys."""

        def biased(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(q.shape[-2], -1))

        return self._with_attention(biased)

    def inside_the_layers(self, padding: int) -> Tensor:
        """Keys and values of the edge columns repeated in every attention; queries are not."""
        grid = RingGrid(*self.size, 0)
        order = pad_index(grid.rows, grid.columns, padding)

        def padded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            text = q.shape[-2] - grid.tokens
            index = torch.cat([torch.arange(text), text + order])
            return F.scaled_dot_product_attention(q, k[..., index, :], v[..., index, :])

        return self._with_attention(padded)

    def bias(self, padding: int) -> Tensor:
        """ln of how often a key stands in the padded sequence: ln 2 for columns that have a copy, 0 for others."""
        grid = RingGrid(*self.size, 0)
        often = torch.bincount(pad_index(grid.rows, grid.columns, padding), minlength=grid.tokens)
        text = self.vectors.tensors("t2i")["in.prompt_embeds"].shape[1]
        return torch.cat([torch.zeros(text), often.float().log()])

    def biases(self) -> Iterator[Row]:
        """The biases that the file holds."""
        for key in sorted(self.t):
            if match := re.fullmatch(r"derived\.p(\d+)_log2_key_bias\.bias", key):
                yield self.t.row(key, self.bias(int(match[1])), BOUND)

    def copies(self, padding: int) -> Row:
        """After a whole trajectory on the padded grid the padding columns still are the columns they copy."""
        grid = RingGrid(*self.size, padding)
        tokens = self._loop(grid, grid.ids, cropped=False)
        return compare(NAME, f"copies of padding {padding}", tokens, grid.pad(grid.crop(tokens)), 0.0)

    def _with_attention(self, attention: Attention) -> Tensor:
        grid = RingGrid(*self.size, 0)
        net = self.vectors.transformer()
        use_attention(net, attention)
        return self._loop(grid, grid.ids, net)

    @torch.no_grad()
    def _loop(
        self, grid: RingGrid, ids: Tensor, net: nn.Module | None = None, cropped: bool = True
    ) -> Tensor:
        about = self.vectors.metadata("t2i")
        noise = self.vectors.noise()
        bound = condition(self.vectors, len(noise))
        guidance = torch.full((len(noise),), float(about["guidance"]))
        network = FluxNetwork(net or self.transformer, ids, bound.text.shape[1])
        self.scheduler.set_timesteps(self.vectors.steps(), self.mu)
        last: list[Tensor] = []

        def predict(tokens: Tensor, sigma: float) -> Tensor:
            velocity = network(tokens, sigma, (bound.text, bound.pooled, guidance))
            last[:] = [tokens, velocity]
            return velocity

        latents = sample_ring(self.scheduler, predict, grid, noise)
        if cropped:
            return pack(latents)
        return self.scheduler.step(last[1], self.scheduler.steps - 1, last[0])
