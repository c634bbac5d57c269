"""t2i.safetensors: whole trajectories through the engine, with true CFG off and on, and with the LoRA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ....autoencoders import ring as ring_vae
from ....autoencoders.latents import unscale
from ....conditioning.text import TextCondition
from ....layers.ring import pack, unpack
from ....runtime.progress import Step
from ....schedulers.flow_matching import FlowMatchScheduler
from ....verification import Results, Row, failed
from ..checkpoint import read_lora
from ..model import LoraStack, RingGrid
from ..model.lora import MODES
from .folder import DiT360Vectors

NAME = "t2i"
BOUND, CODING, SIGMAS, SCALED = 2e-4, 1e-4, 2e-7, 1e-6
FINAL = ".final_packed"
_LORA = r"lora(?:_(half|[\d.]+))?"


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """Every step's noise level, state and velocity, the final latents and the decoded picture."""
    t, transformer = Results(NAME, vectors.tensors(NAME)), vectors.transformer()
    names = sorted(key.removesuffix(FINAL) for key in t if key.endswith(FINAL))
    if not names:
        raise KeyError(f"*{FINAL}")
    guided = {"cfg_off": 1.0}
    if "cfg_on" in names:
        guided["cfg_on"] = float(vectors.metadata(NAME)["true_cfg"])
    yield from _layout(vectors, t)
    for name in names:
        if name in guided:
            yield from _guided(vectors, transformer, t, name, guided[name])
        elif not re.fullmatch(_LORA, name):
            yield failed(NAME, f"{name}: this version does not know such a trajectory")
    yield from _pictures(vectors, t, names)
    yield from _loras(vectors, transformer, t, [name for name in names if re.fullmatch(_LORA, name)])
    yield from t.left()


def condition(vectors: DiT360Vectors, count: int, negative: bool = False) -> TextCondition:
    """The first `count` prompts of t2i.safetensors; one prompt serves any number of pictures."""
    t = vectors.tensors(NAME)
    keys = ["in.prompt_embeds", "in.pooled_prompt_embeds"]
    if negative:
        keys += ["in.negative_prompt_embeds", "in.negative_pooled_prompt_embeds"]
    return TextCondition(*(t[key][:count].expand(count, *t[key].shape[1:]) for key in keys))


def final_tokens(vectors: DiT360Vectors, transformer, count: int | None = None, **options) -> Tensor:
    """Unpadded tokens after the engine's own loop, from the vectors' noise."""
    noise = vectors.noise()[:count]
    bound = condition(vectors, len(noise), "cfg" in options)
    return pack(vectors.engine(transformer).sample(bound, latents=noise, **options))


def _layout(vectors: DiT360Vectors, t: Results) -> Iterator[Row]:
    """What all trajectories share: the noise as tokens, position ids, the shift exponents."""
    noise, scheduler = vectors.noise(), FlowMatchScheduler(vectors.scheduler(NAME))
    grid = RingGrid(*noise.shape[2:], vectors.padding())
    yield from t.rows("in.latents", pack(noise), 0.0)
    yield from t.rows("img_ids_padded", grid.ids, 0.0)
    for key, tokens in (("mu_padded", grid.tokens), ("mu_unpadded", grid.rows * grid.columns)):
        yield from t.rows(key, torch.tensor(scheduler.mu(tokens), dtype=torch.float64), SIGMAS)


def _guided(
    vectors: DiT360Vectors, transformer: nn.Module, t: Results, name: str, cfg: float
) -> Iterator[Row]:
    if cfg == 1.0:
        yield from _Trajectory(vectors, transformer, t, name, "").rows()
        return
    for batched, how in ((True, " (one call)"), (False, " (two calls)")):
        yield from _Trajectory(vectors, transformer, t, name, how, cfg=cfg, true_cfg_batched=batched).rows()


