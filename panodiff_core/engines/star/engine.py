"""The STAR engine: load, encode, sample, decode. Six faces of a cube together, or single pictures."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...autoencoders.preview import PreviewMap, fit_colours
from ...geometry import cubemap_to_equirect
from ...geometry.cubemap import FACES
from ...pictures import CubeFaces, Views
from ...runtime.checks import check_count
from ...runtime.errors import InputError, NumericalError
from ...runtime.memory import MemoryEstimate
from ...runtime.placement import Holder, Placement, Resident, choose_placement, estimate_modes
from ...runtime.progress import OnStep, OnTile
from .checkpoint import Components
from .condition import StarCondition, read_texts
from .decoding import as_pictures, check_latents, decode_in_parts, without_rim
from .faceray import FaceRayBranches, check_strength
from .inference import generate
from .loading import read_model
from .masked_steps import VERSIONS
from .memory import Job, check_room, decoded_together, face_bytes, text_bytes
from .options import GenerationOptions, check_parts
from .text import TextFeatures, TextTower

log = logging.getLogger(__name__)

MOST_CUBES = 4096
"""Per prompt and call."""


class STAREngine:
    """One loaded model. Weights move only through `placement`; set it to change who owns the memory.

    `stages` maps "text_encoders", "transformer" (generator, masked sampler, quantizer) and "vae" to plain module
    holders, the ones `placement` is asked for.
    """

    name = "star"

    def __init__(
        self,
        parts: Components,
        text: TextTower,
        placement: Placement | str | None = None,
        folder: Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.config, self.form, self.folder = parts.config, parts.form, folder
        self.generator, self.sampler = parts.generator, parts.sampler
        self.vqvae, self.text = parts.vqvae, text
        # Of its own, half a megabyte: it computes with the generator while the autoencoder waits elsewhere.
        self.quantizer = copy.deepcopy(parts.vqvae.quantize)
        networks = {"generator": self.generator, "quantizer": self.quantizer}
        if self.sampler is not None:
            networks["sampler"] = self.sampler
        self.stages = {
            "text_encoders": Holder(text=text.model),
            # Text keys are computed outside of the blocks' forward calls, where no hook could fetch a block's weights.
            "transformer": Holder(whole=True, **networks),
            "vae": Holder(vae=self.vqvae),
        }
        for holder in self.stages.values():
            holder.train(False)
        self.placement = choose_placement(
            self.stages, device, placement, lambda: self._stage_bytes(self._job(self.config.defaults, 1, 6))
        )
        self._preview: PreviewMap | None = None

    @property
    def face_size(self) -> int:
        """Height and width of a face, in pixels."""
        return self.vqvae.pixel_side

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.config.vqvae.latent_channels

    @property
    def latent_side(self) -> int:
        """Height and width of the latents."""
        return self.generator.scales.last_side

    @property
    def has_faceray(self) -> bool:
        """Whether faces see one another across the edges of the cube."""
        return self.config.faceray is not None

    @property
    def samplers(self) -> tuple[str, ...]:
        """What `sample` takes as `sampler`."""
        return VERSIONS if self.sampler is not None else VERSIONS[:1]

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens that the text encoder knows, sorted; whole words for a small model."""
        return tuple(sorted(self.text.tokenizer.get_vocab()))

    def estimate(
        self, *, batch_size: int = 1, faces: bool = True, **options: Any
    ) -> tuple[MemoryEstimate, ...]:
        """What `batch_size` cubes, or single pictures, need in memory under each placement mode, before anything runs.

        `options` are those of `sample`. The generator comes whole in every mode. Raises InputError as `sample` does.
        """
        check_count("batch_size", batch_size, 1, MOST_CUBES)
        job = self._job(self._choose(options), batch_size, len(FACES) if faces else 1)
        device = getattr(self.placement, "device", None)
        return estimate_modes(self.stages, device, self._stage_bytes(job))

    def encode(
        self,
        prompt: str | Sequence[str],
        negative: str | Sequence[str] | None = None,
        *,
        faces: Mapping[str, str] | None = None,
    ) -> StarCondition:
        """Encode the prompt of one scene or of several.

        `negative` replaces the empty text that guidance goes away from; one for all, or one each. `faces` gives faces
        of F R B L U D a text of their own, in which "{prompt}" stands for the scene's; the others take the scene's
        prompt, and so does the masked sampler. A model that was taught with the directions of faces has words of its
        own around these texts (`config.face_texts`); `faces={}` leaves them out and has one text for all. Unknown words and what was cut off are logged and stand in the
        condition. Raises InputError for an empty prompt or an unknown face, NumericalError for NaN.
        """
        read = read_texts(self.text, prompt, negative, faces, self.config.face_texts)
        return read.condition(self._encode_texts(read.texts))

    @torch.no_grad()
    def _encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        with self._use("text_encoders", text_bytes(self.text, len(texts))) as device:
            encoded = self.text.encode(texts, device).to("cpu")
        if not encoded.hidden.isfinite().all():
            raise NumericalError("NaN or infinity in the output of the text encoder, stage text_encoders")
        return encoded

    @torch.no_grad()
    def sample(
        self,
        condition: StarCondition,
        *,
        seed: int = 0,
        batch_size: int = 1,
        faces: bool = True,
        adapter_strength: float = 1.0,
        on_step: OnStep | None = None,
        **options: Any,
    ) -> Tensor:
        """Sample cubes: latents [B·6, C, P, P], float32 on the CPU, row 6·cube + face with faces F R B L U D.

        `batch_size` cubes are made per prompt, those of one prompt after each other; cube i has the random numbers of
        `seed` + i, drawn on the CPU. `faces=False` makes single pictures [B, C, P, P] instead, of the scene's text alone
        and without adapters. `adapter_strength`, 0 to 4, scales what faces learn of each other: 1 is as trained, 0 off.
        `options` are the fields of `GenerationOptions` (cfg, top_k, top_p, more_smooth, sampler, cross_attention,
        part_tokens); what is left out or None takes the model's default. `on_step(Step)` is called after every scale
        and every step of the masked sampler, with what is there of the picture, and may raise `Cancelled`.

        Raises InputError for an option or condition that does not fit and MemoryLimitError where not even the keys and
        values have room, before any work; NumericalError when logits stop being finite.
        """
        choice = self._choose(options)
        check_count("seed", seed, 0, 2**64 - 1)
        check_count("batch_size", batch_size, 1, MOST_CUBES)
        group = len(FACES) if faces else 1
        if not isinstance(condition, StarCondition):
            raise InputError(
                f"condition is {type(condition).__name__}, another engine's: encode with this one"
            )
        condition.check(self.config.generator)
        branches = self._branches(faces, adapter_strength)
        if condition.faces is not None and not faces:
            raise InputError(
                "the condition has texts for the faces of a cube: encode the prompt with faces={} for single pictures"
            )
        text, negative, row_text = condition.rows(batch_size)
        check_parts(self.generator, self.quantizer, text, negative, choice, group, self.sampler, row_text)
        job = self._job(choice, len(text), group)
        room = self.placement.room("transformer", self.stages["transformer"])
        check_room(job, room, resident=isinstance(self.placement, Resident))
        if faces and not self.has_faceray:
            log.warning(
                "this model has no FaceRay adapters: the faces of a cube will not meet at their edges"
            )
        if on_step is not None:
            self._preview_map()  # fitted before the generator moves in, so that previews move nothing
        with self._use("transformer", job.bytes) as device:
            latents = generate(
                self.generator,
                self.quantizer,
                text.to(device),
                negative.to(device),
                choice,
                row_text=None if row_text is None else row_text.to(device),
                seed=seed,
                group=group,
                sampler=self.sampler,
                branches=branches,
                on_step=on_step,
            )
            return latents.cpu()

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        *,
        faces: bool = True,
        memory_gb: float | None = None,
        on_tile: OnTile | None = None,
    ) -> CubeFaces | Views:
        """Latents [B·6, C, P, P] → cubes; with `faces=False` latents [B, C, P, P] → flat views.

        A view of a single picture looks forward with a field of view of 90°, that of a cube's face; STAR knows no
        cameras. Pictures that are decoded together take at most `memory_gb` (2³⁰ bytes) beside the weights, None is
        2 GB or what the device has left; one at a time is the least. `on_tile(Tile)` is called after each part and may
        raise `Cancelled`. Raises InputError for a wrong shape or too little memory, NumericalError for NaN.
        """
        check_latents(latents, self.latent_channels, self.latent_side, faces)
        if not latents.isfinite().all():
            raise NumericalError("the latents hold NaN or infinite values: nothing to decode, stage vae")
        room = self.placement.room("vae", self.stages["vae"])
        together = decoded_together(face_bytes(self.vqvae), room, memory_gb)
        with self._use("vae", face_bytes(self.vqvae) * min(together, len(latents))) as device:
            pixels = decode_in_parts(self.vqvae, latents, together, device, on_tile)
        return as_pictures(pixels, faces)

    @torch.no_grad()
    def preview(self, latents: Tensor, *, faces: bool = True) -> Tensor:
        """Latents of cubes → a quick look at their panoramas, RGB [B, 3, 2P, 4P] in 0..1; of single pictures
        [B, 3, P, P]. Serves what `on_step` gets, from the first scale on.
        """
        check_latents(latents, self.latent_channels, self.latent_side, faces)
        colours = self._preview_map()(without_rim(latents))
        return cubemap_to_equirect(colours.unflatten(0, (-1, len(FACES)))) if faces else colours

    def _preview_map(self) -> PreviewMap:
        if self._preview is None:
            with self._use("vae", face_bytes(self.vqvae)) as device:
                self._preview = fit_colours(lambda signed: self.vqvae.latents(signed.to(device)))
        return self._preview

    def _branches(self, faces: bool, strength: float) -> FaceRayBranches | None:
        """The adapters for a run. Raises InputError for a strength that nothing here could have."""
        check_strength("adapter_strength", strength)
        if self.has_faceray:
            return self.generator.branches(strength if faces else 0.0)
        if strength not in (0.0, 1.0):
            raise InputError(
                f"adapter_strength is {strength!r}, and this model has no FaceRay adapters: set it to 1 or 0, which are "
                "the same here, or load a model that has them"
            )
        return None

    def _choose(self, options: Mapping[str, Any]) -> GenerationOptions:
        choice = self.config.defaults.changed(**options)
        self.config.check(choice)
        return choice

    def _job(self, options: GenerationOptions, units: int, group: int) -> Job:
        return Job(self.config.generator, options, units, group, self.generator.dtype.itemsize)

    def _stage_bytes(self, job: Job) -> dict[str, int]:
        return {
            "text_encoders": text_bytes(self.text, 2 * job.units),
            "transformer": job.bytes,
            "vae": face_bytes(self.vqvae),
        }

    def _use(self, stage: str, memory_bytes: int):
        return self.placement.use(stage, self.stages[stage], memory_bytes)


def load(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    offload: str | Placement | None = None,
    **options: Any,
) -> STAREngine:
    """Load a model.

    `model` is a folder of ours (config.json, star.safetensors, vqvae.safetensors; `checkpoint`), or a generator's weight
    file as published. `device` None takes CUDA, MPS or the CPU; `offload` is "none", "stage" (or another of
    `runtime.memory`, which streams the text encoder: the generator always comes whole), a `Placement`, or None to decide
    by free memory. `options`: vqvae, text, preset, dtype, storage, attention; see `loading.read_model`.
    Raises CheckpointError, InputError or MemoryLimitError before anything is computed.
    """
    model = Path(model).expanduser()
    loaded = read_model(model, device=device, offload=offload, **options)
    return STAREngine(loaded.parts, loaded.text, offload, model, loaded.device)
