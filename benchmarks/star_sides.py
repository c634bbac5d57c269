"""The two sides of benchmarks/star: our generator and the official one, with the same weights, and how they compare."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import types
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from panodiff_core.engines.star.config import SCALES_512, STARConfig, VQVAEConfig
from panodiff_core.engines.star.generator import STARGenerator
from panodiff_core.engines.star.inference import Watch, generate
from panodiff_core.engines.star.options import GenerationOptions
from panodiff_core.engines.star.scales import Scales
from panodiff_core.engines.star.text import TextFeatures
from panodiff_core.engines.star.vqvae.quantizer import Quantizer
from panodiff_core.layers.attention import sliced_attention

from .sampling import CLOCK, NOW

CFG = 4.0
NO_CHECKOUT = "no --official: a checkout of github.com/Davinci-XLab/STAR-T2I is needed"
CLOSE = 1e-3
"""Largest difference of logits allowed, by their standard deviation: guidance multiplies rounding by 2·4 + 1."""

Marks = list[float]
"""What a run took for the text, and for each scale."""


class Trace:
    """Guided logits [B, N, V] and drawn codes [B, N] of each scale, and the latents at the end."""

    def __init__(self) -> None:
        self.logits: list[torch.Tensor] = []
        self.codes: list[torch.Tensor] = []
        self.latents: torch.Tensor | None = None


class Ours:
    """Our generator and quantizer with random weights, and text features that see all tokens."""

    def __init__(self, depth: int, width: int) -> None:
        torch.manual_seed(0)
        config = STARConfig(depth=depth, width=width, heads=width // 64)
        self.generator = STARGenerator(config).eval().requires_grad_(False)
        self.generator.reset_parameters()
        self.quantizer = Quantizer(VQVAEConfig(), Scales(SCALES_512)).eval().requires_grad_(False)
        for module in (self.generator, self.quantizer):
            for weight in module.parameters():
                if weight.ndim == 1:  # biases that are 0 would hide that one is missing
                    weight.normal_(std=0.02)
        hidden = torch.randn(2, config.text_tokens, config.text_width)
        text = TextFeatures(hidden, hidden[:, -1], torch.ones(hidden.shape[:2], dtype=torch.bool))
        self.text, self.empty = text[:1], text[1:]
        self.mark: Callable[[], None] = lambda: None
        self._tell_where_the_text_ends()

    def _tell_where_the_text_ends(self) -> None:
        start = self.generator.start

        def told(pooled: torch.Tensor) -> torch.Tensor:
            self.mark()
            return start(pooled)

        self.generator.start = told

    def run(self, group: int = 1, watch: Watch | None = None, on_step=None) -> torch.Tensor:
        options = GenerationOptions(cfg=CFG, top_k=1, top_p=0.0, cross_attention="cond_shared")
        parts = (self.generator, self.quantizer, self.text, self.empty, options)
        return generate(*parts, group=group, watch=watch, on_step=on_step)

    def marks(self, group: int = 1, read: Callable[[], float] | None = None) -> Marks:
        """What `read` (None: the clock, in ms) gains over the text and over each scale."""
        read = read or milliseconds
        at = [read()]
        self.mark = lambda: at.append(read())
        self.run(group, on_step=lambda step: self.mark())
        self.mark = lambda: None
        return steps(at)

    def flops(self) -> Marks:
        """FLOPs of matrix products and convolutions; attention by products, which the counter knows on all devices."""
        attention, self.generator.attention = self.generator.attention, sliced_attention
        try:
            with FlopCounterMode(display=False) as counter:
                return self.marks(read=counter.get_total_flops)
        finally:
            self.generator.attention = attention

    def trace(self, group: int = 1) -> Trace:
        trace = Trace()
        watch = Watch(
            logits=lambda network, scale, features, guided: trace.logits.append(guided),
            drawn=lambda scale, indices: trace.codes.append(indices),
        )
        trace.latents = self.run(group, watch)
        return trace


class Official:
    """The official generator and quantizer with our weights, without autoencoder, sampler, flash_attn and xformers.

    Shims: empty modules for timm, which is imported and not used; "cpu" as its device; the decoder hands back the
    latents that it gets. Its deprecated calls warn, which is switched off.
    """

    def __init__(self, path: Path, ours: Ours) -> None:
        if not (path / "models" / "var_drop.py").is_file():
            raise SystemExit(f"{path} has no models/var_drop.py: {NO_CHECKOUT}")
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*CUDA.*")
        stand_in_for_timm()
        sys.path.insert(0, str(path))
        importlib.import_module("dist").get_device = lambda: "cpu"
        with contextlib.redirect_stdout(io.StringIO()):
            self.module = importlib.import_module("models.var_drop")
            self._build(ours)
        self.text = TextFeatures(
            *(
                torch.cat(pair)
                for pair in zip(*(vars(x).values() for x in (ours.text, ours.empty)), strict=True)
            )
        )

    def _build(self, ours: Ours) -> None:
        config, codes = ours.generator.config, ours.quantizer.config
        quantizer = importlib.import_module("models.quant").VectorQuantizer2(
            codes.vocab, codes.latent_channels, using_znorm=False, v_patch_nums=config.patch_nums
        )
        autoencoder = types.SimpleNamespace(
            Cvae=codes.latent_channels, vocab_size=codes.vocab, quantize=quantizer, fhat_to_img=self._keep
        )
        self.generator = self.module.VAR(
            autoencoder,
            depth=config.depth,
            embed_dim=config.width,
            num_heads=config.heads,
            in_dim_cross=config.text_width,
            attn_l2_norm=True,
            patch_nums=config.patch_nums,
            flash_if_available=False,
            fused_if_available=False,
            rope_theta=config.rope_theta,
            rope_norm=config.rope_norm,
            enable_logit_norm=config.logit_norm,
            enable_adaptive_norm=False,
            train_mode="none",
        )
        self.generator.load_state_dict(ours.generator.state_dict())
        quantizer.load_state_dict(ours.quantizer.state_dict())
        self.quantizer = quantizer.eval()
        self.generator.eval()

    def _keep(self, latents: torch.Tensor) -> torch.Tensor:
        self.latents = latents.clone()
        return latents

    def run(self) -> None:
        self.generator.autoregressive_infer_cfg(
            1,
            None,
            encoder_hidden_states=self.text.hidden,
            encoder_attention_mask=self.text.mask.long(),
            encoder_pool_feat=self.text.pooled,
            cfg=CFG,
            top_k=1,
        )

    def marks(self) -> Marks:
        """Milliseconds of each scale, those of the text among the first one's."""
        at, advance = [milliseconds()], self.quantizer.get_next_autoregressive_input

        def told(*arguments):
            result = advance(*arguments)
            at.append(milliseconds())
            return result

        self.quantizer.get_next_autoregressive_input = told
        try:
            self.run()
        finally:
            del self.quantizer.get_next_autoregressive_input
        return [0.0, *steps(at)]

    def trace(self, codes: list[torch.Tensor]) -> Trace:
        """Its logits where these codes are drawn, whatever it would have drawn itself."""
        trace, sample = Trace(), self.module.sample_with_top_k_top_p_

        def taught(logits, **_):
            trace.logits.append(logits.clone())
            trace.codes.append(codes[len(trace.codes)])
            return trace.codes[-1]

        self.module.sample_with_top_k_top_p_ = taught
        try:
            self.run()
        finally:
            self.module.sample_with_top_k_top_p_ = sample
        trace.latents = self.latents
        return trace