class _Trajectory:
    """One trajectory through the engine, sampled with `options`; `how` stands after the names of its rows."""

    def __init__(
        self, vectors: DiT360Vectors, transformer: nn.Module, t: Results, name: str, how: str, **options
    ) -> None:
        self.t, self.name, self.how, self.guided = t, name, how, "cfg" in options
        count, self.size = len(t[name + FINAL]), vectors.noise().shape[2:]
        self.grid = RingGrid(*self.size, vectors.padding())
        self.noise, self.steps = vectors.noise()[:count], []
        options |= {"steps": vectors.steps(name), "on_step": self.steps.append}
        with _recorded(transformer) as self.calls:
            self.final = final_tokens(vectors, transformer, count, **options)

    def rows(self) -> Iterator[Row]:
        t, name, how = self.t, self.name, self.how
        yield t.row(name + FINAL, self.final, BOUND, how)
        yield from t.rows(f"{name}.final_latent", unpack(self.final, *self.size), BOUND, how)
        levels = torch.tensor([1.0, *(step.sigma for step in self.steps)])
        yield from t.rows(f"{name}.sigmas", levels, SIGMAS, how)
        yield from t.rows(f"{name}.timesteps", 1000.0 * levels[:-1], 1000.0 * SIGMAS, how)
        before = self.noise
        for i, step in enumerate(self.steps):
            yield from t.rows(f"{name}.latents_padded.{i}", self.grid.enter(step.latents), BOUND, how)
            yield from self._velocities(i, before, step, levels[i].item())
            before = step.latents

    def _velocities(self, i: int, before: Tensor, step: Step, sigma: float) -> Iterator[Row]:
        t, key = self.t, f"{self.name}.velocity.{i}"
        if not self.guided:
            implied = self.grid.enter((before - step.denoised) / sigma)
            yield from t.rows(key, self.calls[i], BOUND, self.how)
            yield from t.rows(key, implied, BOUND, f"{self.how}, as the estimate has it")
            return
        if len(self.calls) == len(self.steps):
            negative, positive = self.calls[i].chunk(2)
        else:
            positive, negative = self.calls[2 * i], self.calls[2 * i + 1]
        yield from t.rows(key, positive, BOUND, self.how)
        yield from t.rows(f"{self.name}.velocity_negative.{i}", negative, BOUND, self.how)


@contextmanager
def _recorded(transformer: nn.Module) -> Iterator[list[Tensor]]:
    """What the network says, call after call."""
    calls: list[Tensor] = []
    hook = transformer.register_forward_hook(lambda module, inputs, output: calls.append(output[0]))
    try:
        yield calls
    finally:
        hook.remove()


@torch.no_grad()
def _pictures(vectors: DiT360Vectors, t: Results, names: list[str]) -> Iterator[Row]:
    """What the autoencoder makes of the final latents; a picture may be there for the first samples only."""
    vae = vectors.vae()
    for name in names:
        latents = unpack(t[name + FINAL], *vectors.noise().shape[2:])
        for key, bound in (("vae_input", SCALED), ("image_raw", CODING), ("image_u8", 1.0)):
            if f"{name}.{key}" not in t:
                continue
            some = latents[: len(t[f"{name}.{key}"])]
            got = unscale(some, vae) if key == "vae_input" else ring_vae.decode(vae, some, ring=False)
            if key == "image_u8":
                got = (ring_vae.to_pixels(got) * 255).round().permute(0, 2, 3, 1)
            how = ", levels of 255" if key == "image_u8" else ""
            yield t.row(f"{name}.{key}", got, bound, how)


def _loras(vectors: DiT360Vectors, transformer: nn.Module, t: Results, names: list[str]) -> Iterator[Row]:
    """Trajectories with the LoRA, fused and beside the weights, which are the old ones afterwards."""
    if not names:
        return
    # The vectors were made by a loader that knows no alpha: its scale is one.
    adapter = read_lora(vectors.path("lora_dit360.safetensors"))
    for mode in MODES:
        for name in names:
            lora = LoraStack(transformer, [adapter], [_strength(name)], mode)
            yield from _Trajectory(vectors, transformer, t, name, f" ({mode})").rows()
            lora.remove()
    original = vectors.transformer().state_dict()
    worst = max((weight - original[n]).abs().max().item() for n, weight in transformer.state_dict().items())
    yield Row(NAME, "weights after the LoRA is taken off", worst, 0.0)


def _strength(name: str) -> float:
    """The LoRA's strength in a trajectory: "lora" is 1, "lora_half" 0.5, and "lora_0.3" says it itself."""
    told = re.fullmatch(_LORA, name).group(1)
    return 1.0 if told is None else 0.5 if told == "half" else float(told)
