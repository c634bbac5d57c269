"""What `evaluate` is made of: held-out scenes, pictures kept on disk, figures, the written report.

`DiT360Evaluation` and `StarEvaluation` share one form: made from the parsed arguments, they refuse what can be refused
without weights; `load_reader(folder)` gives the reader of attributes that suits, `measure(engine, reader)` the figures
and the verdict, and `words(figures, criteria)` both as markdown. `OPTIONS` are the options that are theirs.
"""

from .dit360 import DiT360Evaluation
from .star import StarEvaluation

EVALUATIONS = {"dit360": DiT360Evaluation, "star": StarEvaluation}

__all__ = ["EVALUATIONS"]