def stand_in_for_timm() -> None:
    names = {
        "timm": (),
        "timm.models": (),
        "timm.models.vision_transformer": ("Mlp", "PatchEmbed", "_cfg"),
        "timm.models.layers": ("DropPath", "to_2tuple", "trunc_normal_"),
        "timm.models.registry": ("register_model",),
    }
    for name, members in names.items():
        sys.modules[name] = types.ModuleType(name)
        for member in members:
            setattr(sys.modules[name], member, None)


def compare(ours: Trace, other: Trace) -> dict:
    """The scales up to the first that the two draw differently, where what follows differs, too.

    Raises SystemExit when logits differ by more than rounding.
    """
    found = {"scales": 0, "logits": 0.0, "codes": 0, "same_codes": 0}
    for mine, their, drawn, chosen in zip(ours.logits, other.logits, ours.codes, other.codes, strict=True):
        difference = float((mine - their).abs().max() / mine.std())
        best = their.argmax(dim=-1)
        found["scales"] += 1
        found["logits"] = max(found["logits"], difference)
        found["codes"] += best.numel()
        found["same_codes"] += int((best == drawn).sum())
        if difference > CLOSE:
            raise SystemExit(
                f"the logits of scale {found['scales'] - 1} differ by {difference:.1e} of their spread"
            )
        if not (drawn == chosen).all():
            return found
    found["latents"] = float((ours.latents - other.latents).abs().max() / ours.latents.std())
    if found["latents"] > CLOSE:
        raise SystemExit(f"the latents differ by {found['latents']:.1e} of their spread")
    return found


def milliseconds() -> float:
    return 1e3 * NOW[CLOCK[0]]()


def steps(at: list[float]) -> list[float]:
    return [b - a for a, b in pairwise(at)]
