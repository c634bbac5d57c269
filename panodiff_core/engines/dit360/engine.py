"""The DiT360 engine: load, encode, sample, decode."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ... import geometry
from ...autoencoders import ring as ring_vae
from ...autoencoders.preview import PreviewMap, fit_preview
from ...conditioning.text import TextCondition
from ...layers.ring import PATCH, check_padding
from ...pictures import Panorama
from ...runtime.errors import InputError, NumericalError
from ...runtime.placement import Holder, Placement, choose_placement, parse_device
from ...runtime.precision import parse_dtype
from ...runtime.progress import OnStep
from ...schedulers.true_cfg import CFGFlowMatchScheduler
from .checkpoint import Components, load_components
from .config import DiT360Config, SamplingOptions
from .inputs import (
    bind_conditions,
    check_condition,
    check_count,
    check_latents,
    check_size,
    choose_options,
    one_each,
    read_texts,
    with_prefix,
)
from .lora import FusedLora, parse_lora, read_lora
from .model import Attention, FluxNetwork, RingGrid, use_attention
from .sampling import draw_noise, lay_noise_levels, roll_offsets, sample_ring

log = logging.getLogger(__name__)


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
        self.scheduler_config = parts.scheduler
        self.stages = {
            "text_encoders": Holder(clip=parts.text.clip, t5=parts.text.t5),
            "transformer": Holder(transformer=parts.transformer),
            "vae": Holder(vae=parts.vae),
        }
        self.placement = choose_placement(self.stages, device, placement)
        self.lora: FusedLora | None = None
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

    def encode(
        self,
        prompt: str | Sequence[str],
        negative: str | Sequence[str] | None = None,
        *,
        prompt_prefix: str | None = None,
    ) -> TextCondition:
        """Encode one prompt or several, and what to keep away from.

        The model's prefix (`config.defaults.prompt_prefix`, or the one given; "" for none) goes before
        prompts that do not begin with it; `condition.prompts` shows the result. Unknown words and what was
        cut off are logged and stand in the condition. `negative` may be empty; without one, the empty prompt
        is encoded if the model's default `cfg` needs it. Raises InputError for an empty prompt.
        """
        prefix = self.config.defaults.prompt_prefix if prompt_prefix is None else prompt_prefix
        prompts = tuple(with_prefix(text, prefix) for text in read_texts("prompt", prompt))
        if negative is None and self.config.defaults.cfg != 1.0:
            negative = ""
        negatives = () if negative is None else read_texts("negative prompt", negative, empty=True)
        if negatives:
            negatives = one_each(negatives, len(prompts))
        reading = self.text_encoder.read(dict.fromkeys(prompts + negatives))
        if reading.unknown_words:
            log.warning(
                "the model does not know these words and ignores them: %s", ", ".join(reading.unknown_words)
            )
        for cut in reading.truncated:
            log.warning("the prompt is too long: %s", cut)
        text, pooled = self._encode_texts(prompts + negatives)
        count = len(prompts)
        return TextCondition(
            text=text[:count],
            pooled=pooled[:count],
            negative_text=text[count:] if negatives else None,
            negative_pooled=pooled[count:] if negatives else None,
            prompts=prompts,
            negative_prompts=negatives,
            unknown_words=reading.unknown_words,
            truncated=reading.truncated,
        )

    @torch.no_grad()
    def _encode_texts(self, texts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        width = self.text_encoder.t5.config.d_model
        length = self.text_encoder.tokenizer_2.model_max_length
        with self._use("text_encoders", 64 * len(texts) * length * width) as device:
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
        sigmas: Sequence[float] | None = None,
        true_cfg_batched: bool = True,
        on_step: OnStep | None = None,
        **options,
    ) -> Tensor:
        """Sample panoramas: scaled latents [B·batch_size, C, H/8, W/8], float32 on the CPU.

        `options` are the fields of `SamplingOptions` (height, width, steps, guidance, cfg, padding, roll, mu,
        grid, solver); what is not given takes the model's default, one of height and width implies the other
        (2:1). `batch_size` pictures are made per prompt. `seed` draws the noise on the CPU; `latents`
        [B·batch_size, C, h, w] gives it instead, and the size with it. `sigmas` replaces grid and steps; `mu`
        still shifts it. `on_step(Step)` is called after every step and may raise `Cancelled`. Raises
        InputError for an option, size or condition that does not fit, NumericalError when a step gives NaN.
        """
        choice = self._choose(options, latents, sigmas)
        check_count("seed", seed, 0, 2**64 - 1)
        check_count("batch_size", batch_size, 1, 4096)
        noise = self._noise(choice, condition.batch * batch_size, seed, latents)
        scheduler = CFGFlowMatchScheduler(self.scheduler_config, choice.cfg, true_cfg_batched)
        check_condition(condition, choice.cfg, self.transformer.config)
        if on_step is not None:
            self._preview_map()  # fitted before the transformer moves in, so that previews move nothing
        with self._use("transformer", self._transformer_bytes(noise, condition, choice)) as device:
            grid = RingGrid(*noise.shape[2:], choice.padding, device=device)
            lay_noise_levels(scheduler, choice, grid, sigmas)
            network = FluxNetwork(self.transformer, grid.ids, condition.text.shape[1])
            positive, negative = bind_conditions(
                condition, len(noise), choice.guidance, device, self.transformer.dtype
            )
            result = sample_ring(
                scheduler,
                scheduler.guide(network, positive, negative),
                grid,
                noise.to(device),
                offsets=roll_offsets(choice.roll, choice.steps, grid.columns, seed),
                solver=choice.solver,
                on_step=on_step,
            )
            return result.cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor, *, ring: bool = True, polar_filter: bool | None = None) -> Panorama:
        """Scaled latents [B, C, h, w] → pictures of 8h × 8w pixels, without a seam.

        `ring=False` decodes as the reference does, with a seam. `polar_filter` takes the pinch off the poles
        (`geometry.polar_filter`); None is the model's default, which is off for FLUX. Raises InputError for a
        wrong shape, NumericalError for NaN.
        """
        calm = self.config.polar_filter if polar_filter is None else polar_filter
        check_latents(latents, self.latent_channels)
        count = latents.shape[2] * latents.shape[3] * self.vae_factor**2
        with self._use("vae", self._vae_bytes(17, count)) as device:
            pictures = []
            for one in latents.split(1):  # the decoder's activations dwarf everything: one picture at a time
                decoded = ring_vae.decode(self.vae, one.to(device, self.vae.dtype), ring=ring)
                if not torch.isfinite(decoded).all():
                    raise NumericalError(
                        "NaN or infinity in the decoded picture, stage vae: use bfloat16 or float32"
                    )
                pixels = ring_vae.to_pixels(decoded)
                pictures.append((geometry.polar_filter(pixels).clamp(0.0, 1.0) if calm else pixels).cpu())
        return Panorama(torch.cat(pictures))

    @torch.no_grad()
    def encode_image(self, pixels: Tensor, *, ring: bool = True) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 → scaled latents [B, C, H/8, W/8] (the posterior's mode), float32 on
        the CPU.

        Raises InputError for a wrong shape or a size that does not divide, NumericalError for NaN.
        """
        Panorama(pixels)
        height, width = pixels.shape[2:]
        check_size(height, width, self.size_multiple)
        with self._use("vae", self._vae_bytes(14, height * width)) as device:
            parts = [
                ring_vae.encode(self.vae, one.to(device, self.vae.dtype), ring=ring).float().cpu()
                for one in pixels.split(1)
            ]
        latents = torch.cat(parts)
        if not torch.isfinite(latents).all():
            raise NumericalError("NaN or infinity in the encoded picture, stage vae: use bfloat16 or float32")
        return latents

    def preview(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, C, h, w] → a quick look, RGB [B, 3, h, w] in 0..1."""
        return self._preview_map()(latents)

    def _preview_map(self) -> PreviewMap:
        if self._preview is None:
            with self._use("vae", self._vae_bytes(14, 16 * 32 * 32)):
                self._preview = fit_preview(self.vae)
        return self._preview

    def _use(self, stage: str, memory_bytes: int):
        return self.placement.use(stage, self.stages[stage], memory_bytes)

    def _choose(
        self, options: dict, latents: Tensor | None, sigmas: Sequence[float] | None
    ) -> SamplingOptions:
        if latents is not None:
            check_latents(latents, self.latent_channels)
        choice = choose_options(self.config.defaults, options, latents, sigmas, self.vae_factor)
        check_size(choice.height, choice.width, self.size_multiple)
        check_padding(choice.padding, choice.width // self.size_multiple)
        return choice

    def _noise(self, choice: SamplingOptions, count: int, seed: int, latents: Tensor | None) -> Tensor:
        if latents is None:
            height, width = (n // self.vae_factor for n in (choice.height, choice.width))
            return draw_noise((count, self.latent_channels, height, width), seed)
        if len(latents) != count:
            raise InputError(f"{len(latents)} latents were given for {count} pictures (prompts × batch_size)")
        if not torch.isfinite(latents).all():
            raise InputError("the latents given as noise have NaN or infinite values")
        return latents.float()

    def _transformer_bytes(self, noise: Tensor, condition: TextCondition, choice: SamplingOptions) -> int:
        """Activations of one forward: about 24 hidden states (4D-wide MLP, q, k, v, residuals) per token."""
        batch, _, height, width = noise.shape
        tokens = height // PATCH * (width // PATCH + 2 * choice.padding) + condition.text.shape[1]
        branches = 2 if choice.cfg != 1.0 else 1
        return 24 * batch * branches * tokens * self.transformer.inner_dim * self.transformer.dtype.itemsize

    def _vae_bytes(self, per_channel: int, pixels: int) -> int:
        """Activations at full resolution: so many maps of the widest block's first width, as measured for
        FLUX.
        """
        return per_channel * pixels * self.vae.config.block_out_channels[0] * self.vae.dtype.itemsize


def load(
    folder: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    offload: str | Placement | None = None,
    attention: Attention | None = None,
    lora: str | Path | tuple[str | Path, float] | None = None,
) -> DiT360Engine:
    """Load a model folder (see `checkpoint`), with a LoRA in PEFT's format (see `lora`) if one is given.

    `dtype` None suits the device; `device` None takes CUDA, MPS or the CPU; `offload` is "none", "stage", a
    `Placement`, or None to decide by free memory; `attention(q, k, v)` replaces torch's SDPA;
    `lora` is a path or (path, strength), and `engine.lora.set_strength` changes it later.
    Raises CheckpointError, InputError or MemoryLimitError before anything is computed.
    """
    folder = Path(folder).expanduser()
    adapter = None if lora is None else parse_lora(lora)
    weights = None if adapter is None else read_lora(adapter[0])
    target = parse_device(device)
    parts = load_components(folder, parse_dtype(dtype, target))
    if attention is not None:
        use_attention(parts.transformer, attention)
    fused = None if weights is None else FusedLora(parts.transformer, weights, adapter[1])
    engine = DiT360Engine(parts, offload, folder, target)
    engine.lora = fused
    return engine
