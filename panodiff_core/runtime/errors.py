"""The one family of errors that PanoDiff raises on purpose.

Every message names the thing that is wrong and the way out. Nodes and the command line show the message as it
is.
"""

from __future__ import annotations


class PanoDiffError(Exception):
    """Base of all errors raised on purpose; catching it catches nothing else."""


class CheckpointError(PanoDiffError):
    """A model on disk is missing, incomplete, corrupt, of an unknown format or does not fit its
    configuration.
    """


class InputError(PanoDiffError, ValueError):
    """A value given by the caller cannot be used: a size, a prompt, an option, the shape of a picture."""


class NumericalError(PanoDiffError):
    """NaN or infinity appeared; the message says in which stage and, while sampling, at which step."""


class MemoryLimitError(PanoDiffError):
    """There was not enough memory; the message says what was needed and what to switch."""


class Cancelled(PanoDiffError):
    """The caller asked to stop. Raise it in `on_step`; the engine stays usable afterwards."""
