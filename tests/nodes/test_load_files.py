"""Load DiT360 (single files): what it offers, that it is the core's engine, and that its tokenizers are ComfyUI's."""

from __future__ import annotations

import pytest
import torch

from tests.tiny_files import build_tiny_files

pytestmark = pytest.mark.comfyui

NODE = "PanoDiff_LoadDiT360Files"
SAMPLE = {"seed": 5, "width": 128, "height": 64, "steps": 2, "guidance": 0.0, "cfg": 0.0, "batch_size": 1}
PROMPTS = (
    "a calm sea at sunset",
    "",
    "This is a panorama image. The image depicts a café, naïve  double  spaces; 360° views & ½ moons!",
    "Ünïcode 夜の海 🌊 \n and a new line",
    "a calm sea " * 300,
)


@pytest.fixture(scope="module")
def files(comfyui):
    return build_tiny_files(comfyui / "models")


@pytest.fixture(scope="module")
def inputs(files) -> dict[str, str]:
    return {
        "transformer": files.transformer,
        "vae": files.vae,
        "clip_l": files.clip,
        "t5xxl": files.t5,
        "dtype": "float32",
    }


@pytest.fixture(scope="module")
def engine(node_classes, inputs):
    return node_classes[NODE].execute(**inputs).result[0]


@pytest.fixture(scope="module")
def condition(node_classes, engine):
    (condition,) = node_classes["PanoDiff_EncodePrompt"].execute(engine=engine, prompt=PROMPTS[0]).result
    return condition


@pytest.fixture(scope="module")
def core(files):
    """The core's engine with the same files, as one would load it without a node."""
    from custom_nodes_PanoDiff_x_1.nodes.models import tokenizer_folders
    from custom_nodes_PanoDiff_x_1.panodiff_core import load

    def load_core(**options):
        return load(
            "dit360",
            files.path("diffusion_models", files.transformer),
            parts={
                "vae": files.path("vae", files.vae),
                "text_encoder": files.path("text_encoders", files.clip),
                "text_encoder_2": files.path("text_encoders", files.t5),
                **tokenizer_folders(),
            },
            dtype="float32",
            device="cpu",
            **options,
        )

    return load_core


def sample(node_classes, engine, condition) -> torch.Tensor:
    node = node_classes["PanoDiff_SampleDiT360"]
    return node.execute(engine=engine, condition=condition, **SAMPLE).result[0]


def test_files_of_the_right_folders_are_offered(node_classes, files) -> None:
    extra = files.path("diffusion_models", "sub/other.gguf")
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(b"GGUF")
    files.path("diffusion_models", "old.ckpt").write_bytes(b"pickle")
    options = {item.id: item.options for item in node_classes[NODE].define_schema().inputs[:4]}
    offered = options["transformer"]
    assert {files.transformer, "sub/other.gguf", f"checkpoints/{files.checkpoint}"} <= set(offered)
    assert "old.ckpt" not in offered and files.vae not in offered
    first = "from the checkpoint"
    assert options["vae"][0] == options["clip_l"][0] == options["t5xxl"][0] == first
    assert files.vae in options["vae"] and files.clip not in options["vae"]
    assert {files.clip, files.t5} <= set(options["clip_l"]) and options["clip_l"] == options["t5xxl"]


def test_engine_is_the_cores(node_classes, engine, condition, core) -> None:
    expected = core()
    assert engine.formats == {**expected.formats} and "BFL" in engine.formats["transformer"]
    own = expected.encode(PROMPTS[0], negative="")
    assert torch.equal(condition.text, own.text) and torch.equal(condition.pooled, own.pooled)
    latents = sample(node_classes, engine, condition)
    plain = {"seed": 5, "width": 128, "height": 64, "steps": 2}
    assert torch.equal(latents, expected.sample(own, **plain))
    (panorama,) = node_classes["PanoDiff_DecodePanorama"].execute(engine=engine, latents=latents).result
    assert torch.equal(panorama.movedim(-1, 1), expected.decode(latents).pixels)


