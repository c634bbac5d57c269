"""Patch Model for 360 and Panorama Sigmas on ComfyUI's own FLUX, number by number against the golden vectors."""

from __future__ import annotations

import copy

import pytest
import torch

pytest.importorskip("diffusers")  # the core engine that the native route is compared with

from panodiff_core.conditioning.text import TextCondition
from panodiff_core.engines.dit360.checkpoint import read_lora
from panodiff_core.engines.dit360.config import SamplingOptions
from panodiff_core.engines.dit360.model import LoraStack, RingGrid
from panodiff_core.engines.dit360.sampling import lay_noise_levels
from panodiff_core.schedulers.flow_matching import GRIDS, FlowMatchScheduler
from tests.core.dit360_vectors import FOLDER, engine, largest, read, tensors
from tests.nodes import native_flux
from tests.nodes.native_flux import SIZE, conditioning, flux, sample

pytestmark = pytest.mark.comfyui

TRAJECTORY = 1e-5
"""Largest error over largest value. The vectors' own second implementation differs by 6e-6."""
PATCH = {**SIZE, "padding": 1, "roll": "off"}
SIGMAS = {**SIZE, "steps": 4, "denoise": 1.0}


@pytest.fixture(scope="module")
def model(extension):
    return flux()


@pytest.fixture
def patch(node_classes, model):
    """Patches the module's MODEL, or another, with options of the node."""

    def apply(source=None, **options):
        node = node_classes["PanoDiff_PatchModel"]
        return node.execute(model=source or model, **{**PATCH, **options}).result[0]

    return apply


@pytest.fixture
def sigmas(node_classes) -> torch.Tensor:
    return node_classes["PanoDiff_PanoramaSigmas"].execute(**SIGMAS).result[0]


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return largest(a, b) / b.abs().max().item()


def core(noise=None, negative: bool = False, **options) -> torch.Tensor:
    """Latents of the core's engine on the same weights, from the vectors' noise unless another is given."""
    t = tensors("t2i")
    names = ["in.prompt_embeds", "in.pooled_prompt_embeds"]
    names += ["in.negative_prompt_embeds", "in.negative_pooled_prompt_embeds"] if negative else []
    noise = t["in.latents_spatial"] if noise is None else noise
    return engine().sample(
        TextCondition(*(t[n] for n in names)), latents=noise, batch_size=len(noise), **options
    )


def network_state(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.model.state_dict().items()}


def no_hooks(model) -> bool:
    return not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())


@pytest.mark.parametrize(("name", "cfg"), [("cfg_off", 1.0), ("cfg_on", 2.5)])
def test_trajectory_is_the_reference(patch, sigmas, name, cfg) -> None:
    latents = sample(patch(), sigmas, cfg=cfg)
    assert error(latents, tensors("t2i")[f"{name}.final_latent"]) <= TRAJECTORY
    assert error(latents, core(negative=cfg != 1, **({"cfg": cfg} if cfg != 1 else {}))) <= TRAJECTORY


@pytest.mark.parametrize("cfg", [1.0, 2.5])
@pytest.mark.parametrize(("name", "strength"), [("lora", 1.0), ("lora_half", 0.5)])
def test_lora_of_the_host(model, patch, sigmas, name, strength, cfg) -> None:
    """ComfyUI's own LoRA loader on the MODEL, before the patch and after it; the core fuses the same file."""
    import comfy.sd

    lora = tensors("lora_dit360")
    before, _ = comfy.sd.load_lora_for_models(model, None, lora, strength, 0)
    after, _ = comfy.sd.load_lora_for_models(patch(), None, lora, strength, 0)
    assert sum(map(len, before.patches.values())) == 14, "every module of the file found its place"
    results = [sample(patched, sigmas, cfg=cfg) for patched in (patch(before), after)]
    assert torch.equal(*results)
    fused = LoraStack(engine().transformer, [read_lora(FOLDER / "lora_dit360.safetensors")], [strength])
    try:
        expected = core(negative=cfg != 1, cfg=cfg)
    finally:
        fused.remove()
    assert error(results[0], expected) <= TRAJECTORY
    if cfg == 1.0:
        tokens = native_flux.tokens(results[0])
        assert error(tokens, tensors("t2i")[f"{name}.final_packed"]) <= TRAJECTORY
    plain = sample(patch(), sigmas, cfg=cfg)
    assert error(plain, results[0]) > 0.01, "and the LoRA did something"
    assert error(plain, core(negative=cfg != 1, cfg=cfg)) <= TRAJECTORY, "and is gone without it"


