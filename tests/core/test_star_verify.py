"""The autoencoder's part of STAR's acceptance table: it passes, compares every golden tensor, and notices one wrong number."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

import panodiff_core as pano
from panodiff_core.engines.star.verification import GROUPS, StarVectors, verify, vqvae
from panodiff_core.verification import Absent, Row, measure
from tests.core.star_vectors import FOLDER, Folder

OURS = r"vae\..+|interp\.(area|bicubic).+|norm\.gn_out|phi\..+"


def rows(folder: StarVectors) -> list[Row]:
    found = []
    for title, outcome in measure(vqvae.GROUPS, folder):
        assert not isinstance(outcome, Absent), title
        found += outcome
    return found


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return Folder().tensors("star")


@pytest.fixture(scope="module")
def passed() -> list[Row]:
    return rows(Folder())


def test_every_number_is_met(passed):
    assert [row for row in passed if not row.met] == []
    assert [row.what for row in passed if row.above] == ["another φ"]


def test_every_golden_tensor_is_compared(passed, golden):
    expected = {key for key in golden if re.fullmatch(OURS, key)} - {"vae.img"}
    assert {row.what for row in passed} - {"another φ"} == expected and len(expected) == 40


def test_errors_are_far_below_their_bounds(passed):
    """Float32 against the reference's float32: the bounds leave no room for another formula."""
    assert all(row.error <= row.bound / 20 for row in passed if not row.above and row.bound)


KEYS = [
    "vae.enc_out",
    "vae.f",
    "vae.idx.3",
    "vae.f_hat.0",
    "vae.f_hat.5",
    "vae.x_BLCv_wo_first_l",
    "vae.decoder_unclamped",
    "vae.recon_last",
    "vae.recon_from_idx",
    "vae.quant_forward_f_hat",
    "vae.quant_forward_loss",
    "interp.area_8_to_5",
    "interp.bicubic_3_to_8",
    "norm.gn_out",
    "phi.ticks",
    "phi.index.SN10",
]


@pytest.mark.parametrize("key", KEYS)
def test_one_wrong_number_is_noticed(key, golden):
    changed = golden[key].clone()
    flat = changed.view(-1)
    if changed.is_floating_point():
        flat[-1] += 1e-15 if changed.dtype == torch.float64 else 2e-4 * (1 + changed.abs().max())
    else:
        flat[-1] = (flat[-1] + 1) % 4
    assert key in {row.what for row in rows(Folder({key: changed})) if not row.met}


def test_wrong_weights_are_noticed(monkeypatch):
    """One bias of one shared convolution off by a thousandth changes what it smooths, and nothing before it."""
    load = Folder.vqvae

    def wrong(self):
        vae = load(self)
        vae.quantize.quant_resi.qresi_ls[1].bias.data[0] += 1e-3
        return vae

    monkeypatch.setattr(Folder, "vqvae", wrong)
    unmet = {row.what for row in rows(Folder()) if not row.met}
    assert {"vae.f_hat.2", "vae.f_hat.5"} <= unmet
    assert not unmet & {"vae.f_hat.0", "vae.f_hat.1", "vae.enc_out"}


def test_missing_files_and_tensors(tmp_path):
    for file in ("weights", "star"):
        folder = Path(shutil.copytree(FOLDER, tmp_path / file))
        (folder / f"{file}.safetensors").unlink()
        outcomes = [outcome for _, outcome in measure(vqvae.GROUPS, StarVectors(folder))]
        assert all(isinstance(each, Absent) and each.file == f"{file}.safetensors" for each in outcomes)

    class Without(Folder):
        def tensors(self, name):
            return {key: t for key, t in super().tensors(name).items() if key != "vae.f_hat.2"}

    unmet = [row for row in rows(Without()) if not row.met]
    assert [row.what for row in unmet] == ["the vectors lack 'vae.f_hat.2'"]


def test_verify_begins_with_the_autoencoder():
    """Its groups are among all groups, no two of which have one title."""
    assert GROUPS[: len(vqvae.GROUPS)] == vqvae.GROUPS
    assert len({group.title for group in GROUPS}) == len(GROUPS) > len(vqvae.GROUPS)
    title, outcome = next(iter(verify(FOLDER)))
    assert title == vqvae.GROUPS[0].title and all(row.met for row in outcome)
    with pytest.raises(pano.InputError, match="there is no folder"):
        verify(FOLDER / "nowhere")


def test_sizes_come_from_the_files():
    vectors = Folder()
    generator, vae, faceray = vectors.generator_config(), vectors.vqvae_config(), vectors.faceray_config()
    assert (generator.depth, generator.width, generator.heads, generator.sampler_blocks) == (3, 48, 4, 3)
    assert (generator.text_width, generator.text_tokens, generator.sampler_from) == (56, 7, 5)
    assert (vae.channels, vae.multipliers, vae.blocks, vae.vocab, vae.latent_channels) == (
        32,
        (2, 1),
        1,
        64,
        8,
    )
    assert (faceray.adapter_dim, faceray.heads, faceray.head_dim, faceray.ray_subdim) == (60, 2, 30, 24)
    assert len(vectors.faceray_weights()) == 18
