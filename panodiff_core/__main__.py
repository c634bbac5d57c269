"""`python -m panodiff_core COMMAND …`: PanoDiff without ComfyUI.

Exit codes: 0 done, 1 an error that the message explains, 2 a command line that cannot be understood, 130
Ctrl-C, 141 nobody reads what is printed any more (`… | head -1`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from . import __version__
from .commands import convert, download, engines, evaluate, generate, runbook, train, verify, worlds
from .commands.console import CommandParser, nearest, nearest_option, say, warnings_to_stderr
from .runtime.errors import Cancelled, PanoDiffError

# 128 + SIGINT and 128 + SIGPIPE, as a shell reports them.
STOPPED, UNREAD = 130, 141
# What a headless run needs beside torch; an absent one is a plain sentence, not a traceback.
_LIBRARIES = {
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "numpy",
    "PIL",
    "torch",
    "webdataset",
}


def build_parser() -> CommandParser:
    """The parser of the whole command line; every command's own parser hangs below it."""
    parser = CommandParser(
        prog="python -m panodiff_core",
        description="PanoDiff: 360° panoramas from text, with a seam that you can measure.",
    )
    parser.add_argument("--version", action="version", version=f"PanoDiff {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for module in (generate, verify, evaluate, train, runbook, worlds, engines, download, convert):
        module.add_parser(commands)
    parser.commands = commands.choices
    return parser


def _parse(argv: list[str]):
    """The parsed arguments, or an exit code where there is nothing to run."""
    parser = build_parser()
    names = list(parser.commands)
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    if not argv[0].startswith("-") and argv[0] not in names:
        say(f"error: unknown command {argv[0]!r}{nearest(argv[0], names)}")
        say(f"The commands are: {', '.join(names)}.")
        if " " in argv[0]:
            say(f"To make a panorama from a prompt: python -m panodiff_core generate {argv[0]!r}")
        return 2
    args, rest = parser.parse_known_args(argv)
    if rest:
        say(f"error: {_leftover(rest, _parser_of(args, parser))}")
        return 2
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    return args


def _parser_of(args, parser: CommandParser) -> CommandParser:
    """The parser whose help lists the options that these arguments could have had."""
    command = parser.commands.get(args.command, parser)
    return train.recipe_parser(command, args.recipe) if args.command == "train" else command


def _leftover(rest: list[str], parser: CommandParser) -> str:
    option = next((word for word in rest if word.startswith("-")), None)
    if option is not None:
        known = [name for name in parser.option_names() if name.startswith("--")]
        return (
            f"unknown option {option}{nearest_option(option.split('=')[0], known)} See {parser.prog} --help."
        )
    return (
        f"{' '.join(rest)!r} is left over; put a prompt of several words in quotes. See {parser.prog} --help."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Errors that PanoDiff raises on purpose become one
    message.
    """
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        print(end="", flush=True)  # what is left would fail after the end, where nothing can catch it
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return UNREAD
    return code


def _run(argv: list[str]) -> int:
    try:
        args = _parse(argv)
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a usage error it has printed
        return stop.code if isinstance(stop.code, int) else 2
    if isinstance(args, int):
        return args
    # Training keeps a log of its own.
    with contextlib.nullcontext() if args.command == "train" else warnings_to_stderr():
        try:
            return args.run(args) or 0
        except (KeyboardInterrupt, Cancelled):
            say("\nstopped. Finished files stay; no half-written one is left.")
            return STOPPED
        except PanoDiffError as error:
            say(f"error: {error}")
            return 1
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in _LIBRARIES:
                raise
            say(f"error: the Python package {error.name!r} is missing; run: pip install -r requirements.txt")
            return 1
        except BrokenPipeError as error:
            if args.command == "train":  # prints nothing, so the pipe led to a process that reads data
                raise RuntimeError("a process of the training broke off") from error
            raise


if __name__ == "__main__":
    sys.exit(main())