def test_ksampler_with_the_patched_shift(node_classes, patch) -> None:
    """KSampler asks the MODEL for its noise levels: 4 steps divide ComfyUI's grid of 10000, so they are exact."""
    import comfy.sample

    noise = tensors("t2i")["in.latents_spatial"]
    arguments = (
        4,
        1.0,
        "euler",
        "simple",
        conditioning(),
        conditioning(negative=True),
        torch.zeros_like(noise),
    )
    patched = patch()
    latents = comfy.sample.sample(patched, noise, *arguments, disable_pbar=True, seed=1)
    expected = tensors("t2i")["cfg_off.final_latent"]
    assert error(patched.model.process_latent_in(latents), expected) <= TRAJECTORY
    unshifted = patch(shift="model default")
    latents = comfy.sample.sample(unshifted, noise, *arguments, disable_pbar=True, seed=1)
    stock = tensors("derived_padding")["derived.p1_wrapped_mu_static_1.15.final_packed"]
    tokens = native_flux.tokens(unshifted.model.process_latent_in(latents))
    assert error(tokens, stock) <= 1e-4, "ComfyUI's own shift, within its float32 grid"


@pytest.mark.parametrize(
    ("name", "options", "levels"),
    [
        ("p0_no_padding", {"padding": 0}, {}),
        ("p2_wrapped", {"padding": 2}, {}),
        ("p1_wrapped_mu_unpadded", {}, {"shift": "unpadded"}),
        ("p1_wrapped_mu_static_1.15", {}, {"shift": "fixed", "mu": 1.15}),
        ("roll_each_step", {"roll": "alternate"}, {}),
    ],
)
def test_variants_of_the_padding(node_classes, patch, name, options, levels) -> None:
    (sigmas,) = node_classes["PanoDiff_PanoramaSigmas"].execute(**SIGMAS, **levels).result
    latents = sample(patch(**options), sigmas)
    expected = tensors("derived_padding")[f"derived.{name}.final_packed"]
    assert error(native_flux.tokens(latents), expected) <= TRAJECTORY
    right = tensors("t2i")["cfg_off.final_packed"]
    assert largest(expected, right) > 0.05, "negative control: the variants are far apart"


@pytest.mark.parametrize("roll", ["late", "random"])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_roll_is_the_cores(patch, sigmas, roll, padding) -> None:
    noise = torch.randn(2, 16, 8, 16, generator=torch.Generator().manual_seed(3))
    latents = sample(patch(roll=roll, padding=padding), sigmas, noise=noise, seed=7)
    # The noise levels of one padding column throughout, to change one thing at a time.
    mu = FlowMatchScheduler().mu(RingGrid(8, 16, 1).tokens)
    assert error(latents, core(noise, seed=7, roll=roll, padding=padding, mu=mu)) <= TRAJECTORY


def test_batch_with_cfg(patch, sigmas) -> None:
    noise = torch.randn(3, 16, 8, 16, generator=torch.Generator().manual_seed(4))
    latents = sample(patch(), sigmas, noise=noise, cfg=2.5)
    assert error(latents, core(noise, negative=True, cfg=2.5)) <= TRAJECTORY


# --- what shares the network with the ring -----------------------------------------------------------------------


class FakeControl:
    """Residuals that hang on the place in the picture, so that copies without them would stand out."""

    def __init__(self, tokens: int = 32, batch: int = 1) -> None:
        g = torch.Generator().manual_seed(5)
        shared = torch.randn(batch, tokens, 32, generator=g)
        self.residuals = {
            "input": [shared, torch.randn(batch, tokens, 32, generator=g)],
            "middle": [],
            "output": [None, shared],
        }
        self.kept = copy.deepcopy(self.residuals)

    def untouched(self) -> bool:
        return all(
            a is b or torch.equal(a, b)
            for name in self.kept
            for a, b in zip(self.residuals[name], self.kept[name], strict=True)
        )


def with_control(model, control: dict):
    """A clone whose network gets these residuals, as if a ControlNet had made them for the unpadded latent."""
    from comfy.patcher_extension import WrappersMP

    def inject(executor, x, t, c_concat, c_crossattn, _, transformer_options, **more):
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **more)

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test_control", inject)
    return clone


