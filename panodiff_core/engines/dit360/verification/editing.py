"""edit.safetensors: masks, RF inversion, and editing with shared tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
from torch import Tensor

from ....autoencoders import ring as ring_vae
from ....schedulers.flow_matching import FlowMatchScheduler
from ..editing import EditOptions, edit, inversion_residual, inversion_time, invert, invert_closed_form
from ..model import FluxNetwork, RingGrid
from ..sharing import pad_mask, replace_tokens
from .image_to_image import scheduler_config
from .rows import Row, Vectors, compare

NAME = "edit"
BOUND, SIGMAS, RESIDUAL = 2e-4, 2e-7, 1e-6


def check(vectors: Vectors) -> Iterator[Row]:
    """Everything that the file holds of the loops, in their order, and the rules that they need."""
    editor = _Editor(vectors)
    yield from editor.rules()
    yield from editor.closed_form()
    for gamma in editor.names("invert.gamma", ".t.0"):
        yield from editor.inversion(gamma)
    for prefix in ("edit.", "derived_mask.edit."):
        for name in editor.names(prefix, ".final_packed"):
            yield from editor.edit(prefix, name)


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
    def __init__(self, vectors: Vectors) -> None:
        self.t, self.about = vectors.tensors(NAME), vectors.metadata(NAME)
        rows, columns = int(self.about["n_h"]), int(self.about["n_w"])
        padding = (len(self.t["img_ids_padded"]) // rows - columns) // 2
        self.grid = RingGrid(2 * rows, 2 * columns, padding)
        self.transformer, self.vae = vectors.transformer(), vectors.vae()
        self.image, self.noise = self.t["in.image_latents_padded"], self.t["in.y1_noise_padded"]
        self.inverted: dict[str, Tensor] = {}

    def names(self, prefix: str, suffix: str) -> list[str]:
        """What stands between `prefix` and `suffix` in the file's keys."""
        found = [key for key in self.t if key.startswith(prefix) and key.endswith(suffix)]
        if not found:
            raise KeyError(f"{NAME} has no {prefix}*{suffix}")
        return sorted(key.removeprefix(prefix).removesuffix(suffix) for key in found)

    def rules(self) -> Iterator[Row]:
        mask, padding = self.t["in.mask_grid"], self.grid.padding
        yield self._row("img_ids_padded", self.grid.ids, 0.0)
        yield self._row("derived.mask_padded_wrapped", pad_mask(mask, padding), 0.0)
        yield self._row("mask_padded_official", pad_mask(mask, padding, "own_edge"), 0.0)

    def closed_form(self) -> Iterator[Row]:
        scheduler = self._scheduler("invert_steps")
        yield self._row("invert.sigmas", scheduler.sigmas, SIGMAS)
        residual = torch.tensor(inversion_residual(scheduler), dtype=torch.float64)
        yield self._row("derived.invert.gamma1.residual", residual, RESIDUAL)
        closed = invert_closed_form(scheduler, self.image, self.noise)
        yield self._row("invert.gamma1.0.inverted", closed, BOUND, "closed form of ")

    @torch.no_grad()
    def inversion(self, gamma: str) -> Iterator[Row]:
        prefix, scheduler = f"invert.gamma{gamma}", self._scheduler("invert_steps")
        network, states = self._network("source", 0.0), [self.image]
        self.inverted[gamma] = invert(
            scheduler,
            network,
            self.image,
            self.noise,
            gamma=float(gamma),
            on_step=lambda index, total, state: states.append(state),
        )
        for i in range(scheduler.steps):
            time = torch.full((len(self.image),), inversion_time(i, scheduler.steps))
            yield self._row(f"{prefix}.t.{i}", time, SIGMAS)
        for i, (_, _, velocity) in enumerate(network.calls):
            yield self._row(f"{prefix}.velocity.{i}", velocity, BOUND)
            yield self._row(f"{prefix}.x.{i}", states[i], BOUND)
        yield self._row(f"{prefix}.inverted", self.inverted[gamma], BOUND)

    @torch.no_grad()
    def edit(self, prefix: str, name: str) -> Iterator[Row]:
        about, key = json.loads(self.about[f"edit_{name}"]), f"{prefix}{name}"
        rule = "wrapped" if prefix.startswith("derived_mask") else "own_edge"
        keep = pad_mask(self.t["in.mask_grid"], self.grid.padding, rule)
        options = EditOptions(
            about["eta"], about["start"], about["stop"], blend_from=about.get("blend_threshold", 0.5)
        )
        network, scheduler = (
            self._network("edit", float(self.about["guidance"])),
            self._scheduler("edit_steps"),
        )
        result = edit(
            scheduler,
            replace_tokens(network, self.transformer, keep, about["tau"]),
            self.grid,
            self.image,
            self.inverted[str(about["gamma"])],
            self.grid.enter(self.t["in.edit_noise_spatial"]),
            keep if about.get("blend", True) else None,
            options,
        )
        yield self._row(f"{key}.sigmas", scheduler.sigmas, SIGMAS)
        states = [tokens for tokens, _, _ in network.calls[1:]] + [result]
        for what, values in (("velocity", [call[2] for call in network.calls]), ("latents_padded", states)):
            for i, value in enumerate(values):
                if f"{key}.{what}.{i}" in self.t:
                    yield self._row(f"{key}.{what}.{i}", value, BOUND)
        yield self._row(f"{key}.final_packed", self.grid.crop(result), BOUND)
        if f"{key}.image_raw" in self.t:
            picture = ring_vae.decode(self.vae, self.grid.leave(result[len(self.image) :]), ring=False)
            yield self._row(f"{key}.image_raw", picture, BOUND)

    def _scheduler(self, steps: str) -> FlowMatchScheduler:
        scheduler = FlowMatchScheduler(scheduler_config(self.about))
        scheduler.set_timesteps(int(self.about[steps]), scheduler.mu(self.grid.rows * self.grid.columns))
        return scheduler

    def _network(self, who: str, guidance: float) -> _Recorder:
        text, pooled = self.t[f"in.{who}_prompt_embeds"], self.t[f"in.{who}_pooled"]
        network = FluxNetwork(self.transformer, self.grid.ids, text.shape[1])
        return _Recorder(network, (text, pooled, torch.full((len(text),), guidance)))

    def _row(self, key: str, got: Tensor, bound: float, how: str = "") -> Row:
        return compare(NAME, how + key, got, self.t[key], bound)
