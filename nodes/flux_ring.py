"""The ring around ComfyUI's own FLUX: wrappers on a clone of the MODEL, nothing on the shared network.

The wrapper around the network knows the size of what it is called with, and hands the network a patch for that one
call, which appends the ring's copies behind all other tokens. So there is nothing to share between calls, branches or
devices, and nothing to clean up after a cancel. What lasts for one run stands in the options that the sampler made
for that run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from comfy.ldm.flux.model import Flux
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..panodiff_core.engines.dit360.sampling import roll_offsets
from ..panodiff_core.layers.ring import PATCH
from ..panodiff_core.layers.ring_copies import RingCopies, offset_at
from ..panodiff_core.runtime.errors import InputError, PanoDiffError
from .flux_shift import LATENT_CHANNELS, LATENT_PIXELS

KEY = "PanoDiff_ring"


@dataclass
class Run:
    """One run of a sampler: the latent's width, the roll per step [steps] or None, and how often the ring was laid."""

    width: int
    offsets: Tensor | None
    calls: int = field(default=0)


@dataclass(frozen=True)
class FluxRing:
    """Ring padding of `padding` token columns and a roll per step for a native FLUX.

    `size` is the latent (height, width) that the MODEL's shift was made for, None if any will do.
    """

    padding: int
    roll: str
    size: tuple[int, int] | None

    def install(self, model) -> None:
        """Put the wrappers on `model`, a clone. Raises `InputError` if it has a ring already or is no FLUX.1-dev."""
        require_flux_dev(model)
        if model.get_wrappers(WrappersMP.DIFFUSION_MODEL, KEY):
            raise InputError(
                "this MODEL went through Patch Model for 360 before, and a second ring inside of the first means "
                "nothing: connect the MODEL from before that node, or remove one of the two"
            )
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, self.around_run)
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, check_first_step)
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, self.around_network)

    def around_run(
        self, executor, noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **more
    ):  # fmt: skip
        """OUTER_SAMPLE: check the size before anything is loaded, and note what the run needs to know."""
        self._check_latent(noise)
        steps, columns = len(sigmas) - 1, noise.shape[-1] // PATCH
        if self.roll == "random" and seed is None:
            raise InputError("roll random needs the sampler's seed, and this sampler has none: use alternate")
        offsets = roll_offsets(self.roll, steps, columns, seed)
        run = Run(noise.shape[-1], None if offsets is None else torch.tensor(offsets))
        options = executor.class_obj.model_options["transformer_options"]
        options[KEY] = run
        try:
            return executor(
                noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **more
            )
        finally:
            options.pop(KEY, None)

    def around_network(
        self, executor, x, timestep, context, y, guidance, ref_latents, control, transformer_options, **more
    ):
        """DIFFUSION_MODEL: one call of the network with the ring around `x` [B, C, h, w]."""
        run = _current(transformer_options)
        if x.shape[-1] != run.width:  # a cut-out, from an area or a tiling node: its ends do not meet
            run.calls += 1
            return executor(
                x, timestep, context, y, guidance, ref_latents, control, transformer_options, **more
            )
        ring = RingCopies.lay(
            -(-x.shape[-2] // PATCH),
            run.width // PATCH,
            self.padding,
            _shift(run, transformer_options),
            x.device,
        )
        if control is not None:
            control = {**control, **{name: list(control.get(name) or ()) for name in ("input", "output")}}
        if more.get("attention_mask") is not None:
            more["attention_mask"] = ring.mask(more["attention_mask"], context.shape[1])
        options = _with_patch(transformer_options, _appender(ring, run, control))
        return executor(x, timestep, context, y, guidance, ref_latents, control, options, **more)

    def _check_latent(self, noise: Tensor) -> None:
        if noise.ndim != 4:
            raise InputError(f"a panorama's latent is [B, {LATENT_CHANNELS}, h, w], got {list(noise.shape)}")
        height, width = noise.shape[-2:]
        if width % PATCH:
            pixels = width * LATENT_PIXELS
            raise InputError(
                f"a latent {width} wide ({pixels} pixels) cannot be closed to a ring: the width must be a multiple of "
                f"{PATCH * LATENT_PIXELS} pixels, for example {pixels + LATENT_PIXELS}. Empty Panorama Latent makes one that fits."
            )
        if self.size not in (None, (height, width)):
            made = " x ".join(str(n * LATENT_PIXELS) for n in reversed(self.size))
            raise InputError(
                f"Patch Model for 360 shifted the noise levels for {made} pixels, and the latent is "
                f"{width * LATENT_PIXELS} x {height * LATENT_PIXELS}: give that node the latent's size, or set its shift to "
                "fixed or to the model's default"
            )


def check_first_step(executor, *args, **more):
    """PREDICT_NOISE: after the first call of a run the ring must have been laid, else this MODEL ignores the patch."""
    result = executor(*args, **more)
    if _current(executor.class_obj.model_options["transformer_options"]).calls == 0:
        raise PanoDiffError(
            "Patch Model for 360 had no effect: the network ran without calling it, so the panorama would have a seam. "
            "Another node replaced the network or its forward; take that node out, or use Load DiT360 instead."
        )
    return result


def require_flux_dev(model) -> None:
    """Raises `InputError` unless `model` is a MODEL with ComfyUI's network for FLUX.1-dev or one of its kin."""
    network = getattr(model.model, "diffusion_model", None)
    found = type(network).__name__
    if isinstance(network, Flux):
        p = network.params
        if p.guidance_embed and p.vec_in_dim and (p.patch_size, p.out_channels) == (PATCH, LATENT_CHANNELS):
            return
        found = "another kind of FLUX (schnell has no distilled guidance, FLUX.2 another latent)"
    raise InputError(
        f"Patch Model for 360 needs FLUX.1-dev or a model made from it, and got {found}. Load one with Load Diffusion "
        "Model or a GGUF loader."
    )


def _current(transformer_options: dict) -> Run:
    """The run that `around_run` began."""
    if KEY not in transformer_options:
        raise PanoDiffError(
            "Patch Model for 360 does not know this sampler's run: the sampler calls the network without ComfyUI's guider, "
            "which tells the size and the steps. Use KSampler or SamplerCustomAdvanced, or another node of that pack."
        )
    return transformer_options[KEY]


def _shift(run: Run, transformer_options: dict) -> Tensor | None:
    if run.offsets is None:
        return None
    sigma = transformer_options["sigmas"].flatten()[:1]
    return offset_at(sigma, transformer_options["sample_sigmas"], run.offsets)


def _with_patch(transformer_options: dict, patch: Callable[[dict], dict]) -> dict:
    patches = transformer_options.get("patches", {})
    last = {**patches, "post_input": [*patches.get("post_input", ()), patch]}
    return {**transformer_options, "patches": last}


def _appender(ring: RingCopies, run: Run, control: dict | None) -> Callable[[dict], dict]:
    """The patch of one call. It also lengthens the residuals in `control`, which belongs to this call alone."""

    def append(args: dict) -> dict:
        run.calls += 1
        length = args["img"].shape[1]
        if control is not None:
            longer: dict[int, Tensor] = {}  # a ControlNet gives one residual to several blocks
            for name in ("input", "output"):
                for r in control[name]:
                    if r is not None and id(r) not in longer:
                        longer[id(r)] = ring.residual(r, length)
                control[name] = [None if r is None else longer[id(r)] for r in control[name]]
        return {**args, "img": ring.tokens(args["img"]), "img_ids": ring.ids(args["img_ids"])}

    return append
