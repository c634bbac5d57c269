"""What STAR's stages need in memory beside their weights."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.errors import InputError, MemoryLimitError
from ...runtime.memory import gigabytes
from .cache import cache_bytes
from .config import STARConfig, VQVAEConfig
from .options import GenerationOptions
from .parts import pictures_at_once
from .scales import Scales
from .text import TextTower
from .vqvae import VQVAE

STATES = 16
"""Hidden states that a block holds per token at its peak: the feed-forward's two of four widths each, residual and norm,
or q, k and v with their float32 copies."""
WHOLE_LOGIT, FILTERED_LOGIT = 28, 8
"""Bytes per logit while codes are drawn: sorted with their places, shares and sums; or only looked through by top-k."""
FULL_SIZE_MAPS = 5
"""Feature maps of full resolution that the decoder holds at its peak."""
DECODE_BYTES = 2**31
"""What pictures that are decoded together may take where nobody says otherwise: two faces of 512 pixels."""


@dataclass(frozen=True)
class Job:
    """How much is sampled at once: `units` pictures or cubes of `group` rows each, in numbers of `itemsize` bytes, with
    or without the masked sampler.
    """

    config: STARConfig
    options: GenerationOptions
    units: int
    group: int
    itemsize: int

    @property
    def halves(self) -> int:
        """Rows of the network per picture."""
        return 2 if self.options.cfg else 1

    @property
    def cache(self) -> int:
        """Bytes of keys and values of all scales, which are taken before the first scale and cannot be done without."""
        config, rows = self.config, self.units * self.halves * self.group
        return cache_bytes(Scales(config.patch_nums), config.depth, rows, config.width, self.itemsize)

    @property
    def bytes(self) -> int:
        """All of it at the peak, which is the last scale."""
        config, options = self.config, self.options
        faces, length = self.units * self.group, config.patch_nums[-1] ** 2
        texts = 2 * config.depth * self.units * self.halves * self.group * config.text_tokens * config.width
        together = max(1, options.part_tokens // (self.halves * self.group * length))
        if (options.cross_attention or config.cross_attention) == "row0":
            together = self.units  # the answer of the first row serves all: they pass together
        tokens = min(self.units, together) * self.halves * self.group * length
        last = options.top_k[-1] if isinstance(options.top_k, tuple) else options.top_k
        filtered = 0 < last < config.vocab and not options.more_smooth
        per_logit = FILTERED_LOGIT + WHOLE_LOGIT * last / config.vocab if filtered else WHOLE_LOGIT
        drawn = min(min(self.units, together) * self.group, pictures_at_once(4 * length * config.vocab))
        kept = 0
        if options.sampler != "off":  # features of all units are kept, and their logits drawn together
            drawn, kept = faces, faces * self.halves * length * config.width
        logits = round(drawn * length * config.vocab * per_logit)
        latents = 3 * 4 * faces * config.latent_channels * length
        states = STATES * tokens * config.width
        return self.cache + (texts + kept + states) * self.itemsize + logits + latents


def text_bytes(tower: TextTower, texts: int) -> int:
    """Activations of the text tower: a layer's states, and three copies of its attention's scores in float32."""
    config, length = tower.model.config, tower.tokenizer.model_max_length
    states = length * (6 * config.hidden_size + 3 * config.intermediate_size)
    return 4 * texts * (states + 3 * config.num_attention_heads * length**2)


def face_bytes(vqvae: VQVAE) -> int:
    """Activations while one picture is decoded, in float32."""
    return picture_bytes(vqvae.config, vqvae.pixel_side)


def picture_bytes(config: VQVAEConfig, side: int) -> int:
    """The same for a picture of `side` pixels, before there is an autoencoder."""
    return 4 * FULL_SIZE_MAPS * side**2 * max(config.widths[:2])


def decoded_together(face: int, room: int | None, memory_gb: float | None) -> int:
    """How many pictures are decoded in one call, when each takes `face` bytes and there is `room` beside the weights.

    Raises InputError where not even one fits into `memory_gb`.
    """
    if memory_gb is None:
        return max(1, min(DECODE_BYTES, DECODE_BYTES if room is None else room) // face)
    number = isinstance(memory_gb, (int, float)) and not isinstance(memory_gb, bool)
    if not number or not face <= memory_gb * 2**30 < float("inf"):
        raise InputError(
            f"memory_gb is {memory_gb!r}, and one face takes {face / 2**30:.3f} GB to decode: give at least that"
        )
    return int(memory_gb * 2**30) // face


def check_room(job: Job, room: int | None, *, resident: bool) -> None:
    """Raise MemoryLimitError where not even the keys and values of a job fit into `room` bytes, and say what would.

    `resident`: all stages are on the device, and could take turns.
    """
    if room is None or job.cache <= room:
        return
    fitting = room // (job.cache // job.units)
    if fitting:
        way = f"make {fitting} at a time"
    else:
        one = job.cache // job.units
        ways = ["cfg 0, which halves it"] if job.options.cfg and one // 2 <= room else []
        ways += ["offload='stage' when you load"] if resident else []
        ways += ["storage float8_e4m3fn when you load", "a model of fewer blocks or scales"]
        way = "use " + ", or ".join(ways)
    what = "cube" if job.group > 1 else "picture"
    raise MemoryLimitError(
        f"the keys and values of {job.units} {what}{'s' if job.units > 1 else ''} take {gigabytes(job.cache)} beside the "
        f"weights, and {gigabytes(room)} are free: {way}"
    )
