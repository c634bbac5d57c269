"""What the commands share towards a person: messages, suggestions, progress. Results go to stdout, all else
to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from ..runtime.progress import Step

OTHER_NAMES = {
    **dict.fromkeys(("width", "size", "resolution"), "height"),
    **dict.fromkeys(("cfg-scale", "true-cfg-scale"), "cfg"),
    **dict.fromkeys(("guidance-scale", "distilled-guidance"), "guidance"),
    **dict.fromkeys(("negative-prompt", "neg-prompt"), "negative"),
    **dict.fromkeys(("num-steps", "num-inference-steps", "sampling-steps"), "steps"),
    **dict.fromkeys(("batch-size", "num-images", "num-images-per-prompt"), "batch"),
    **dict.fromkeys(("noise-seed", "random-seed"), "seed"),
    **dict.fromkeys(("init-image", "input-image"), "image"),
    **dict.fromkeys(("denoise", "denoising-strength"), "strength"),
    **dict.fromkeys(("lora-scale", "lora-weight"), "lora-strength"),
    **dict.fromkeys(("ckpt", "checkpoint", "model-path"), "model"),
    **dict.fromkeys(("output", "filename"), "out"),
}
"""What diffusers, ComfyUI and other programs call an option -> ours, both without dashes."""


def say(text: str) -> None:
    """One message on stderr."""
    print(text, file=sys.stderr, flush=True)


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the closest known word, or "." where none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "."


def nearest_option(option: str, known: Iterable[str]) -> str:
    """`nearest` for an option that starts with dashes; it also knows what other programs call ours."""
    names = {name.lstrip("-"): name for name in known}
    word = option.lstrip("-").replace("_", "-").lower()
    ours = OTHER_NAMES.get(word)
    if ours not in names:
        # Dashes are in every option, so they are no likeness.
        close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.7)
        return f"; did you mean {names[close[0]]!r}?" if close else "."
    hint = " The width is twice that." if ours == "height" else ""
    return f"; did you mean {names[ours]!r}?{hint}"


class CommandParser(argparse.ArgumentParser):
    """Options are never guessed from their first letters, and an error is one line; `commands` maps command names to
    their parsers.
    """

    commands: dict[str, CommandParser]

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def option_names(self) -> list[str]:
        """All option spellings, such as "--seed"."""
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Say what cannot be understood, without the usage, which is a page long; exit code 2."""
        self.exit(2, f"error: {message}. See {self.prog} --help.\n")


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}")


@contextlib.contextmanager
def warnings_to_stderr() -> Iterator[None]:
    """While the block runs, what the core logs appears on stderr, one plain line each."""
    log = logging.getLogger(__name__.split(".")[0])
    handler = _Lines(logging.WARNING)
    # Without this a host's own handlers would print every line a second time.
    before, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before


def _seconds(value: float) -> str:
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


class Progress:
    """Steps done, seconds per step and time left: one line of a terminal, or a few lines of a log file."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._start = clock()
        self._told = -1.0

    def __call__(self, step: Step) -> None:
        """To be given to an engine as `on_step`."""
        self.update(step.index, step.total)

    def update(self, done: int, total: int) -> None:
        """Say that `done` of `total` steps are finished."""
        spent = self._clock() - self._start
        left = _seconds(spent / done * (total - done))
        text = f"{self._what} {done}/{total}, {spent / done:.2f} s per step, {left} left"
        if sys.stderr.isatty():
            print(f"\r{text:<78}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done in (1, total) or done / total - self._told >= 0.2:
            self._told = done / total
            say(text)
