"""The one training loop, on accelerate: a laptop's CPU and several GPUs run the same code.

Nothing random survives from one step to the next: data are addressed by (seed, index) and every step seeds its own
noise from (seed, micro step, process). A run that was stopped and resumed therefore equals one that was not, bit for
bit where the arithmetic itself is deterministic (float32 on a CPU).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..data.folders import make_folder, staged
from ..runtime.errors import CheckpointError, NumericalError
from .card import RunFacts
from .checkpoint import (
    join_optimizer,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    split_optimizer,
)
from .config import LoopConfig
from .ema import Ema
from .journal import Journal, Meter
from .pictures import save_png
from .schedule import lr_factor
from .stopping import Stop, ignore_signals

log = logging.getLogger(__name__)


class Recipe(Protocol):
    """What is trained, on what, and what is done with the result."""

    name: str

    def module(self) -> nn.Module:
        """The module to train, built once; its forward takes (batch, progress 0..1) and returns {"loss": …, …}."""

    def batches(self) -> Dataset:
        """Whole batches by index: item i is a dict of tensors that depends on the recipe's seed and i alone."""

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        """The optimizers; each group's `lr` is its rate at factor 1."""

    def pictures(self, module: nn.Module) -> Tensor | None:
        """A picture [3, H, W] that shows how far the training is, or None."""

    def export(self, module: nn.Module, folder: Path, run: RunFacts) -> None:
        """Write the finished model into the empty `folder`. `module` holds the averaged weights."""


