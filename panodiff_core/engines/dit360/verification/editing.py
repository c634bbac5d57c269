"""edit.safetensors: masks, RF inversion, and editing with shared tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
from torch import Tensor

from ....autoencoders import ring as ring_vae
from ....schedulers.flow_matching import FlowMatchScheduler
from ....verification import Results, Row
from ..editing import (
    EditOptions,
    edit,
    inversion_residual,
    inversion_time,
    invert,
    invert_closed_form,
    pad_mask,
    replace_tokens,
)
from ..model import FluxNetwork, RingGrid
from .folder import DiT360Vectors, padding_of

NAME = "edit"
BOUND, SIGMAS, RESIDUAL = 2e-4, 2e-7, 1e-6
KNOWN = {"tau", "eta", "start", "stop", "decay", "blend", "blend_threshold", "gamma"}


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """Everything that the file holds of the loops, in their order, and the rules that they need."""
    editor = _Editor(vectors)
    yield from editor.rules()
    yield from editor.closed_form()
    for gamma in editor.names("invert.gamma", ".inverted"):
        yield from editor.inversion(gamma)
    for prefix in ("edit.", "derived_mask.edit."):
        for name in editor.names(prefix, ".final_packed"):
            yield from editor.edit(prefix, name)
    yield from editor.t.left()


class _Recorder:
    """A network bound to its conditions that remembers what it was asked and what it said."""

    def __init__(self, network: FluxNetwork, condition: tuple[Tensor, ...]) -> None:
        self.network, self.condition = network, condition
        self.calls: list[tuple[Tensor, float, Tensor]] = []

    def __call__(self, tokens: Tensor, time: float) -> Tensor:
        velocity = self.network(tokens, time, self.condition)
        self.calls.append((tokens, time, velocity))
        return velocity


class _Editor:
    def __init__(self, vectors: DiT360Vectors) -> None:
        self.t, self.about = Results(NAME, vectors.tensors(NAME)), vectors.metadata(NAME)
        self.config = vectors.scheduler(NAME)
        self.image, self.noise = self.t["in.image_latents_padded"], self.t["in.y1_noise_padded"]
        height, width = self.t["in.edit_noise_spatial"].shape[2:]
        self.grid = RingGrid(height, width, padding_of(self.image.shape[1], height, width))
        self.transformer, self.vae = vectors.transformer(), vectors.vae()
        self.inverted: dict[float, Tensor] = {}

    def names(self, prefix: str, suffix: str) -> list[str]:
        """What stands between `prefix` and `suffix` in the file's keys."""
        found = [key for key in self.t if key.startswith(prefix) and key.endswith(suffix)]
        return sorted(key.removeprefix(prefix).removesuffix(suffix) for key in found)

    def rules(self) -> Iterator[Row]:
        mask, padding = self.t["in.mask_grid"], self.grid.padding
        yield from self.t.rows("img_ids_padded", self.grid.ids, 0.0)
        yield from self.t.rows("derived.mask_padded_wrapped", pad_mask(mask, padding), 0.0)
        yield from self.t.rows("mask_padded_official", pad_mask(mask, padding, "own_edge"), 0.0)

    def closed_form(self) -> Iterator[Row]:
        scheduler = self._scheduler("invert_steps")
        yield from self.t.rows("invert.sigmas", scheduler.sigmas, SIGMAS)
        residual = torch.tensor(inversion_residual(scheduler), dtype=torch.float64)
        yield from self.t.rows("derived.invert.gamma1.residual", residual, RESIDUAL)
        closed = invert_closed_form(scheduler, self.image, self.noise)
        yield from self.t.rows("invert.gamma1.0.inverted", closed, BOUND, ", closed form")

    @torch.no_grad()
    def inversion(self, gamma: str) -> Iterator[Row]:
        prefix, scheduler = f"invert.gamma{gamma}", self._scheduler("invert_steps")
        network, states = self._network("source", 0.0), [self.image]
        self.inverted[float(gamma)] = invert(
            scheduler,
            network,
            self.image,
            self.noise,
            gamma=float(gamma),
            on_step=lambda index, total, state: states.append(state),
        )
        for i in range(scheduler.steps):
            time = torch.full((len(self.image),), inversion_time(i, scheduler.steps))
            yield from self.t.rows(f"{prefix}.t.{i}", time, SIGMAS)
            yield from self.t.rows(f"{prefix}.x.{i}", states[i], BOUND)
        for i, (_, _, velocity) in enumerate(network.calls):
            yield from self.t.rows(f"{prefix}.velocity.{i}", velocity, BOUND)
        yield self.t.row(f"{prefix}.inverted", states[-1], BOUND)

    @torch.no_grad()
    def edit(self, prefix: str, name: str) -> Iterator[Row]:
        about, key = json.loads(self.about[f"edit_{name}"]), f"{prefix}{name}"
        if about.keys() - KNOWN:
            raise KeyError(f"{NAME}: the meaning of edit_{name}'s {', '.join(sorted(about.keys() - KNOWN))}")
        rule = "wrapped" if prefix.startswith("derived_mask") else "own_edge"
        keep = pad_mask(self.t["in.mask_grid"], self.grid.padding, rule)
        options = EditOptions(
            about["eta"],
            about["start"],
            about["stop"],
            about.get("decay", 0.0),
            about.get("blend_threshold", 0.5),
        )
        network = self._network("edit", float(self.about["guidance"]))
        scheduler = self._scheduler("edit_steps")
        result = edit(
            scheduler,
            replace_tokens(network, self.transformer, keep, about["tau"]),
            self.grid,
            self.image,
            self._inverted(float(about["gamma"])),
            self.grid.enter(self.t["in.edit_noise_spatial"]),
            keep if about.get("blend", True) else None,
            options,
        )
        yield from self.t.rows(f"{key}.sigmas", scheduler.sigmas, SIGMAS)
        states = [tokens for tokens, _, _ in network.calls[1:]] + [result]
        for what, values in (("velocity", [call[2] for call in network.calls]), ("latents_padded", states)):
            for i, value in enumerate(values):
                yield from self.t.rows(f"{key}.{what}.{i}", value, BOUND)
        yield self.t.row(f"{key}.final_packed", self.grid.crop(result), BOUND)
        if f"{key}.image_raw" in self.t:
            picture = ring_vae.decode(self.vae, self.grid.leave(result[len(self.image) :]), ring=False)
            yield self.t.row(f"{key}.image_raw", picture, BOUND)

    def _inverted(self, gamma: float) -> Tensor:
        """Where the inversion with this gamma ends, also where the file does not hold it."""
        if gamma not in self.inverted:
            network = self._network("source", 0.0)
            self.inverted[gamma] = invert(
                self._scheduler("invert_steps"), network, self.image, self.noise, gamma=gamma
            )
        return self.inverted[gamma]

    def _scheduler(self, steps: str) -> FlowMatchScheduler:
        scheduler = FlowMatchScheduler(self.config)
        scheduler.set_timesteps(int(self.about[steps]), scheduler.mu(self.grid.rows * self.grid.columns))
        return scheduler

    def _network(self, who: str, guidance: float) -> _Recorder:
        text, pooled = self.t[f"in.{who}_prompt_embeds"], self.t[f"in.{who}_pooled"]
        network = FluxNetwork(self.transformer, self.grid.ids, text.shape[1])
        return _Recorder(network, (text, pooled, torch.full((len(text),), guidance)))