def inner_ring(model, padding: int = 1):
    """The oracle (dit360 spec, section 9.2): ring the latent, the ids and the residuals, crop what comes out."""
    from comfy.patcher_extension import WrappersMP

    grid = RingGrid(8, 16, padding)
    clone = model.clone()

    def ids(args):
        return {**args, "img_ids": grid.ids.expand(len(args["img"]), -1, -1)}

    def ring(executor, x, timestep, context, y, guidance, refs, control, transformer_options, **more):
        p = 2 * padding
        x = torch.cat([x[..., -p:], x, x[..., :p]], dim=-1)
        if control is not None:
            control = {n: [None if r is None else grid.pad(r) for r in rs] for n, rs in control.items()}
        out = executor(x, timestep, context, y, guidance, refs, control, transformer_options, **more)
        return out[..., p:-p]

    clone.set_model_post_input_patch(ids)
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "oracle", ring)
    return clone


@pytest.mark.parametrize("cfg", [1.0, 2.5])
@pytest.mark.parametrize("padding", [1, 2])
def test_control_residuals_reach_the_copies(model, patch, sigmas, padding, cfg) -> None:
    control = FakeControl()
    latents = sample(with_control(patch(padding=padding), control.residuals), sigmas, cfg=cfg)
    oracle = sample(with_control(inner_ring(model, padding), control.residuals), sigmas, cfg=cfg)
    assert error(latents, oracle) <= TRAJECTORY
    assert error(latents, sample(patch(padding=padding), sigmas, cfg=cfg)) > 0.05, (
        "the residuals did something"
    )
    assert control.untouched()


def test_roll_leaves_the_residuals_with_their_tokens(patch, sigmas) -> None:
    """Two steps, the second turned by half: the same as turning latents and residuals by hand and back again."""
    control = FakeControl()
    levels = torch.stack([sigmas[0], sigmas[1], sigmas[-1]])
    latents = sample(with_control(patch(roll="alternate"), control.residuals), levels)
    grid = RingGrid(8, 16, 0)
    turned = {n: [None if r is None else grid.pad(r, 4) for r in rs] for n, rs in control.residuals.items()}
    # ComfyUI divides what a run leaves at σ by 1 − σ, and multiplies what a run starts from by σ.
    between = sample(with_control(patch(), control.residuals), levels[:2]) * (1 - levels[1])
    start = torch.roll(between, 8, dims=-1) / levels[1]
    after = sample(with_control(patch(), turned), levels[1:], noise=start)
    assert error(latents, torch.roll(after, -8, dims=-1)) <= TRAJECTORY
    unmoved = sample(with_control(patch(), control.residuals), levels[1:], noise=start)
    assert error(unmoved, after) > 0.05, "negative control: residuals that stay behind"


@pytest.mark.parametrize("method", ["offset", "index"])
def test_reference_latents_stay_in_line(model, patch, sigmas, method) -> None:
    """Reference tokens stand between the picture and the copies; the ring must equal explicit token surgery."""
    reference = torch.randn(1, 16, 6, 10, generator=torch.Generator().manual_seed(6))
    extra = {"reference_latents": [reference], "reference_latents_method": method}
    positive = [[tensor, {**values, **extra}] for tensor, values in conditioning()]
    control = FakeControl()
    latents = sample(with_control(patch(), control.residuals), sigmas, positive=positive)

    def surgery(args):
        img, ids = args["img"], args["img_ids"]
        assert img.shape[1] == 32 + 15
        ends = [row * 8 + column for row in range(4) for column in (0, 7)]
        return {
            **args,
            "img": torch.cat([img, img[:, ends]], 1),
            "img_ids": torch.cat([ids, ids[:, ends]], 1),
        }

    ends = [row * 8 + column for row in range(4) for column in (0, 7)]
    residuals = {
        n: [None if r is None else torch.cat([r, r.new_zeros(1, 15, 32), r[:, ends]], 1) for r in rs]
        for n, rs in control.residuals.items()
    }
    oracle = model.clone()
    oracle.set_model_post_input_patch(surgery)
    expected = sample(with_control(oracle, residuals), sigmas, positive=positive)
    assert error(latents, expected) <= TRAJECTORY
    assert error(latents, sample(with_control(patch(), control.residuals), sigmas)) > 0.01


