"""A folder of STAR's golden vectors: weights under official names, inputs and outputs, configuration in the metadata.

Sizes come from the weights' shapes, and what no shape tells from the metadata; nothing is assumed.
"""

from __future__ import annotations

import json
from typing import Any

from ....io.checkpoints.entries import Entry, with_prefix_removed
from ....io.checkpoints.safetensors_files import open_safetensors
from ....runtime.errors import CheckpointError
from ....verification import VectorFolder
from ..checkpoint import StarWeights, load_vqvae, open_weights
from ..checkpoint.formats import GENERATOR
from ..checkpoint.shapes import faceray_config, generator_config, vqvae_config
from ..config import FaceRayConfig, STARConfig, VQVAEConfig
from ..scales import Scales
from ..vqvae import VQVAE

WEIGHTS, RESULTS = "weights", "star"
FACERAY_WEIGHTS, FACERAY_RESULTS = "faceray_weights", "faceray"


class StarVectors(VectorFolder):
    """Read access to the vectors of STAR and FaceRay.

    Raises InputError when there is no such folder; a file that it lacks raises FileNotFoundError when it is asked for,
    damaged weights and metadata raise CheckpointError.
    """

    def about(self, name: str = RESULTS) -> dict[str, Any]:
        """How NAME.safetensors was made, the JSON object in its metadata."""
        try:
            about = json.loads(self.metadata(name)["config"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{name}.safetensors has no configuration in its metadata ({error})"
            ) from error
        if not isinstance(about, dict):
            raise CheckpointError(f"{name}.safetensors: its configuration is no JSON object")
        return about

    def weights(self) -> StarWeights:
        """The entries of generator and autoencoder under official names."""
        return open_weights(self.path(f"{WEIGHTS}.safetensors"))

    def faceray_weights(self) -> dict[str, Entry]:
        """The entries of the adapters under their official-extended names."""
        entries, _ = open_safetensors([self.path(f"{FACERAY_WEIGHTS}.safetensors")])
        return with_prefix_removed(entries, f"{GENERATOR}.")

    def generator_config(self, **changed: Any) -> STARConfig:
        """The generator's configuration, with `changed` settings such as cross_attention."""
        about = self.about(WEIGHTS)
        said, base = about["var"], STARConfig()
        base = base.changed(
            patch_nums=tuple(said["patch_nums"]),
            text_tokens=about.get("text_len"),
            norm_eps=said["norm_eps"],
            rope_norm=said["rope_norm"],
            rope_theta=said["rope_theta"],
            logit_norm=said["enable_logit_norm"],
            from_idx=said["sample_from_idx"],
        )
        return generator_config(self.weights().generator, base, WEIGHTS).changed(**changed)

    def vqvae_config(self) -> VQVAEConfig:
        """The autoencoder's configuration."""
        base = VQVAEConfig(phi_ratio=self.about(WEIGHTS)["vae"]["quant_resi"])
        return vqvae_config(self.weights().vqvae, base, WEIGHTS)

    def faceray_config(self, **changed: Any) -> FaceRayConfig:
        """The adapters' configuration, with `changed` settings such as adapter_input."""
        about = self.about(FACERAY_WEIGHTS)
        said = about["adapter"]
        names = ("adapter_dim", "head_dim", "ray_subdim")
        base = FaceRayConfig(
            heads=said["num_heads"],
            strip_w=about["strip_w"],
            k=about["k"],
            **{name: said[name] for name in names},
        )
        found = faceray_config(self.faceray_weights(), base, FACERAY_WEIGHTS)
        if found is None:
            raise CheckpointError(f"{FACERAY_WEIGHTS}.safetensors holds no adapter")
        return found.changed(**changed)

    def scales(self) -> Scales:
        """The scale list of the vectors."""
        return Scales(self.generator_config().patch_nums)

    def vqvae(self) -> VQVAE:
        """The autoencoder with the folder's weights in float32."""
        return load_vqvae(self.weights().vqvae, self.vqvae_config(), self.scales(), WEIGHTS)
