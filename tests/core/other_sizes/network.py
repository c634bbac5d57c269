"""The networks with random weights, one call of the transformer, and the same with 8-bit weights."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .tokens import SCHEDULER, ids, pad

TRANSFORMER = {
    "_class_name": "FluxTransformer2DModel",
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 3,
    "attention_head_dim": 12,
    "num_attention_heads": 3,
    "joint_attention_dim": 40,
    "pooled_projection_dim": 20,
    "guidance_embeds": True,
    "axes_dims_rope": [2, 4, 6],
}
VAE = {
    "_class_name": "AutoencoderKL",
    "latent_channels": 4,
    "block_out_channels": [8, 8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "scaling_factor": 0.5,
    "shift_factor": -0.2,
}
ROWS, COLUMNS, PADDING, STEPS, TEXT, BATCH = 3, 5, 2, 3, 11, 2
GUIDANCE, CFG = 3.1, 1.7


class Maker:
    """The networks and what all files of the folder share: prompts, noise, one call, a scheduler, saving."""

    def __init__(self, folder: Path) -> None:
        from diffusers import AutoencoderKL, FluxTransformer2DModel

        self.folder = folder
        self.net = FluxTransformer2DModel.from_config(TRANSFORMER).eval()
        for parameter in self.net.parameters():  # far enough from zero that places and prompts matter
            parameter.copy_((parameter * 1.5).bfloat16())
        self.vae = AutoencoderKL.from_config(VAE).eval()
        size = (2 * ROWS, 2 * COLUMNS)
        self.noise = torch.randn(BATCH, 4, *size)
        self.prompts = {True: self.prompt(BATCH, TEXT), False: self.prompt(1, TEXT)}
        for name, value in {"transformer": TRANSFORMER, "vae": VAE}.items():
            (folder / f"{name}_config.json").write_text(json.dumps(value), encoding="utf-8")
        save_file(self.net.state_dict(), folder / "transformer_diffusers.safetensors")
        save_file(self.vae.state_dict(), folder / "vae_diffusers.safetensors")

    def save(self, name: str, tensors: dict[str, Tensor], **about: object) -> None:
        metadata = {key: str(value) for key, value in about.items()}
        metadata["config_scheduler"] = json.dumps(SCHEDULER)
        tensors = {key: value.clone().contiguous() for key, value in tensors.items()}
        save_file(tensors, self.folder / f"{name}.safetensors", metadata)

    def prompt(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        return torch.randn(batch, length, 40), torch.randn(batch, 20)

    def call(self, tokens, time, prompt, guidance, positions, net=None) -> Tensor:
        text, pooled = prompt
        return (net or self.net)(
            hidden_states=tokens,
            timestep=torch.as_tensor(time).expand(len(tokens)),
            guidance=torch.full((len(tokens),), guidance),
            encoder_hidden_states=text[: len(tokens)],
            pooled_projections=pooled[: len(tokens)],
            img_ids=positions,
            txt_ids=torch.zeros(text.shape[1], 3),
            return_dict=False,
        )[0]

    def scheduler(self, steps: int, mu: float):
        from diffusers import FlowMatchEulerDiscreteScheduler

        scheduler = FlowMatchEulerDiscreteScheduler.from_config(SCHEDULER)
        scheduler.set_timesteps(sigmas=torch.linspace(1.0, 1.0 / steps, steps).tolist(), mu=mu)
        return scheduler


def make_forward(maker: Maker) -> None:
    """Two samples of 3×4 tokens and one padding column; and the same with weights rounded to 8 bits."""
    tokens, time = torch.randn(2, 3 * 6, 16), torch.tensor([0.9, 0.35])
    positions, prompt = pad(ids(3, 4), 3, 1), maker.prompt(2, 7)
    seen: dict[str, Tensor] = {}
    hooks = [
        block.register_forward_hook(
            lambda module, inputs, output, name=f"{kind}.{i}": seen.update(
                {f"{name}.txt": output[0], f"{name}.img": output[1]}
            )
        )
        for kind, blocks in (
            ("double", maker.net.transformer_blocks),
            ("single", maker.net.single_transformer_blocks),
        )
        for i, block in enumerate(blocks)
    ]
    seen["out.velocity"] = maker.call(tokens, time, prompt, 2.0, positions)
    for hook in hooks:
        hook.remove()
    inputs = {"hidden_states": tokens, "timestep": time, "img_ids": positions}
    inputs |= {"guidance": torch.full((2,), 2.0), "prompt_embeds": prompt[0]}
    inputs["pooled_prompt_embeds"] = prompt[1]
    maker.save("forward", {f"in.{key}": value for key, value in inputs.items()} | seen)
    small, stored = copy.deepcopy(maker.net), {}
    for name, weight in small.state_dict().items():
        stored[name] = weight.to(torch.float8_e4m3fn if weight.ndim == 2 else torch.bfloat16)
        weight.copy_(stored[name].float())
    save_file(stored, maker.folder / "transformer_fp8_e4m3fn.safetensors")
    rounded = maker.call(tokens, time, prompt, 2.0, positions, small)
    expected = {"velocity_reference": seen["out.velocity"], "velocity.transformer_fp8_e4m3fn": rounded}
    maker.save("formats_expected", expected)