def test_attention_mask_grows_with_the_sequence(model, patch, sigmas) -> None:
    """A mask that lets everything through changes nothing; one that hides columns hides their copies, too."""
    texts, tokens = 20, 32
    columns = torch.arange(tokens) % 8
    hidden = torch.zeros(1, texts + tokens, texts + tokens)
    hidden[:, :, texts:][:, :, columns == 7] = -1e4

    def masked(source, mask):
        extra = {"attention_mask": mask, "attention_mask_img_shape": (4, 8)}
        positive = [[tensor, {**values, **extra}] for tensor, values in conditioning()]
        return sample(source, sigmas, positive=positive)

    plain = sample(patch(), sigmas)
    assert error(masked(patch(), torch.zeros_like(hidden)), plain) <= TRAJECTORY

    def ids(args):
        return {**args, "img_ids": RingGrid(8, 16, 1).ids.expand(len(args["img"]), -1, -1)}

    from comfy.patcher_extension import WrappersMP

    order = torch.cat(
        [torch.arange(texts), texts + RingGrid(8, 16, 1).pad(torch.arange(32)[None, :, None])[0, :, 0]]
    )

    def ring(executor, x, *rest, **more):
        more["attention_mask"] = more["attention_mask"][..., order, :][..., order]
        x = torch.cat([x[..., -2:], x, x[..., :2]], dim=-1)
        return executor(x, *rest, **more)[..., 2:-2]

    oracle = model.clone()
    oracle.set_model_post_input_patch(ids)
    oracle.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "oracle", ring)
    assert error(masked(patch(), hidden), masked(oracle, hidden)) <= TRAJECTORY
    assert error(masked(patch(), hidden), plain) > 0.01


def test_other_packs_patches_run_too(patch, sigmas) -> None:
    """Another post_input patch and a block replacement, set after ours, keep working and see what they expect."""
    seen: dict[str, int] = {}

    def post_input(args):
        seen["tokens"] = args["img"].shape[1]
        return args

    def block(args, extra):
        seen["block"] = args["img"].shape[1]
        return extra["original_block"](args)

    patched = patch()
    patched.set_model_post_input_patch(post_input)
    patched.set_model_patch_replace(block, "dit", "double_block", 0)
    latents = sample(patched, sigmas)
    assert seen == {"tokens": 32, "block": 32 + 8}
    assert error(latents, tensors("t2i")["cfg_off.final_latent"]) <= TRAJECTORY


def test_step_cache_of_the_host(patch, sigmas) -> None:
    """ComfyUI's EasyCache leaves steps out, before or after the ring; only the first step has to reach the network."""
    from comfy_extras.nodes_easycache import EasyCacheNode

    def cached(model, threshold: float):
        return EasyCacheNode.execute(model, threshold, 0.0, 1.0, False).result[0]

    exact = sample(cached(patch(), 0.0), sigmas)
    assert error(exact, tensors("t2i")["cfg_off.final_latent"]) <= TRAJECTORY
    outer, inner = sample(cached(patch(), 10.0), sigmas), sample(patch(cached(flux(), 10.0)), sigmas)
    assert error(outer, inner) <= TRAJECTORY
    assert error(outer, exact) > 1e-3, "and steps were left out"


def test_cut_out_is_no_ring(model, patch, sigmas) -> None:
    """A region of the conditioning sees a piece of the latent, whose ends do not meet."""
    area = [[t, {**v, "area": (8, 8, 0, 4), "strength": 1.0}] for t, v in conditioning()]
    plain = sample(model, sigmas, positive=area)
    assert torch.equal(sample(patch(), sigmas, positive=area), plain)


@pytest.mark.parametrize("roll", ["off", "alternate"])
@pytest.mark.parametrize("sampler", ["heun", "euler_ancestral", "dpmpp_2m_sde"])
def test_other_samplers_see_the_same_ring(model, patch, sigmas, sampler, roll) -> None:
    """The oracle rings every call anew, and rolls by hand by the step that the call's noise level lies in."""
    from comfy.patcher_extension import WrappersMP

    def turn(executor, x, timestep, *rest, **more):
        step = int((sigmas[:-1] >= timestep[0] - 1e-6).sum()) - 1
        offset = 8 * (step % 2) if roll == "alternate" else 0
        return torch.roll(executor(torch.roll(x, offset, -1), timestep, *rest, **more), -offset, -1)

    patched, oracle = patch(roll=roll), model.clone()
    # Some samplers ask the MODEL's noise levels for more than the run's own.
    oracle.add_object_patch("model_sampling", patched.get_model_object("model_sampling"))
    oracle.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "turn", turn)
    latents, expected = (sample(m, sigmas, sampler=sampler, seed=3) for m in (patched, inner_ring(oracle)))
    assert error(latents, expected) <= TRAJECTORY


