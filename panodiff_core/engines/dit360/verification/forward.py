"""forward.safetensors: one call of the network with everything in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from torch import Tensor, nn

from ....layers.ring import PATCH
from ....verification import Results, Row
from ..model import RingGrid
from .folder import DiT360Vectors, padding_of
from .formats import velocity_of

NAME = "forward"
CALL, TABLE = 5e-5, 1e-6
VELOCITY = "out.velocity"


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """The velocity, and what else the file holds: position ids, rotary tables, the conditioning vector, every block's
    output."""
    f = Results(NAME, vectors.tensors(NAME))
    yield f.row("in.img_ids", _grid(f["in.img_ids"]).ids, 0.0)
    ids = f["in.img_ids"].new_zeros(f["in.prompt_embeds"].shape[1], 3)
    yield from f.rows("in.txt_ids", ids, 0.0)
    seen = _watch(vectors, vectors.transformer())
    yield f.row(VELOCITY, seen.pop(VELOCITY), CALL)
    for name, value in seen.items():
        yield from f.rows(name, value, TABLE if name.startswith("rope.") else CALL)
    yield from f.left()


def _grid(ids: Tensor) -> RingGrid:
    """The grid that position ids [N, 3] speak of: every row and column has a number of its own."""
    rows, columns = (int(ids[:, axis].max()) + 1 for axis in (1, 2))
    height, width = PATCH * rows, PATCH * columns
    return RingGrid(height, width, padding_of(len(ids), height, width))


def _watch(vectors: DiT360Vectors, net: nn.Module) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda module, inputs, output: seen.__setitem__(name, output)

    def keep_both(name: str):
        return lambda module, inputs, output: seen.update(
            {f"{name}.txt": output[0], f"{name}.img": output[1]}
        )

    def keep_tables(module, inputs, output) -> None:
        seen.update({"rope.cos": output[0], "rope.sin": output[1]})

    with ExitStack() as hooks:
        outer = {"img_in": net.x_embedder, "txt_in": net.context_embedder, "final_norm": net.norm_out}
        for name, module in {**outer, "vec": net.time_text_embed}.items():
            hooks.callback(module.register_forward_hook(keep(name)).remove)
        hooks.callback(net.pos_embed.register_forward_hook(keep_tables).remove)
        for kind, blocks in (("double", net.transformer_blocks), ("single", net.single_transformer_blocks)):
            for index, block in enumerate(blocks):
                hooks.callback(block.register_forward_hook(keep_both(f"{kind}.{index}")).remove)
        seen[VELOCITY] = velocity_of(vectors, net)
    return seen
