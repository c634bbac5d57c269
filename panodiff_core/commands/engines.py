"""`engines`: which engines there are, whether their small models are installed, and which libraries are
missing.
"""

from __future__ import annotations

import argparse
from importlib import metadata

from ..engines import describe

# Library -> what it is for, as the person sees it.
LIBRARIES = {
    "torch": "everything",
    "numpy": "everything",
    "pillow": "pictures",
    "safetensors": "weights",
    "diffusers": "transformers and VAEs of the engines",
    "transformers": "text encoders",
    "accelerate": "loading, offload, training",
    "peft": "LoRA",
    "xformers": "optional: memory-efficient attention",
}


def add_parser(commands) -> None:
    """Add `engines` to the command line."""
    parser = commands.add_parser(
        "engines",
        help="what is installed and what is missing",
        description="What is installed and what is missing.",
    )
    parser.set_defaults(run=run)


def _versions() -> list[tuple[str, str, str]]:
    rows = []
    for name, use in LIBRARIES.items():
        try:
            rows.append((name, metadata.version(name), use))
        except metadata.PackageNotFoundError:
            rows.append((name, "not installed" if use.startswith("optional") else "MISSING", use))
    return rows


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of texts in columns of equal width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def run(args: argparse.Namespace) -> int:
    """Print the two tables; exit code 0 also when something is missing, since that is the answer."""
    rows = [("ENGINE", "SMALL MODEL", "WHAT IT DOES")]
    notes = []
    for engine in describe():
        if engine.installed:
            state = "installed"
        elif engine.folder is None:
            state = "none in this version"
            notes.append(f"{engine.name}: give {engine.files}")
        elif engine.folder.is_dir():
            state = f"incomplete: {len(engine.missing)} missing"
            notes.append(f"{engine.name}: {engine.folder} lacks {', '.join(engine.missing)}")
        else:
            state = "MISSING"
            notes.append(
                f"{engine.name}: there is no folder {engine.folder}; reinstall PanoDiff, or use --model PATH"
            )
        rows.append((engine.name, state, engine.summary))
    libraries = _versions()
    print(table(rows), *notes, "", table([("LIBRARY", "VERSION", "NEEDED FOR"), *libraries]), sep="\n")
    if any(version == "MISSING" for _, version, _ in libraries):
        print("Install what is missing: pip install -r requirements.txt")
    return 0
