"""forward.safetensors: one call of the network with everything in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from torch import Tensor, nn

from ..model import RingGrid
from .folder import VectorFolder, grid_of
from .formats import velocity_of
from .rows import Row, compare

NAME = "forward"
CALL, TABLE = 5e-5, 1e-6


def check(vectors: VectorFolder) -> Iterator[Row]:
    """Position ids, rotary tables, the conditioning vector, every block's output and the velocity."""
    f = vectors.tensors(NAME)
    net = vectors.transformer()
    grid = RingGrid(*grid_of(vectors.metadata(NAME)), _padding(vectors))
    yield compare(NAME, "in.img_ids", grid.ids, f["in.img_ids"], 0.0)
    ids = grid.ids.new_zeros(f["in.prompt_embeds"].shape[1], 3)
    yield compare(NAME, "in.txt_ids", ids, f["in.txt_ids"], 0.0)
    seen = _watch(vectors, net)
    for name, value in seen.items():
        yield compare(NAME, name, value, f[name], TABLE if name.startswith("rope.") else CALL)


def _padding(vectors: VectorFolder) -> int:
    """Padding columns of the file: what the tokens leave beside the grid."""
    about = vectors.metadata(NAME)
    tokens = len(vectors.tensors(NAME)["in.img_ids"])
    return (tokens // int(about["n_h"]) - int(about["n_w"])) // 2


def _watch(vectors: VectorFolder, net: nn.Module) -> dict[str, Tensor]:
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
        seen["out.velocity"] = velocity_of(vectors, net)
    return seen
