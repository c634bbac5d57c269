"""How `generate` makes pictures, engine by engine: what each takes, checks before it loads, and does.

`DiT360Making` and `StarMaking` share one form: made from the parsed arguments, they refuse what can be refused without
weights, tell the `size` (height, width) of the pictures, and `make(engine)` them.
"""

from .dit360 import DiT360Making
from .made import Made
from .star import StarMaking

MAKINGS = {"dit360": DiT360Making, "star": StarMaking}

__all__ = ["MAKINGS", "Made"]
