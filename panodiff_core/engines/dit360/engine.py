"""The DiT360 engine: load, encode, sample, decode."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ... import geometry
from ...autoencoders.coding import Coding, Size, plan_coding
from ...autoencoders.preview import SIDE, PreviewMap, fit_preview
from ...conditioning.prompts import read_prompts
from ...conditioning.text import TextCondition
from ...layers.ring import PATCH, check_padding
from ...pictures import Panorama
from ...runtime.checks import check_count
from ...runtime.errors import NumericalError
from ...runtime.memory import MemoryEstimate
from ...runtime.placement import Holder, Placement, choose_placement, estimate_modes
from ...runtime.progress import OnStep, OnTile
from .checkpoint import Components, read_model
from .config import DiT360Config, SamplingOptions
from .model import LoraStack
from .model.memory import stage_bytes, text_bytes
from .presets import with_preset
from .sampling import SamplingJob, choose_noise, choose_options, choose_size, read_source
from .sampling.inputs import check_condition, check_latents, check_size
from .upscale import upscale


class DiT360Engine:
    """One loaded model. Weights move only through `placement`; set it to change who owns the memory.

    `stages` maps "text_encoders", "transformer" and "vae" to plain module holders, the ones `placement` is
    asked for.
    """

    name = "dit360"

    def __init__(
        self,
        parts: Components,
        placement: Placement | str | None = None,
        folder: Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.config: DiT360Config = parts.config
        self.folder = folder
        self.transformer, self.vae, self.text_encoder = parts.transformer, parts.vae, parts.text
        self.scheduler_config, self.formats = parts.scheduler, parts.formats
        self.stages = {
            "text_encoders": Holder(clip=parts.text.clip, t5=parts.text.t5),
            "transformer": Holder(transformer=parts.transformer),
            "vae": Holder(vae=parts.vae),
        }
        self.placement = choose_placement(
            self.stages, device, placement, lambda: self._stage_bytes(self.config.defaults)
        )
        self.loras: LoraStack | None = None
        self._preview: PreviewMap | None = None

    @property
    def vae_factor(self) -> int:
        """Pixels per latent pixel and axis."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size_multiple(self) -> int:
        """Height and width in pixels must be multiples of this."""
        return self.vae_factor * PATCH

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.vae.config.latent_channels

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens that the text encoder knows, sorted; whole words for the small model."""
        return tuple(sorted(self.text_encoder.tokenizer_2.get_vocab()))

    def estimate(self, *, batch_size: int = 1, **options) -> tuple[MemoryEstimate, ...]:
        """What `batch_size` pictures need in memory under each placement mode, before anything runs.

        `options` are those of `sample`. What is free is that of the engine's device, None under a host's placement.
        Raises InputError as `sample` does.
        """
        preset = options.pop("preset", None)
        choice = self._choose(with_preset(preset, self.config.kind, options), None, None, None)
        device = getattr(self.placement, "device", None)
        return estimate_modes(self.stages, device, self._stage_bytes(choice, batch_size))

    def _stage_bytes(self, options: SamplingOptions, batch_size: int = 1) -> dict[str, int]:
        return stage_bytes(self.transformer, self.vae, self.text_encoder, options, batch_size)

    def encode(
        self,
        prompt: str | Sequence[str],
        negative: str | Sequence[str] | None = None,
        *,
        prompt_prefix: str | None = None,
        clean_prompt: bool = False,
    ) -> TextCondition:
        """Encode one prompt or several, and what to keep away from.

        The model's prefix (`config.defaults.prompt_prefix`, or the one given; "" for none) goes before
        prompts that do not begin with it; `condition.prompts` shows the result. Unknown words and what was
        cut off are logged and stand in the condition. `negative` may be empty; without one, the empty prompt
        is encoded if the model's default `cfg` needs it. `clean_prompt` puts prompts, not the prefix, into lower case
        with plain punctuation (`conditioning.cleanup`), which T5 was not trained for. Raises InputError for an empty
        prompt.
        """
        prefix = self.config.defaults.prompt_prefix if prompt_prefix is None else prompt_prefix
        if negative is None and self.config.defaults.cfg != 1.0:
            negative = ""
        read = read_prompts(self.text_encoder, prompt, negative, prefix, clean_prompt)
        return read.condition(*self._encode_texts(read.texts))

    @torch.no_grad()
    def _encode_texts(self, texts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        with self._use("text_encoders", text_bytes(self.text_encoder, len(texts))) as device:
            text, pooled = self.text_encoder.encode(texts, device)
        for name, value in (("T5", text), ("CLIP", pooled)):
            if not torch.isfinite(value).all():
                raise NumericalError(
                    f"NaN or infinity in the output of {name}, stage text_encoders: use another dtype"
                )
        return text.cpu(), pooled.cpu()

    @torch.no_grad()
    def sample(
        self,
        condition: TextCondition,
        *,
        seed: int = 0,
        batch_size: int = 1,
        latents: Tensor | None = None,
        image_latents: Tensor | None = None,
        strength: float = 1.0,
        mask: Tensor | None = None,
        sigmas: Sequence[float] | None = None,
        true_cfg_batched: bool | None = None,
        preset: str | None = None,
        on_step: OnStep | None = None,
        **options,
    ) -> Tensor:
        """Sample panoramas: scaled latents [B·batch_size, C, H/8, W/8], float32 on the CPU.

        `options` are the fields of `SamplingOptions` (height, width, steps, guidance, cfg, padding, roll, mu,
        grid, solver, step_cache); what is not given takes that of `preset` (`presets`), then the model's default, one
        of height and width implies the other (2:1). `batch_size` pictures are made per prompt. `seed` draws the noise
        on the CPU; `latents` [B·batch_size, C, h, w] gives it instead, and the size with it. `sigmas` replaces grid
        and steps; `mu` still shifts it. `true_cfg_batched`: both prompts of true guidance in one call, or one after
        the other in half the memory; None takes one call where tokens are few or the memory is free.
        `on_step(Step)` is called after every step and may raise `Cancelled`.

        `image_latents` [B·batch_size or 1, C, h, w] is a picture to start from (`encode_image`), and gives the
        size. Of n steps the last ⌈n·strength⌉ run, from the picture with that much noise; at 1 only a mask keeps
        any of it. `mask` [B·batch_size or 1, 1, h, w]: 1 is made anew, 0 kept, in between blended after each step
        (`sampling.image_to_image`). Raises InputError for an option, size or condition that does not fit,
        NumericalError when a step gives NaN.
        """
        sized = latents is not None or image_latents is not None
        options = with_preset(preset, self.config.kind, options, sized)
        choice = self._choose(options, latents, image_latents, sigmas)
        check_count("seed", seed, 0, 2**64 - 1)
        check_count("batch_size", batch_size, 1, 4096)
        check_condition(condition, choice.cfg, self.transformer.config)
        size = (choice.height // self.vae_factor, choice.width // self.vae_factor)
        noise = choose_noise((condition.batch * batch_size, self.latent_channels, *size), seed, latents)
        source = read_source(image_latents, strength, mask, noise.shape, choice.steps)
        job = SamplingJob(condition, choice, noise, source, seed, sigmas, true_cfg_batched)
        if on_step is not None:
            self._preview_map()  # fitted before the transformer moves in, so that previews move nothing
        return job.run(self.transformer, self.scheduler_config, partial(self._use, "transformer"), on_step)

    @torch.no_grad()
    def upscale(self, source: Tensor | Panorama, condition: TextCondition, **options) -> Tensor:
        """A second pass at 2 or 4 times the size, in tiles that wrap around the ring: see `upscale.upscale`."""
        return upscale(self, source, condition, **options)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        *,
        ring: bool = True,
        polar_filter: bool | None = None,
        tiling: str = "auto",
        memory_gb: float | None = None,
        on_tile: OnTile | None = None,
    ) -> Panorama:
        """Scaled latents [B, C, h, w] → pictures of 8h × 8w pixels, without a seam.

        `ring=False` decodes as the reference does, with a seam. `polar_filter` takes the pinch off the poles
        (`geometry.polar_filter`); None is the model's default, which is off for FLUX. One picture needs at most
        `memory_gb` (2³⁰ bytes) beside the weights, None is what the device has left: `tiling` "auto" decodes it whole
        where that fits, else in bands with the same result ("global", slower); "off" never splits, "tiles" only comes
        close (`autoencoders.coding`).
        `on_tile(Tile)` is called after each part and may raise `Cancelled`. Raises InputError for a wrong shape or too
        little memory, NumericalError for NaN.
        """
        calm = self.config.polar_filter if polar_filter is None else polar_filter
        check_latents(latents, self.latent_channels)
        height, width = (n * self.vae_factor for n in latents.shape[2:])
        coding = self._coding("decode", height, width, ring=ring, tiling=tiling, memory_gb=memory_gb)
        pixels = torch.empty(len(latents), 3, height, width)
        with self._use("vae", coding.bytes) as device:
            coding.run(latents, pixels, device, on_tile=on_tile)
        if calm:
            for one in pixels.split(1):
                one.copy_(geometry.polar_filter(one).clamp_(0.0, 1.0))
        return Panorama(pixels)

    @torch.no_grad()
    def encode_image(
        self,
        pixels: Tensor,
        *,
        ring: bool = True,
        sample_seed: int | None = None,
        tiling: str = "auto",
        memory_gb: float | None = None,
        on_tile: OnTile | None = None,
    ) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 → scaled latents [B, C, H/8, W/8], float32 on the CPU.

        They are the posterior's mode, or with `sample_seed` a sample of it, drawn on the CPU. `tiling`, `memory_gb` and
        `on_tile` are those of `decode`. Raises InputError for a wrong shape, a size that does not divide or too little
        memory, NumericalError for NaN.
        """
        Panorama(pixels)
        generator = None
        if sample_seed is not None:
            check_count("sample_seed", sample_seed, 0, 2**64 - 1)
            generator = torch.Generator().manual_seed(sample_seed)
        height, width = pixels.shape[2:]
        check_size(height, width, self.size_multiple)
        coding = self._coding("encode", height, width, ring=ring, tiling=tiling, memory_gb=memory_gb)
        size = (height // self.vae_factor, width // self.vae_factor)
        latents = torch.empty(len(pixels), self.latent_channels, *size)
        with self._use("vae", coding.bytes) as device:
            coding.run(pixels, latents, device, generator=generator, on_tile=on_tile)
        return latents

    def preview(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, C, h, w] → a quick look, RGB [B, 3, h, w] in 0..1."""
        return self._preview_map()(latents)

    def _preview_map(self) -> PreviewMap:
        if self._preview is None:
            with self._use("vae", Size(self.vae, "encode", SIDE, SIDE).whole_bytes):
                self._preview = fit_preview(self.vae)
        return self._preview

    def _coding(self, task: str, height: int, width: int, **how) -> Coding:
        room = self.placement.room("vae", self.stages["vae"])
        return plan_coding(self.vae, task, height, width, room=room, **how)

    def _use(self, stage: str, memory_bytes: int):
        return self.placement.use(stage, self.stages[stage], memory_bytes)

    def _choose(
        self, options: dict, latents: Tensor | None, image: Tensor | None, sigmas: Sequence[float] | None
    ) -> SamplingOptions:
        sized = choose_size(options, latents, image, self.latent_channels)
        choice = choose_options(self.config.defaults, options, sized, sigmas, self.vae_factor)
        check_size(choice.height, choice.width, self.size_multiple)
        check_padding(choice.padding, choice.width // self.size_multiple)
        return choice


def load(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    offload: str | Placement | None = None,
    **options,
) -> DiT360Engine:
    """Load a model, with LoRAs in PEFT's format (see `model.lora`) if any are given.

    `model` is a folder in the diffusers layout, or a weight file: a FLUX.1-dev transformer (diffusers or BFL keys; 16
    bits, fp8, scaled fp8 or GGUF) or a checkpoint with everything in it. `device` None takes CUDA, MPS or the CPU;
    `offload` is "none", "stage", "group" or "sequential" (`runtime.memory`), a `Placement`, or None to decide by free
    memory. `options`: parts, dtype, storage, attention, lora, lora_mode; see `checkpoint.read_model`.
    `engine.loras.set_strengths` changes the strengths later.
    Raises CheckpointError, InputError or MemoryLimitError before anything is computed.
    """
    model = Path(model).expanduser()
    loaded = read_model(model, device=device, offload=offload, **options)
    engine = DiT360Engine(loaded.parts, offload, model, loaded.device)
    engine.loras = loaded.loras
    return engine
