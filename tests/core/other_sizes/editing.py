"""RF inversion and the controlled reverse, with token replacement by hooks on diffusers' blocks."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from .network import GUIDANCE, Maker
from .tokens import crop, ids, pack, pad, shift_exponent

ROWS, COLUMNS, PADDING, THERE, BACK = 3, 4, 2, 4, 5
ABOUT = {"tau": 0.6, "eta": 0.8, "start": 0.2, "stop": 0.7, "blend_threshold": 0.4, "gamma": 0.25}


def make_editing(maker: Maker) -> None:
    """3×4 tokens, two padding columns, 4 steps there and 5 back."""
    p, tokens = PADDING, ROWS * (COLUMNS + 2 * PADDING)
    mask = (torch.rand(ROWS, COLUMNS) > 0.5).float()
    own = torch.cat([mask[:, :1].expand(-1, p), mask, mask[:, -1:].expand(-1, p)], dim=1).reshape(-1, 1)
    wrapped = torch.cat([mask[:, -p:], mask, mask[:, :p]], dim=1).reshape(-1, 1)
    source, both = maker.prompt(1, 9), maker.prompt(2, 9)
    t = {
        "in.image_latents_padded": torch.randn(1, tokens, 16),
        "in.y1_noise_padded": torch.randn(1, tokens, 16),
    }
    t |= {"in.edit_noise_spatial": torch.randn(1, 4, 2 * ROWS, 2 * COLUMNS), "in.mask_grid": mask}
    t |= {"in.source_prompt_embeds": source[0], "in.source_pooled": source[1]}
    t |= {"in.edit_prompt_embeds": both[0], "in.edit_pooled": both[1]}
    t |= {"mask_padded_official": own, "derived.mask_padded_wrapped": wrapped}
    t["img_ids_padded"] = pad(ids(ROWS, COLUMNS), ROWS, p)
    for gamma in (0.25, 1.0):
        _invert(maker, t, source, gamma)
    for prefix, keep in (("edit.one", own), ("derived_mask.edit.one", wrapped)):
        _reverse(maker, t, both, prefix, keep)
    about = {"guidance": GUIDANCE, "invert_steps": THERE, "edit_steps": BACK, "edit_one": json.dumps(ABOUT)}
    maker.save("edit", t, **about)


def _invert(maker: Maker, t: dict[str, Tensor], source: tuple[Tensor, Tensor], gamma: float) -> None:
    t["invert.sigmas"] = levels = maker.scheduler(THERE, shift_exponent(ROWS * COLUMNS)).sigmas
    state, noise, key = t["in.image_latents_padded"], t["in.y1_noise_padded"], f"invert.gamma{gamma}"
    for i in range(THERE):
        time = i / (THERE + 1)
        u = maker.call(state, time, source, 0.0, t["img_ids_padded"])
        t[f"{key}.t.{i}"] = torch.tensor([time])
        if gamma < 1:
            t |= {f"{key}.velocity.{i}": u, f"{key}.x.{i}": state}
        state = state + (u + gamma * ((noise - state) / (1 - time) - u)) * (levels[i] - levels[i + 1])
    t[f"{key}.inverted"] = state


def _reverse(
    maker: Maker, t: dict[str, Tensor], both: tuple[Tensor, Tensor], prefix: str, keep: Tensor
) -> None:
    sigmas = maker.scheduler(BACK, shift_exponent(ROWS * COLUMNS)).sigmas
    fresh = pad(pack(t["in.edit_noise_spatial"]), ROWS, PADDING)
    states = torch.cat([t[f"invert.gamma{ABOUT['gamma']}.inverted"], fresh])
    for i in range(BACK):
        hooks = _sharing(maker, keep) if sigmas[i] > ABOUT["tau"] else []
        velocity = maker.call(states, sigmas[i], both, GUIDANCE, t["img_ids_padded"])
        for hook in hooks:
            hook.remove()
        pulled = int(ABOUT["start"] * BACK) <= i < int(ABOUT["stop"] * BACK)
        x0, x1 = states.split(1)
        free, straight = -velocity[:1], (t["in.image_latents_padded"] - x0) / sigmas[i]
        x0 = x0 + (free + ABOUT["eta"] * pulled * (straight - free)) * (sigmas[i] - sigmas[i + 1])
        x1 = x1 + velocity[1:] * (sigmas[i + 1] - sigmas[i])
        if sigmas[i] >= ABOUT["blend_threshold"]:
            x1 = (1 - keep) * x1 + keep * x0
        states = torch.cat([x0, x1])
        t |= {f"{prefix}.velocity.{i}": velocity, f"{prefix}.latents_padded.{i}": states}
    t |= {f"{prefix}.sigmas": sigmas, f"{prefix}.final_packed": crop(states, ROWS, PADDING)}


def _sharing(maker: Maker, keep: Tensor) -> list:
    """In front of every attention the second sample's image tokens become the first's where the mask keeps."""
    chosen = (keep[:, 0] > 0.5).nonzero()[:, 0] - len(keep)

    def replace(module, args, kwargs):
        hidden = kwargs["hidden_states"].clone()
        hidden[1, chosen] = hidden[0, chosen]
        return args, {**kwargs, "hidden_states": hidden}

    blocks = (*maker.net.transformer_blocks, *maker.net.single_transformer_blocks)
    return [block.attn.register_forward_pre_hook(replace, with_kwargs=True) for block in blocks]
