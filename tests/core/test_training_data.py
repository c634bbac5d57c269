"""Training data: random access, rolling with captions, tokenizers, caches that continue."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from panodiff_core.data.captioned_latents import CaptionedLatents
from panodiff_core.data.captions import CaptionBatches, caption_classes, caption_targets, token_ids
from panodiff_core.data.crops import CropBatches, CropPlan
from panodiff_core.data.latents import LatentCache
from panodiff_core.data.panoramas import PanoramaCache, render_cache, write_cache
from panodiff_core.data.readings import NOT_THERE, READ, ReadingBatches, reading_targets
from panodiff_core.data.tokenizers import build_clip_tokenizer, build_t5_tokenizer
from panodiff_core.data.worlds import ATTRIBUTES, caption, render_equirect, sample_scene, vocabulary
from panodiff_core.runtime.errors import InputError


def column_numbers(start, stop, height=16):
    """Fake panoramas that name their own entry, row and column."""
    for entry in range(start, stop):
        row = torch.arange(height)[:, None].expand(height, 2 * height)
        column = torch.arange(2 * height)[None].expand(height, 2 * height)
        yield torch.stack([torch.full_like(row, entry), row, column]).byte()


@pytest.fixture
def cache(tmp_path):
    write_cache(tmp_path / "c", column_numbers, 6, height=16, split="train", first_seed=10, shard_size=3)
    return PanoramaCache(tmp_path / "c")


@pytest.fixture(scope="module")
def tokenizers():
    words = vocabulary()
    return build_clip_tokenizer(words, 48), build_t5_tokenizer(words, 48)


def test_rendered_cache_holds_the_scenes_it_names(tmp_path):
    render_cache(tmp_path, 2, 16, first_seed=5, shard_size=2, workers=0)
    stored = PanoramaCache(tmp_path)
    expected = render_equirect(sample_scene(6, split="train"), 16, 32)
    assert stored.seed(1) == 6
    assert float((stored[1].float() / 255 - expected).abs().max()) <= 0.5 / 255 + 1e-6


def test_cache_grows_and_refuses_other_settings(tmp_path, cache):
    assert len(cache) == 6
    before = (cache.folder / "panoramas-00000.npy").stat().st_mtime_ns
    settings = {"height": 16, "split": "train", "first_seed": 10, "shard_size": 3}
    write_cache(cache.folder, column_numbers, 7, **settings)
    grown = PanoramaCache(cache.folder)
    assert len(grown) == 9
    assert int(grown[8][0, 0, 0]) == 8
    assert (cache.folder / "panoramas-00000.npy").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="split train"):
        write_cache(cache.folder, column_numbers, 7, **{**settings, "split": "all"})
    with pytest.raises(InputError, match="worlds-cache"):
        PanoramaCache(tmp_path / "nothing")


def test_crops_wrap_and_depend_on_seed_and_index_alone(cache):
    plans = (CropPlan(8, 12, 3, 1.0), CropPlan(16, 32, 1, 1.0))
    data = CropBatches(cache, plans, seed=1)
    shapes, wrapped = set(), 0
    for index in range(40):
        batch = data[index]
        again = CropBatches(PanoramaCache(cache.folder), plans, seed=1)[index]
        assert torch.equal(batch["pixels"], again["pixels"])
        shapes.add(tuple(batch["pixels"].shape))
        assert bool(batch["ring"]) == (batch["pixels"].shape[-1] == 32)
        columns = ((batch["pixels"][:, 2, 0] + 1) * 127.5).round().long()
        steps = (columns.diff(dim=-1)) % 32
        assert set(steps.flatten().tolist()) <= {1, 31}
        wrapped += int((columns.diff(dim=-1).abs() > 1).any())
    assert shapes == {(3, 3, 8, 12), (1, 3, 16, 32)}
    assert wrapped > 5
    assert not torch.equal(
        data[0]["pixels"].flatten()[:9], CropBatches(cache, plans, seed=2)[0]["pixels"].flatten()[:9]
    )


def test_tokenizers_have_the_layout_of_clip_and_t5(tokenizers):
    clip, t5 = tokenizers
    assert clip.convert_ids_to_tokens([0, 1, 2]) == ["<|startoftext|>", "<|endoftext|>", "<unk>"]
    assert t5.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "</s>", "<unk>"]
    ids = token_ids(t5, ["Hot-air balloons, by the SEA!"])[0]
    words = t5.convert_ids_to_tokens(ids.tolist())
    assert words[:7] == ["hot", "air", "balloons", "by", "the", "sea", "</s>"]
    assert set(words[7:]) == {"<pad>"}
    ids = token_ids(clip, ["a zebra"])[0]
    assert clip.convert_ids_to_tokens(ids.tolist())[:4] == ["<|startoftext|>", "a", "<unk>", "<|endoftext|>"]
    assert set(ids[3:].tolist()) == {clip.eos_token_id}
    assert ids.shape == (48,)
    assert "<unk>" in t5.tokenize("Zürich") and len(t5.tokenize("Zürich")) == 1


def test_no_caption_has_unknown_words_or_is_cut(tokenizers):
    texts = [caption(sample_scene(i), i).text for i in range(300)]
    for tokenizer in tokenizers:
        ids = tokenizer(texts)["input_ids"]
        assert max(len(row) for row in ids) <= 48
        assert tokenizer.unk_token_id not in {token for row in ids for token in row}


def test_caption_targets_name_what_is_stated_and_nothing_else(tokenizers):
    scene = sample_scene(3)
    targets = caption_targets({"place": scene["place"]})
    assert targets[0] == ATTRIBUTES["place"].index(scene["place"]) + 1
    assert set(targets[1:]) == {0}
    batch = CaptionBatches(*tokenizers, batch_size=16, seed=0)[4]
    assert batch["targets"].shape == (16, len(caption_classes()))
    assert torch.equal(batch["t5"], CaptionBatches(*tokenizers, batch_size=16, seed=0)[4]["t5"])
    assert (batch["targets"].max(dim=0).values < torch.tensor(list(caption_classes().values()))).all()


@pytest.fixture
def latents(tmp_path):
    values = np.zeros((6, 16, 4, 8), dtype=np.float16)
    values[:] = np.arange(8)  # every column knows its number
    values[:, 0] = np.arange(6)[:, None, None]
    np.save(tmp_path / "latents-00000.npy", values)
    index = {
        "height": 32,
        "split": "train",
        "first_seed": 40,
        "autoencoder": 1.5,
        "shards": 1,
        "shard_size": 6,
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    return LatentCache(tmp_path)


def test_latents_are_turned_together_with_their_captions(latents, tokenizers):
    data = CaptionedLatents(latents, *tokenizers, batch_size=4, seed=2, dropout=0.0)
    rng = np.random.default_rng(0)
    turned = set()
    for _ in range(40):
        latent, text = data._sample(2, rng)
        first = int(latent[1, 0, 0])
        turn = (-first) % 8 // 2
        turned.add(turn)
        assert first % 2 == 0  # whole tokens only
        scene = sample_scene(42).rotated(360.0 * turn / 4)
        said = {word for seed in range(400) for word in caption(scene, seed).text.replace(",", " ").split()}
        assert set(text.replace(",", " ").split()) <= said
    assert turned == {0, 1, 2, 3}


def test_every_epoch_visits_every_scene_once(latents, tokenizers):
    data = CaptionedLatents(latents, *tokenizers, batch_size=3, seed=2, dropout=0.5)
    orders = []
    for epoch in range(3):
        batches = [data[2 * epoch + i] for i in range(2)]
        orders.append([int(v) for b in batches for v in b["latents"][:, 0, 0, 0]])
        assert sorted(orders[-1]) == list(range(6))
    assert orders[0] != orders[1]
    fresh = CaptionedLatents(latents, *tokenizers, batch_size=3, seed=2, dropout=0.5)
    assert torch.equal(fresh[5]["t5"], data[5]["t5"])
    empty = sum(int((data[i]["t5"][:, 0] == 1).sum()) for i in range(40))
    assert 35 < empty < 85


def test_the_light_can_be_named_more_often(latents, tokenizers):
    def share(named: float) -> float:
        data = CaptionedLatents(
            latents, *tokenizers, batch_size=1, seed=2, dropout=0.0, name_often={"light": named}
        )
        rng = np.random.default_rng(1)
        lit = [i for i in range(6) if sample_scene(40 + i).light_direction is not None]
        words = {"left", "right", "ahead", "behind", "front", "back", "center"}
        texts = [data._sample(entry, rng)[1] for entry in lit for _ in range(40)]
        return sum(bool(words & set(text.replace(",", " ").split())) for text in texts) / len(texts)

    assert share(0.0) < 0.8 and share(1.0) == 1.0


def test_places_can_be_shown_more_often(latents, tokenizers):
    place = sample_scene(41)["place"]
    several = [i for i in range(6) if sample_scene(40 + i)["place"] == place]
    count = 6 + 2 * len(several)
    data = CaptionedLatents(latents, *tokenizers, batch_size=count, seed=2, repeat={place: 3})
    for epoch in range(2):
        shown = [int(v) for v in data[epoch]["latents"][:, 0, 0, 0]]
        assert {i: shown.count(i) for i in range(6)} == {i: 3 if i in several else 1 for i in range(6)}


def test_reading_targets_follow_the_scene_around():
    scene = next(s for s in map(sample_scene, range(50)) if s.light_azimuth_deg is not None)
    classes, (sin, cos, there) = reading_targets(scene.rotated(90.0))
    assert there == 1.0
    assert np.degrees(np.arctan2(sin, cos)) % 360 == pytest.approx(
        (scene.light_azimuth_deg + 90) % 360, abs=1e-4
    )
    for name, value in zip(READ, classes, strict=True):
        known = scene.attributes()[name]
        assert value == (NOT_THERE if known is None else ATTRIBUTES[name].index(known))


def test_reading_batches_turn_and_mirror_pixels_and_light_alike(tmp_path):
    """A single bright column painted at the light's azimuth stays there through rolling and mirroring."""

    def lights(start, stop):
        for entry in range(start, stop):
            azimuth = sample_scene(entry, split="train").light_azimuth_deg
            picture = torch.zeros(3, 32, 64)
            if azimuth is not None:
                picture[:, :, int((azimuth / 360 + 0.5) * 64) % 64] = 255
            yield picture.byte()

    write_cache(tmp_path, lights, 12, height=32, split="train", first_seed=0, shard_size=12)
    data = ReadingBatches((PanoramaCache(tmp_path),), 16, seed=0, disturb=False)
    for index in range(3):
        batch = data[index]
        for pixels, light in zip(batch["pixels"], batch["light"], strict=True):
            if light[2]:
                azimuth = (int(pixels[0, 0].argmax()) + 0.5) / 64 * 360 - 180
                gap = (azimuth - float(torch.rad2deg(torch.atan2(light[0], light[1]))) + 180) % 360 - 180
                assert abs(gap) < 360 / 64
