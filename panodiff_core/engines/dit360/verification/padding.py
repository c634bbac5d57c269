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

from ....layers.ring import pack, pad_index
from ....schedulers.flow_matching import FlowMatchScheduler
from ..model import Attention, FluxNetwork, RingGrid, use_attention
from ..sampling import sample_ring
from .folder import VectorFolder, grid_of
from .rows import Row, compare
from .trajectories import condition, final_tokens

NAME = "derived_padding"
BOUND, CONTROL = 1e-5, 0.05
_BY_NAME = r"p(\d+)_(no_padding|wrapped|extended_ids|log2_key_bias|repad_each_step)"
_BY_MU = r"p1_wrapped_mu_(unpadded|static_([\d.]+))"


def check(vectors: VectorFolder) -> Iterator[Row]:
    """Every variant in the file, that copies stay copies, padding inside the layers, and that the wrong ones are wrong."""
    t = vectors.tensors(NAME)
    variants = _Variants(vectors)
    right = vectors.tensors("t2i")["cfg_off.final_packed"]
    suffix = ".final_packed"
    for key in sorted(key for key in t if key.endswith(suffix)):
        name = key.removeprefix("derived.").removesuffix(suffix)
        yield compare(NAME, name, variants.run(name), t[key], BOUND)
    yield from variants.copies()
    for padding in (1, 2):
        inside = variants.inside_the_layers(padding)
        outside = final_tokens(vectors, variants.transformer, padding=padding, mu=variants.mu)
        yield compare(NAME, f"padding {padding} inside every attention", inside, outside, BOUND)
    wrong = {
        "no padding": final_tokens(vectors, variants.transformer, padding=0),
        "mu 1.15": final_tokens(vectors, variants.transformer, mu=1.15),
        "shifted ids": variants.with_columns(1, 1),
    }
    for what, tokens in wrong.items():
        yield Row("controls", what, (tokens - right).abs().max().item(), CONTROL, above=True)


class _Variants:
    def __init__(self, vectors: VectorFolder) -> None:
        self.vectors, self.t = vectors, vectors.tensors(NAME)
        self.transformer = vectors.transformer()
        self.size = grid_of(vectors.metadata("t2i"))
        self.scheduler = FlowMatchScheduler(vectors.scheduler())
        # One thing changes at a time: all variants use the shift of one padding column.
        self.mu = self.scheduler.mu(RingGrid(*self.size, 1).tokens)

    def run(self, name: str) -> Tensor:
        """Final tokens of the variant that the vectors call so."""
        match = re.fullmatch(_BY_MU, name)
        if match:
            mu = "unpadded" if match.group(2) is None else float(match.group(2))
            return final_tokens(self.vectors, self.transformer, mu=mu)
        if name == "roll_each_step":
            offsets = tuple(self.t["derived.roll_each_step.offsets"].tolist())
            return final_tokens(self.vectors, self.transformer, roll=offsets)
        if name == "own_loop_p1_wrapped":
            return final_tokens(self.vectors, self.transformer)
        match = re.fullmatch(_BY_NAME, name)
        if match is None:
            raise KeyError(f"{NAME} has a variant {name!r} that this version does not know")
        padding, kind = int(match.group(1)), match.group(2)
        if kind == "extended_ids":
            return self.with_columns(padding, None)
        if kind == "log2_key_bias":
            return self.with_bias(self.t[f"derived.{name}.bias"])
        steps = int(self.vectors.metadata("t2i")["steps"])
        roll = (0,) * steps if kind == "repad_each_step" else "off"
        return final_tokens(self.vectors, self.transformer, padding=padding, mu=self.mu, roll=roll)

    def with_columns(self, padding: int, shift: int | None) -> Tensor:
        """Column ids moved by `shift`, or (None) going on beyond the edges instead of wrapping."""
        grid = RingGrid(*self.size, padding)
        ids = grid.ids.view(grid.rows, -1, 3).clone()
        ids[..., 2] = ids[..., 2] + shift if shift else torch.arange(-padding, grid.columns + padding)
        return self._loop(grid, ids.view(-1, 3))

    def with_bias(self, bias: Tensor) -> Tensor:
        """No extra tokens, but a bias on the keys."""

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

    def copies(self) -> Iterator[Row]:
        """After a whole trajectory on the padded grid the padding columns still are the columns they copy."""
        for padding in (1, 2):
            grid = RingGrid(*self.size, padding)
            tokens = self._loop(grid, grid.ids, cropped=False)
            yield compare(NAME, f"copies of padding {padding}", tokens, grid.pad(grid.crop(tokens)), 0.0)

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
        noise = self.vectors.tensors("t2i")["in.latents_spatial"]
        bound = condition(self.vectors, len(noise))
        guidance = torch.full((len(noise),), float(about["guidance"]))
        network = FluxNetwork(net or self.transformer, ids, bound.text.shape[1])
        self.scheduler.set_timesteps(int(about["steps"]), self.mu)
        last: list[Tensor] = []

        def predict(tokens: Tensor, sigma: float) -> Tensor:
            velocity = network(tokens, sigma, (bound.text, bound.pooled, guidance))
            last[:] = [tokens, velocity]
            return velocity

        latents = sample_ring(self.scheduler, predict, grid, noise)
        if cropped:
            return pack(latents)
        return self.scheduler.step(last[1], self.scheduler.steps - 1, last[0])
