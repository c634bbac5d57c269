"""A folder of DiT360's golden vectors: official-format weights, inputs and outputs of the reference implementations.

Nothing about sizes is assumed: token grids, depths, batch and steps come from the files' headers and tensors.
"""

from __future__ import annotations

import json
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ....layers.ring import PATCH
from ....runtime.placement import Resident
from ....schedulers.flow_matching import FlowMatchConfig, FlowMatchScheduler
from ....verification import VectorFolder
from ..checkpoint import Components, load_part
from ..checkpoint.formats import CLIP, T5, TRANSFORMER, VAE
from ..config import DiT360Config, SamplingOptions
from ..engine import DiT360Engine

TRANSFORMER_FILE, VAE_FILE = "transformer_diffusers.safetensors", "vae_diffusers.safetensors"
SHIFT = 1e-6
CLIP_FILE, T5_FILE = "clip_l.safetensors", "t5xxl_fp16.safetensors"
CONFIGS = {
    TRANSFORMER: ("transformer_config.json", "t2i", "config_transformer"),
    VAE: ("vae_config.json", "t2i", "config_vae"),
    CLIP: ("clip_config.json", "text", "clip_config"),
    T5: ("t5_config.json", "text", "t5_config"),
    "scheduler": ("scheduler_config.json", "t2i", "config_scheduler"),
}
"""Where a part's configuration lies: its file, or else a field of a file's header."""


class DiT360Vectors(VectorFolder):
    """A folder of DiT360's vectors, with the parts of the model that it holds."""

    def config(self, name: str) -> dict[str, Any]:
        """The configuration of a part, or of the "scheduler". Raises FileNotFoundError where nothing gives it."""
        file, header, field = CONFIGS[name]
        if (self.folder / file).is_file():
            return self.json(file)
        text = self.metadata(header).get(field)
        if text is None:
            raise FileNotFoundError(file)
        return json.loads(text)

    def part(self, file: str, name: str) -> nn.Module:
        """One part of the model out of a weight file, float32, with the configuration that the folder gives."""
        return load_part(self.path(file), name, torch.float32, self.config(name))

    def transformer(self) -> nn.Module:
        """The transformer with the folder's weights in float32, a fresh copy that may be changed."""
        return self.part(TRANSFORMER_FILE, TRANSFORMER)

    def vae(self) -> nn.Module:
        """The autoencoder with the folder's weights in float32."""
        return self.part(VAE_FILE, VAE)

    def scheduler(self, file: str | None = None) -> FlowMatchConfig:
        """The noise schedule that the vectors were made with: that in the header of `file`, or the folder's."""
        text = None if file is None else self.metadata(file).get("config_scheduler")
        values = self.config("scheduler") if text is None else json.loads(text)
        known = {field.name for field in fields(FlowMatchConfig)}
        return FlowMatchConfig(**{name: value for name, value in values.items() if name in known})

    def noise(self) -> Tensor:
        """What the trajectories of t2i start from [B, C, h, w]."""
        return self.tensors("t2i")["in.latents_spatial"]

    def padding(self) -> int:
        """Circular padding of t2i's trajectories in token columns: what their tokens leave beside the noise's grid, or
        where it has none of them, what its shift exponent says. Raises KeyError where nothing does.
        """
        t, size = self.tensors("t2i"), self.noise().shape[2:]
        for key in sorted(t):
            if key == "img_ids_padded" or ".latents_padded." in key:
                return padding_of(t[key].shape[-2], *size)
        return padding_by_shift(self.scheduler("t2i"), float(self.metadata("t2i")["mu"]), *size)

    def steps(self, name: str = "cfg_off") -> int:
        """How many steps a trajectory of t2i has."""
        t = self.tensors("t2i")
        sigmas = t.get(f"{name}.sigmas", t.get("cfg_off.sigmas"))
        return int(self.metadata("t2i")["steps"]) if sigmas is None else len(sigmas) - 1

    def engine(self, transformer: nn.Module, vae: nn.Module | None = None) -> DiT360Engine:
        """An engine without text encoders around these modules, with the settings of t2i.safetensors."""
        vae = vae or self.vae()
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        height, width = (factor * n for n in self.noise().shape[2:])
        options = SamplingOptions(
            height=height,
            width=width,
            steps=self.steps(),
            guidance=float(self.metadata("t2i")["guidance"]),
            padding=self.padding(),
        )
        text = SimpleNamespace(clip=nn.Identity(), t5=nn.Identity())
        parts = Components(transformer, vae, text, self.scheduler("t2i"), DiT360Config(defaults=options))
        return DiT360Engine(parts, Resident("cpu"))


def padding_of(tokens: int, height: int, width: int) -> int:
    """Padding columns on either side of so many padded tokens, for latents of `height` × `width`."""
    return (tokens // (height // PATCH) - width // PATCH) // 2


def padding_by_shift(config: FlowMatchConfig, mu: float, height: int, width: int) -> int:
    """Padding columns for latents of `height` × `width` whose padded tokens have the shift exponent `mu`. Raises
    KeyError unless exactly one number of columns has.
    """
    scheduler, columns = FlowMatchScheduler(config), width // PATCH
    fitting = [
        padding
        for padding in range(columns + 1)
        if abs(scheduler.mu(height // PATCH * (columns + 2 * padding)) - mu) < SHIFT
    ]
    if len(fitting) != 1:
        raise KeyError(f"a padding: the shift exponent {mu:g} fits {len(fitting)} of them")
    return fitting[0]
