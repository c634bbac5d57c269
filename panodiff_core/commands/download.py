"""`download`: the real weights, from where they are published to where they are looked for.

What does the downloading lies in the package `downloader`, which the archive of the ComfyUI registry leaves out:
there the command says so and lists what to fetch by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..engines.dit360.checkpoint.sources import LAYOUTS, LORA, PARTS, T5_PRECISIONS, Source, by_hand, choose
from ..engines.star.sources import where_to_get as by_hand_star
from ..runtime.errors import InputError
from .console import say

STOPPED = 130


def add_parser(commands) -> None:
    """Add `download` to the command line."""
    parts = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser = commands.add_parser(
        "download",
        help="fetch the real weights (FLUX.1-dev, DiT360's LoRA)",
        description="Fetch FLUX.1-dev and DiT360's LoRA into a models folder, about 34 GB. Broken transfers go on "
        "where they stopped, every file is verified by checksum, and what is there already is not fetched again. "
        "FLUX.1-dev is gated: accept its licence on huggingface.co/black-forest-labs/FLUX.1-dev first, and give a "
        "read token of that account. See docs/weights.md.",
        epilog=f"Parts: {parts}. STAR's published files are fetched by hand: `download star` lists them.",
    )
    add = parser.add_argument
    add("engine", choices=("dit360", "star"), metavar="ENGINE", help="dit360 (star: only a list)")
    add(
        "--layout",
        choices=LAYOUTS,
        default="diffusers",
        help="diffusers: a model folder, for --model and Load DiT360; comfyui: the single files that ComfyUI's own "
        "loaders read (default: diffusers)",
    )
    add(
        "--to",
        type=Path,
        default=Path("models"),
        metavar="DIR",
        help="models folder, such as ComfyUI/models; files go into its usual sub-folders (default: models)",
    )
    add(
        "--only",
        action="append",
        choices=tuple(PARTS),
        metavar="PART",
        help="only this part; can be repeated",
    )
    add("--t5", choices=T5_PRECISIONS, help="precision of the comfyui layout's T5 (default: fp16)")
    add("--lora-from", metavar="OWNER/REPO/FILE", help=f"another LoRA file than the one of {LORA}")
    add("--dry-run", action="store_true", help="list files, sizes and what is missing; fetch nothing")
    add("--replace", action="store_true", help="fetch anew what is there with other content than the hub's")
    add("--token-file", type=Path, metavar="FILE", help="file that holds an access token (default: HF_TOKEN)")
    add("--endpoint", metavar="URL", help="another hub (default: HF_ENDPOINT, or huggingface.co)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan, then list or fetch; a list needs no hub. Raises InputError for an unusable option, DownloadError for what cannot be had;
    a Ctrl-C keeps what has arrived and exits 130.
    """
    if args.engine == "star":
        raise InputError(
            f"this command fetches nothing of STAR, whose files are fetched by hand.\n{by_hand_star()}"
        )
    chosen = choose(args.layout, args.only or (), args.t5, args.lora_from)
    _check_options(args)
    token = None if args.token_file is None else _read_token(args.token_file)
    try:
        from .downloader import job
        from .downloader.hub import Hub, Unreachable
    except ModuleNotFoundError as error:
        if error.name != f"{__package__}.downloader":
            raise
        raise InputError(_not_here(chosen)) from None
    root = args.to.expanduser()
    try:
        hub = Hub(args.endpoint, token)
        items = job.plan(hub, chosen, root)
        if args.dry_run:
            print(job.show(items))
        else:
            job.download(hub, items, args.replace)
    except Unreachable as problem:
        if not args.dry_run:
            raise
        print(job.show_unasked(chosen, root))
        say(f"Exact sizes, and what * stands for, are not known: {problem}")
    except KeyboardInterrupt:
        say(
            "\nstopped. Finished files stay, and so does what has arrived of the next one: run it again to go on."
        )
        return STOPPED
    return 0


def _check_options(args: argparse.Namespace) -> None:
    if args.endpoint is not None and not args.endpoint.startswith(("https://", "http://")):
        raise InputError(
            f"--endpoint is {args.endpoint!r}; give a full address, such as https://huggingface.co."
        )
    if args.to.exists() and not args.to.is_dir():
        raise InputError(f"--to is {args.to}, which is a file; give a folder.")


def _read_token(path: Path) -> str:
    try:
        words = path.expanduser().read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not a text file"
        raise InputError(f"cannot read the token file {path}: {reason}.") from problem
    if len(words) != 1 or not words[0].isascii():
        raise InputError(f"the token file {path} should hold one access token and nothing else.")
    return words[0]


def _not_here(sources: tuple[Source, ...]) -> str:
    lines = "\n".join(f"  {source.part}: {by_hand(source)}" for source in sources)
    return (
        "this installation has no downloader: the archive of the ComfyUI registry comes without one, a clone of the "
        f"repository has it. By hand, with models as ComfyUI's models folder:\n{lines}"
    )
