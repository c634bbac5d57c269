"""Bring a module's weights to the device in parts, by the hooks of diffusers and accelerate.

Hooks are attached for one use and taken off after it, so that between uses a module is an ordinary one on the offload
device. Module groups stay pinned once they were streamed to a CUDA device, so that attaching again costs nothing.
"""

from __future__ import annotations

import torch
from torch import nn

from .memory import blocks_of

_GROUP = "group_offloading"
_GROUP_HOOKS = (_GROUP, "layer_execution_tracker", "lazy_prefetch_group_offloading")


def attach(module: nn.Module, mode: str, device: torch.device, offload_device: torch.device) -> None:
    """Let calls of `module`, which is on `offload_device`, fetch their weights to `device`, and send them back.

    `mode` "group" fetches block by block (diffusers' group offloading; layer by layer where the module has no list of
    blocks), on CUDA the next one ahead on a stream of its own; "sequential" layer by layer (accelerate's `cpu_offload`).
    """
    if mode == "sequential":
        from accelerate import cpu_offload

        cpu_offload(module, execution_device=device)
        return
    from diffusers.hooks import apply_group_offloading

    blocks = bool(blocks_of(module))
    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=offload_device,
        offload_type="block_level" if blocks else "leaf_level",
        num_blocks_per_group=1 if blocks else None,
        use_stream=prefetches(device),
    )


def detach(module: nn.Module, mode: str, offload_device: torch.device) -> None:
    """Undo `attach`, also in the middle of a call that broke off: no hook stays, all weights are back."""
    if mode == "sequential":
        from accelerate.hooks import remove_hook_from_submodules

        remove_hook_from_submodules(module)
    else:
        _detach_groups(module)
    module.to(offload_device)  # what no hook moves: buffers that stayed for the whole use
    for each in module.modules():
        # The libraries leave a bound copy of the class's own method on every module.
        if getattr(each.__dict__.get("forward"), "__func__", None) is type(each).forward:
            del each.forward


def prefetches(device: torch.device) -> bool:
    """Whether the next group comes while one computes."""
    return device.type == "cuda"


def _detach_groups(module: nn.Module) -> None:
    hooked = [each for each in module.modules() if hasattr(each, "_diffusers_hook")]
    for each in hooked:
        hook = each._diffusers_hook.get_hook(_GROUP)
        if hook is not None:
            hook.group.offload_()
    for each in hooked:
        for name in _GROUP_HOOKS:
            each._diffusers_hook.remove_hook(name, recurse=False)
        if not each._diffusers_hook.hooks:
            del each._diffusers_hook