def test_checkpoint_serves_the_parts_that_no_file_is_chosen_for(
    node_classes, files, inputs, engine, condition
) -> None:
    whole = {name: "from the checkpoint" for name in ("vae", "clip_l", "t5xxl")}
    (other,) = (
        node_classes[NODE]
        .execute(**{**inputs, **whole, "transformer": f"checkpoints/{files.checkpoint}"})
        .result
    )
    expected = sample(node_classes, engine, condition)
    assert torch.equal(sample(node_classes, other, other.encode(PROMPTS[0])), expected)
    from custom_nodes_PanoDiff_x_1.panodiff_core.runtime.errors import CheckpointError

    with pytest.raises(CheckpointError, match="without vae, text_encoder, text_encoder_2"):
        node_classes[NODE].execute(**{**inputs, **whole})
    with pytest.raises(CheckpointError, match="holds text_encoder_2, not a text_encoder"):
        node_classes[NODE].execute(**{**inputs, "clip_l": files.t5})
    with pytest.raises(FileNotFoundError, match="gone.safetensors"):
        node_classes[NODE].execute(**{**inputs, "vae": "gone.safetensors"})


def test_lora_and_storage_reach_the_core(node_classes, files, inputs, condition, core) -> None:
    (engine,) = node_classes[NODE].execute(**inputs, lora=files.lora, lora_strength=0.5).result
    expected = core(lora=(files.path("loras", files.lora), 0.5)).sample(
        condition, seed=5, width=128, height=64, steps=2
    )
    latents = sample(node_classes, engine, condition)
    assert torch.equal(latents, expected)
    assert (latents - core().sample(condition, seed=5, width=128, height=64, steps=2)).abs().max() > 1e-3
    (small,) = node_classes[NODE].execute(**inputs, storage="float8_e4m3fn").result
    assert any(weight.dtype == torch.float8_e4m3fn for weight in small.transformer.parameters())


def test_an_fp8_file_stays_small_unless_told_otherwise(node_classes, files, inputs) -> None:
    """Also for workflows from before there was a choice, which say "same as dtype"."""
    from safetensors.torch import load_file, save_file

    path = files.path("text_encoders", files.t5)
    small = path.with_name("fp8_" + path.name)
    save_file({name: weight.to(torch.float8_e4m3fn) for name, weight in load_file(path).items()}, small)
    chosen = {**inputs, "t5xxl": small.name}
    name = "encoder.block.0.layer.0.SelfAttention.q"
    kept, default, wide = (
        node_classes[NODE].execute(**chosen, **storage).result[0].text_encoder.t5.get_submodule(name).weight
        for storage in ({"storage": "as in the file"}, {}, {"storage": "same as dtype"})
    )
    assert kept.dtype == default.dtype == torch.float8_e4m3fn
    assert wide.dtype == torch.float32 and torch.equal(wide, kept.float())


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_tokens_are_those_of_comfyui(engine, prompt) -> None:
    from comfy.sd1_clip import SDTokenizer
    from comfy.text_encoders.flux import T5XXLTokenizer

    ours = {"clip": engine.text_encoder.tokenizer, "t5": engine.text_encoder.tokenizer_2}
    assert (ours["clip"].model_max_length, ours["t5"].model_max_length) == (77, 512)
    clip, t5 = engine.text_encoder.tokenize([prompt])
    assert clip.shape == (1, 77) and t5.shape == (1, 512)
    theirs = SDTokenizer().tokenizer(prompt)["input_ids"]
    # ComfyUI goes on in a second piece after 77 tokens, and never cuts for T5; FLUX's own pipeline cuts both.
    padded = theirs + [49407] * (77 - len(theirs)) if len(theirs) <= 77 else [*theirs[:76], 49407]
    assert clip[0].tolist() == padded
    assert (ours["clip"].bos_token_id, ours["clip"].eos_token_id, ours["clip"].pad_token_id) == (
        49406,
        49407,
        49407,
    )
    theirs = T5XXLTokenizer().tokenizer(prompt)["input_ids"]
    padded = theirs + [0] * (512 - len(theirs)) if len(theirs) <= 512 else [*theirs[:511], 1]
    assert t5[0].tolist() == padded
    assert (ours["t5"].eos_token_id, ours["t5"].pad_token_id) == (1, 0)


def test_short_prompts_are_cut_up_as_comfyui_does(engine) -> None:
    """Through ComfyUI's whole tokenizer, with the length that DiT360 wants."""
    from comfy.text_encoders.flux import FluxTokenizer

    found = FluxTokenizer().tokenize_with_weights(PROMPTS[0], tokenizer_options={"t5xxl_min_length": 512})
    clip, t5 = engine.text_encoder.tokenize([PROMPTS[0]])
    assert [token for token, _ in found["l"][0]] == clip[0].tolist()
    assert [token for token, _ in found["t5xxl"][0]] == t5[0].tolist()
