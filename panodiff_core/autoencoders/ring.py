"""Encode and decode a panorama with a VAE whose convolutions know that column W is column 0.

Inside `ring_aware(vae)` every 3×3 convolution wraps its width by one column and still zero-pads its height
(dit360 spec, section 5.1 b). Nothing is padded or copied: the convolution runs as it is, and only the output
columns that saw the zero border are computed again from the columns that truly lie next to each other.
Rolling latents by k columns and decoding then equals decoding and rolling the picture by 8k.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..runtime.errors import InputError
from .latents import scale, unscale


@contextmanager
def ring_aware(vae: nn.Module) -> Iterator[nn.Module]:
    """Make every 3×3 convolution inside `vae` wrap in width while the context lasts.

    Works on any module built of `nn.Conv2d`: stride 1 with padding 1, and the encoder's stride 2 that follows
    a padding of one zero column on the right. Weights and modules are untouched, hooks are removed even after
    an error, and nested or concurrent use does no harm because writing the border columns twice gives the
    same columns. Raises InputError for a wider or dilated convolution, which one wrapped column would not
    cover.
    """
    handles = []
    try:
        for name, module in vae.named_modules():
            if isinstance(module, nn.Conv2d):
                hook = _hook_for(name, module)
                if hook is not None:
                    handles.append(module.register_forward_hook(hook))
        yield vae
    finally:
        for handle in handles:
            handle.remove()


def _hook_for(name: str, conv: nn.Conv2d):
    width, stride, padding, dilation = conv.kernel_size[1], conv.stride[1], conv.padding[1], conv.dilation[1]
    if width == 1:
        return None
    if (width, stride, padding, dilation) == (3, 1, 1, 1):
        return _wrap_both_edges
    if (width, stride, padding, dilation) == (3, 2, 0, 1):
        return _wrap_right_edge
    raise InputError(
        f"convolution {name!r} (kernel {width}, stride {stride}, padding {padding}, dilation {dilation}) "
        "cannot be made to wrap: it must be 3×3 with stride 1, or with stride 2 after a right padding of 1"
    )


def _wrap_both_edges(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    x = inputs[0]
    columns = [column % x.shape[-1] for column in (-2, -1, 0, 1)]
    window = torch.cat([x[..., c : c + 1] for c in columns], dim=-1)
    # `forward`, not a call: no hook fires, and subclasses that cast or fuse their weights keep doing so.
    edges = conv.forward(window)
    output[..., -1] = edges[..., 1]
    output[..., 0] = edges[..., 2]
    return output


def _wrap_right_edge(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    x = inputs[0]  # already one zero column wider on the right
    window = torch.cat([x[..., -3:-1], x[..., :1]], dim=-1)
    output[..., -1] = conv.forward(window)[..., 0]
    return output


def encode(
    vae: nn.Module, pixels: Tensor, *, ring: bool = True, generator: torch.Generator | None = None
) -> Tensor:
    """Pixels [B, 3, H, W] in 0..1 → scaled model latents [B, C, H/8, W/8].

    Takes the mode of the posterior, or a sample of it when a `generator` is given (noise is drawn on the
    generator's device, so that a CPU generator gives the same picture everywhere). `ring=False` is the plain
    encoder.
    """
    raw = pixels * 2.0 - 1.0
    if ring:
        with ring_aware(vae.encoder):
            posterior = vae.encode(raw).latent_dist
    else:
        posterior = vae.encode(raw).latent_dist
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    return scale(latents, vae)


def decode(vae: nn.Module, latents: Tensor, *, ring: bool = True) -> Tensor:
    """Scaled model latents [B, C, h, w] → the decoder's own output [B, 3, 8h, 8w], nominally −1..1, not
    clamped.

    `ring=False` is the plain decoder, which zero-pads both edges and leaves a seam.
    """
    raw = unscale(latents, vae)
    if not ring:
        return vae.decode(raw).sample
    with ring_aware(vae.decoder):
        return vae.decode(raw).sample


def to_pixels(decoded: Tensor) -> Tensor:
    """Decoder output, nominally −1..1 → float32 pixels clamped to 0..1."""
    return (decoded.float() / 2.0 + 0.5).clamp(0.0, 1.0)
