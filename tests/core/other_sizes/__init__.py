"""A second folder of golden vectors, of other sizes everywhere, made by diffusers and transformers alone.

The loops around the networks are written out here once more, plainly, so that nothing of the engine makes what it is
compared with. What only the published code makes, its yaw and cube maps, is cut out of the checkout's own vectors:
other channels, samples in another order.
"""

from __future__ import annotations

from pathlib import Path

import torch

from .editing import make_editing
from .image_to_image import make_image_to_image
from .network import Maker, make_forward
from .others import make_losses, make_schedules, make_text
from .trajectories import make_padding, make_trajectories


def make_vectors(folder: Path) -> None:
    """Write the folder: batch 2, 3×5 tokens, padding 2, 3 steps; other grids and paddings in its other files."""
    folder.mkdir()
    makes = (make_forward, make_schedules, make_padding, make_trajectories, make_image_to_image)
    makes += (make_editing, make_losses, make_text)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        maker = Maker(folder)
        for make in makes:
            make(maker)