# --- leaving no trace --------------------------------------------------------------------------------------------


def test_unpatched_model_is_untouched(patch, sigmas) -> None:
    model = flux()
    options, before = copy.deepcopy(model.model_options), network_state(model)
    plain = sample(model, sigmas)
    first, second = patch(model), patch(model, padding=2, roll="alternate")
    results = [sample(m, sigmas) for m in (first, second, first, second)]
    assert torch.equal(sample(model, sigmas), plain)
    assert torch.equal(results[0], results[2]) and torch.equal(results[1], results[3])
    assert largest(results[0], results[1]) > 0.05 and largest(results[0], plain) > 0.05
    after = network_state(model)
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    assert model.model_options == options and not any(model.wrappers.values()) and not model.object_patches
    assert no_hooks(model)


@pytest.mark.parametrize("step", [0, 2])
def test_interrupt_leaves_nothing(model, patch, sigmas, step) -> None:
    from comfy.model_management import InterruptProcessingException

    patched = patch(roll="random")
    expected = sample(patched, sigmas, seed=9)

    def stop(index, *_):
        if index == step:
            raise InterruptProcessingException

    options = copy.deepcopy(patched.model_options)
    with pytest.raises(InterruptProcessingException):
        sample(patched, sigmas, seed=9, callback=stop)
    assert patched.model_options == options and no_hooks(patched)
    assert torch.equal(sample(patched, sigmas, seed=9), expected)
    assert torch.equal(sample(model, sigmas), sample(model, sigmas))


# --- refusals ----------------------------------------------------------------------------------------------------


def test_second_ring_is_refused(patch) -> None:
    with pytest.raises(ValueError, match="went through Patch Model for 360 before"):
        patch(patch())
    with pytest.raises(ValueError, match="went through Patch Model for 360 before"):
        patch(patch().clone())


@pytest.mark.parametrize("changes", [{"guidance_embed": False}, {"out_channels": 32}])
def test_other_models_are_refused(patch, changes) -> None:
    with pytest.raises(ValueError, match=r"needs FLUX\.1-dev.*another kind of FLUX"):
        patch(flux(**changes))


@pytest.mark.parametrize("channels", [32, 96])
def test_models_with_more_input_are_not_refused(patch, channels) -> None:
    """FLUX's depth, canny and fill models take a picture beside the latent; their tokens are the same."""
    assert patch(flux(in_channels=channels)).get_model_object("model_sampling").shift != 1.15


def test_unets_are_refused(patch) -> None:
    from types import SimpleNamespace

    with pytest.raises(ValueError, match=r"needs FLUX\.1-dev.*got Linear"):
        source = SimpleNamespace(model=SimpleNamespace(diffusion_model=torch.nn.Linear(1, 1)))
        source.clone = lambda: source
        patch(source)


def test_sizes_are_checked_before_the_network_runs(patch, sigmas, monkeypatch) -> None:
    patched = patch(shift="fixed")
    monkeypatch.setattr(patched.model.diffusion_model, "forward", None)
    with pytest.raises(
        ValueError, match=r"a latent 17 wide \(136 pixels\).*multiple of 16 pixels, for example 144"
    ):
        sample(patched, sigmas, noise=torch.zeros(1, 16, 8, 17))
    with pytest.raises(ValueError, match="for 128 x 64 pixels, and the latent is 256 x 128"):
        sample(patch(), sigmas, noise=torch.zeros(1, 16, 16, 32))


def test_padding_wider_than_the_picture_is_refused(patch, sigmas) -> None:
    with pytest.raises(ValueError, match="circular padding must be 0 … 8"):
        patch(padding=9)
    with pytest.raises(ValueError, match="circular padding must be 0 … 8"):
        sample(patch(padding=9, shift="fixed"), sigmas)


def test_a_network_that_ignores_the_patch_is_reported(patch, sigmas, monkeypatch) -> None:
    """Some packs put another forward in place of FLUX's; the first step then says so."""
    patched = patch()
    network, calls = patched.model.diffusion_model, []

    def deaf(x, *args, **kwargs):
        calls.append(1)
        return torch.zeros_like(x)

    monkeypatch.setattr(network, "forward", deaf)
    with pytest.raises(Exception, match="had no effect"):
        sample(patched, sigmas)
    assert len(calls) == 1
    monkeypatch.undo()
    assert error(sample(patched, sigmas), tensors("t2i")["cfg_off.final_latent"]) <= TRAJECTORY


