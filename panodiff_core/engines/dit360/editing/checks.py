"""What editing refuses: schedulers without steps, tokens and masks of another grid, shares beyond 0 to 1."""

from __future__ import annotations

from torch import Tensor

from ....runtime.errors import InputError
from ....schedulers.flow_matching import FlowMatchScheduler


def count_steps(scheduler: FlowMatchScheduler) -> int:
    """The scheduler's steps. Raises InputError when it has none yet."""
    if scheduler.steps < 1:
        raise InputError("the scheduler has no steps: call set_timesteps first")
    return scheduler.steps


def check_tokens(name: str, tokens: Tensor, shape: tuple[int, ...]) -> None:
    """Raise InputError unless `tokens` have this shape [B, N, 4C]."""
    if tuple(tokens.shape) != tuple(shape):
        raise InputError(f"{name} must be padded tokens {list(shape)}, got {list(tokens.shape)}")


def check_share(name: str, value: float) -> None:
    """Raise InputError unless `value` is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise InputError(f"{name} must be a number from 0 to 1, got {value!r}")


def check_keep(keep: Tensor, tokens: int) -> None:
    """Raise InputError unless `keep` is a mask [tokens, 1] in 0..1."""
    if tuple(keep.shape) != (tokens, 1):
        raise InputError(f"keep must be [{tokens}, 1] (see `pad_mask`), got {list(keep.shape)}")
    if not bool(((keep >= 0) & (keep <= 1)).all()):
        raise InputError("keep must lie in 0..1; 1 takes the place from the source")
