"""ComfyUI's own FLUX and VAE, filled from the tiny official-format weights of the golden vectors."""

from __future__ import annotations

import torch

from tests.core.dit360_vectors import tensors

SIZE = {"width": 128, "height": 64}
PARAMETERS = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 24,
    "context_in_dim": 32,
    "hidden_size": 32,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
VAE_PARAMETERS = {
    "double_z": True,
    "z_channels": 16,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 8,
    "ch_mult": [1, 2, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def flux(**changes):
    """A MODEL. Without `changes` of the configuration it has the vectors' weights, else random ones."""
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.Flux({**PARAMETERS, **changes})
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    if not changes:
        weights = {name: value.float() for name, value in tensors("transformer_bfl").items()}
        # Newer ComfyUI has other names for a few of the official ones, and maps them when it loads a file.
        model.diffusion_model.load_state_dict(config.process_unet_state_dict(weights), strict=True)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def vae(monkeypatch):
    """A VAE with the vectors' weights, which have 4 groups per norm where ComfyUI has 32 built in.

    The class that ComfyUI takes for a given configuration has 1×1 convolutions that FLUX's VAE lacks; they do nothing.
    """
    import comfy.ldm.modules.diffusionmodules.model as layers
    import comfy.sd

    monkeypatch.setattr(layers.Normalize, "__defaults__", (4,))
    weights = dict(tensors("vae_ae"))
    for name, channels in (("quant_conv", 32), ("post_quant_conv", 16)):
        weights[f"{name}.weight"] = torch.eye(channels)[:, :, None, None]
        weights[f"{name}.bias"] = torch.zeros(channels)
    config = {"params": {"ddconfig": VAE_PARAMETERS, "embed_dim": 16}}
    made = comfy.sd.VAE(sd=weights, config=config, dtype=torch.float32)
    made.latent_channels = 16
    return made


def conditioning(negative: bool = False, guidance: float = 2.8) -> list:
    """A CONDITIONING of the vectors' prompt."""
    kind = "negative_" if negative else ""
    t = tensors("t2i")
    pooled = t[f"in.{kind}pooled_prompt_embeds"]
    return [[t[f"in.{kind}prompt_embeds"], {"pooled_output": pooled, "guidance": guidance}]]


def sample(model, sigmas, *, cfg: float = 1.0, noise=None, positive=None, sampler="euler", **more):
    """Latents as the network sees them, from the vectors' noise, through ComfyUI's samplers."""
    import comfy.sample
    import comfy.samplers

    noise = tensors("t2i")["in.latents_spatial"] if noise is None else noise
    latents = comfy.sample.sample_custom(
        model,
        noise,
        cfg,
        comfy.samplers.sampler_object(sampler),
        sigmas,
        positive or conditioning(),
        conditioning(negative=True),
        torch.zeros_like(noise),
        disable_pbar=True,
        **more,
    )
    return model.model.process_latent_in(latents)


def tokens(latents: torch.Tensor) -> torch.Tensor:
    """Latents as the packed tokens in which the vectors state results."""
    from panodiff_core.layers.ring import pack

    return pack(latents)