def test_size_must_be_two_to_one(node_classes) -> None:
    for name in ("PanoDiff_PatchModel", "PanoDiff_PanoramaSigmas"):
        check = node_classes[name].validate_inputs
        assert check(width=2048, height=1024) is True and check(width=None, height=1024) is True
        assert "set 2000 x 1000 or 2048 x 1024" in check(width=2048, height=1000)
        assert "the nearest size is 2048 x 1024" in check(width=2040, height=1020)
        assert "out of range" in check(width=0, height=0)
    with pytest.raises(ValueError, match="is not 2 × height"):
        node_classes["PanoDiff_PanoramaSigmas"].execute(**{**SIGMAS, "height": 128})


# --- sizes and noise levels --------------------------------------------------------------------------------------


PANORAMAS = [row for row in read("schedules.json")["official"] if row["width"] == 2 * row["height"]]


@pytest.mark.parametrize("row", PANORAMAS, ids=lambda r: f"{r['image_tokens']}x{r['steps']}")
def test_sigmas_are_the_reference(node_classes, row) -> None:
    shape = {"width": row["width"], "height": row["height"], "padding": row["pad_columns"]}
    node = node_classes["PanoDiff_PanoramaSigmas"]
    (sigmas,) = node.execute(steps=row["steps"], denoise=1.0, **shape).result
    assert largest(sigmas, torch.tensor(row["sigmas"], dtype=torch.float64)) <= 2e-7


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("shift", "mu"), [("padded", "padded"), ("unpadded", "unpadded"), ("fixed", 2.5)])
def test_sigmas_are_the_cores(node_classes, grid, shift, mu) -> None:
    scheduler = FlowMatchScheduler()
    options = SamplingOptions(height=512, width=1024, steps=9, padding=2, mu=mu, grid=grid)
    lay_noise_levels(scheduler, options, RingGrid(64, 128, 2), None)
    node = node_classes["PanoDiff_PanoramaSigmas"]
    values = {"steps": 9, "width": 1024, "height": 512, "padding": 2, "shift": shift, "mu": 2.5, "grid": grid}
    assert torch.equal(node.execute(denoise=1.0, **values).result[0], scheduler.sigmas)


def test_denoise_takes_the_end_of_a_longer_schedule(node_classes) -> None:
    node = node_classes["PanoDiff_PanoramaSigmas"]
    (part,) = node.execute(**{**SIGMAS, "denoise": 0.4}).result
    (whole,) = node.execute(**{**SIGMAS, "steps": 10}).result
    assert torch.equal(part, whole[-5:])


def test_empty_latent(node_classes) -> None:
    node = node_classes["PanoDiff_EmptyPanoramaLatent"]
    latent, width, height = node.execute(width=2048, batch_size=2).result
    assert latent["samples"].shape == (2, 16, 128, 256) and (width, height) == (2048, 1024)
    assert not latent["samples"].any()
    assert "nearest size is 2048 x 1024" in node.validate_inputs(width=2056)
    with pytest.raises(ValueError, match="not a multiple of 32"):
        node.execute(width=2064, batch_size=1)


# --- other packs' nodes ------------------------------------------------------------------------------------------


def test_replacements_fit_our_nodes(node_classes, extension) -> None:
    from custom_nodes_PanoDiff_x_1.nodes.replacements import REPLACEMENTS

    for entry in REPLACEMENTS:
        schema = node_classes[entry["new_node_id"]].GET_SCHEMA()
        given = {pair["new_id"] for pair in entry["input_mapping"]}
        required = {item.id for item in schema.inputs if not item.optional}
        assert given == required, entry["old_node_id"]
        assert all(pair["new_idx"] < len(schema.outputs) for pair in entry["output_mapping"])


def test_replacements_register_where_comfyui_can(extension) -> None:
    import asyncio
    from types import SimpleNamespace

    from comfy_api.v0_0_2 import io
    from custom_nodes_PanoDiff_x_1.nodes.replacements import REPLACEMENTS, register_replacements

    assert asyncio.run(register_replacements(SimpleNamespace())) == 0
    seen = []

    async def register(entry):
        seen.append(entry.as_dict())

    count = asyncio.run(
        register_replacements(SimpleNamespace(node_replacement=SimpleNamespace(register=register)))
    )
    if not hasattr(io, "NodeReplace"):
        assert count == 0 and not seen
        return
    assert count == len(seen) == len(REPLACEMENTS)
    assert seen[0]["old_node_id"] == "Equirect360EmptyLatent"