class Trainer:
    """Trains one recipe. `run()` resumes by itself when the output folder holds a checkpoint."""

    def __init__(self, recipe: Recipe, config: LoopConfig) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        self.recipe, self.config = recipe, config
        self.journal = Journal(config.out)
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        # Said outright, since accelerate joins several CPU processes only when told that there is nothing else.
        cpu = not torch.accelerator.is_available()
        self.accelerator = Accelerator(cpu=cpu, mixed_precision=config.precision, kwargs_handlers=[unused])
        self.module = recipe.module()
        if config.channels_last:
            self.module.to(memory_format=torch.channels_last)
        self.step = 0
        self.stop: Stop | None = None
        resume = list_checkpoints(config.out)
        if not resume and config.init is not None:
            load_weights(config.init, self.module)
            log.info("weights initialised from %s", config.init)
        optimizers = recipe.optimizers(self.module, config.learning_rate)
        self._base_rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
        self.model, *self.optimizers = self.accelerator.prepare(self.module, *optimizers)
        self.ema = Ema(self.module, config.ema_decay) if config.ema_decay > 0 else None
        if resume:
            self._restore(resume[-1])

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self, on_step: Callable[[int, dict[str, float]], None] | None = None) -> bool:
        """Train until `steps`, the wall-clock limit, SIGTERM or Ctrl-C. Returns True when all steps are done.

        Leaves a checkpoint behind, unless an error ends it. `on_step(step, losses)` is called after every optimizer
        step; losses are those of this process. Raises NumericalError at the first loss or gradient that is NaN or
        infinite, before any weight is touched by it; earlier checkpoints stay.
        """
        config = self.config
        if self.step >= config.steps:
            return True
        if self.accelerator.is_main_process:
            make_folder(config.out)
            self.journal.trim(self.step)
        meter, self.stop = Meter(), Stop(config.minutes)
        with self.stop.listening():
            batches = iter(self._loader())
            while self.step < config.steps and not self.stop.asked(self.accelerator):
                losses, norm = self._optimizer_step(batches)
                self.step += 1
                meter.add({**losses, "grad_norm": norm})
                if on_step is not None:
                    on_step(self.step, losses)
                self._report(meter)
                if self.step % config.checkpoint_every == 0 and self.step < config.steps:
                    self.save()
        self.save()
        log.info("stopped at step %d (%s)", self.step, self.stop.reason or "all steps done")
        return self.step >= config.steps

    def _loader(self) -> DataLoader:
        config, rank, world = self.config, self.accelerator.process_index, self.accelerator.num_processes
        first, last = self.step * config.grad_accumulation, config.steps * config.grad_accumulation
        return DataLoader(
            self.recipe.batches(),
            batch_size=None,
            sampler=range(first * world + rank, last * world, world),
            num_workers=config.workers,
            worker_init_fn=ignore_signals,
            prefetch_factor=4 if config.workers else None,
        )

    def _optimizer_step(self, batches) -> tuple[dict[str, float], float]:
        config, model = self.config, self.model
        self._set_rates()
        model.train(True)
        losses: dict[str, float] = {}
        for micro in range(config.grad_accumulation):
            batch = _to_device(next(batches), self.accelerator.device)
            last = micro == config.grad_accumulation - 1
            torch.manual_seed(self._noise_seed(self.step * config.grad_accumulation + micro))
            with nullcontext() if last else self.accelerator.no_sync(model):
                result = model(batch, self.step / config.steps)
                if not math.isfinite(value := float(result["loss"].detach())):
                    raise NumericalError(f"the loss is {value} in training step {self.step + 1}")
                self.accelerator.backward(result["loss"] / config.grad_accumulation)
            for key, value in result.items():
                losses[key] = losses.get(key, 0.0) + float(value.detach()) / config.grad_accumulation
        norm = self._clip()
        # In fp16 the scaler skips such a step and lowers its scale.
        if not math.isfinite(norm) and self.accelerator.scaler is None:
            raise NumericalError(f"the gradients are not finite in training step {self.step + 1}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.module)
        return losses, norm

    def _clip(self) -> float:
        limit = self.config.grad_clip if self.config.grad_clip > 0 else math.inf
        return float(self.accelerator.clip_grad_norm_(self.module.parameters(), limit))

    def _set_rates(self) -> None:
        c = self.config
        factor = lr_factor(
            self.step, steps=c.steps, warmup=c.warmup, schedule=c.schedule, final_ratio=c.final_lr_ratio
        )
        for optimizer, rates in zip(self.optimizers, self._base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _noise_seed(self, micro_step: int) -> int:
        micro_step = micro_step * self.accelerator.num_processes + self.accelerator.process_index
        return (self.config.seed * 0x9E3779B97F4A7C15 + micro_step * 0xBF58476D1CE4E5B9 + 1) % (2**63)

    # -- what is kept ----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of the present step (main process; the others wait)."""
        if self.accelerator.is_main_process:
            tensors: dict[str, dict[str, Tensor]] = {"model": dict(self.module.state_dict())}
            meta: dict[str, Any] = {
                "recipe": self.recipe.name,
                "step": self.step,
                "seed": self.config.seed,
                "optimizers": [],
            }
            if self.ema is not None:
                tensors["ema"] = {**tensors["model"], **self.ema.shadow}
                meta["ema_updates"] = self.ema.updates
            for number, optimizer in enumerate(self.optimizers):
                tensors[f"optimizer-{number}"], rest = split_optimizer(optimizer.state_dict())
                meta["optimizers"].append(rest)
            if self.accelerator.scaler is not None:
                meta["scaler"] = self.accelerator.scaler.state_dict()
            save_checkpoint(self.config.out, self.step, tensors, meta, self.config.keep)
        self.accelerator.wait_for_everyone()

    def _restore(self, path: Path) -> None:
        tensors, meta = load_checkpoint(path)
        if meta["recipe"] != self.recipe.name or meta["seed"] != self.config.seed:
            raise CheckpointError(
                f"{path} belongs to recipe {meta['recipe']!r} with seed {meta['seed']}, not to "
                f"{self.recipe.name!r} with seed {self.config.seed}: choose another output folder"
            )
        self.module.load_state_dict(tensors["model"])
        for number, optimizer in enumerate(self.optimizers):
            state = join_optimizer(tensors.get(f"optimizer-{number}", {}), meta["optimizers"][number])
            optimizer.load_state_dict(state)
        if self.ema is not None and "ema" in tensors:
            self.ema.updates = meta["ema_updates"]
            for name, average in self.ema.shadow.items():
                average.copy_(tensors["ema"][name])
        if self.accelerator.scaler is not None and "scaler" in meta:
            self.accelerator.scaler.load_state_dict(meta["scaler"])
        self.step = meta["step"]
        log.info("resumed from %s", path)

    def averaged(self):
        """Context in which the module holds its moving average (its own weights when there is none)."""
        return nullcontext(self.module) if self.ema is None else self.ema.applied(self.module)

    def export(self, folder: Path) -> None:
        """Let the recipe write the finished model from the averaged weights; `folder` changes only once all is written.

        Raises InputError where it cannot be written.
        """
        if self.accelerator.is_main_process:
            self.module.train(False)
            run = RunFacts(self.config, self.step, self.journal.minutes())
            with staged(folder) as work, torch.no_grad(), self.averaged():
                self.recipe.export(self.module, work, run)
        self.accelerator.wait_for_everyone()

    # -- what is shown ---------------------------------------------------------------------------------------------

    def _report(self, meter: Meter) -> None:
        config = self.config
        if not self.accelerator.is_main_process:
            return
        if self.step % config.log_every == 0 or self.step == config.steps:
            record = {"step": self.step, **meter.flush(), "lr": self.optimizers[0].param_groups[0]["lr"]}
            self.journal.write(record)
            log.info(
                " ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in record.items())
            )
        if config.picture_every and (self.step % config.picture_every == 0 or self.step == config.steps):
            start = time.monotonic()
            self.module.train(False)
            with torch.no_grad(), self.averaged(), self.accelerator.autocast():
                picture = self.recipe.pictures(self.module)
            if picture is not None:
                save_png(picture, config.out / "pictures" / f"{self.step:08d}.png")
            meter.pause(time.monotonic() - start)


def _to_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: _to_device(value, device) for key, value in batch.items()}
    return batch
