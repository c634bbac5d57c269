"""`evaluate`: seams, prompts followed, diversity of an engine's pictures on held-out worlds, written as a
report.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.atomic import check_writable
from ..runtime.errors import InputError
from .console import say
from .dit360_options import add_sampling_options, check_plan, planned, sampling_values
from .options import add_engine_options, load_engine

if TYPE_CHECKING:
    from torch import Tensor

    from .evaluation.attributes import Reader, Reading
    from .evaluation.criteria import Criterion
    from .evaluation.pictures import Studio
    from .evaluation.scenes import Case

EVALUATED = ("dit360",)
SHEET_PICTURES = 12
YAW_PICTURES = 16
# Pictures are seeded with 100,000 × this and more, in 64 bits.
MAX_SEED = 10**12
# Worlds are rings by construction, so each is measured at this many columns.
TURNS = 8
SEAM_VARIANTS: Mapping[str, Mapping[str, object]] = {
    "neither": {"padding": 0, "roll": "off"},
    "padding": {"padding": 1, "roll": "off"},
    "roll (alternate)": {"padding": 0, "roll": "alternate"},
    "roll (late)": {"padding": 0, "roll": "late"},
    "roll (random)": {"padding": 0, "roll": "random"},
    "both (alternate)": {"padding": 1, "roll": "alternate"},
    "both (late)": {"padding": 1, "roll": "late"},
    "both (random)": {"padding": 1, "roll": "random"},
}

_COUNTS = {
    "prompts": (64, "held-out prompts"),
    "seed": (0, "which scenes and which noise"),
    "batch": (8, "pictures made at once"),
    "diversity-prompts": (4, "prompts that are made several times"),
    "diversity-seeds": (8, "pictures per such prompt"),
    "seam-study": (0, "compare padding, roll, both and neither on so many prompts"),
}


def add_parser(commands) -> None:
    """Add `evaluate` to the command line."""
    parser = commands.add_parser(
        "evaluate",
        help="measure an engine on held-out prompts",
        description="Make panoramas for captions of held-out worlds and measure seams, poles, attributes and "
        "diversity against the worlds themselves. Writes evaluation.json and .md, grid.png and all pictures; "
        "pictures that are already there are used again.",
    )
    add, names = parser.add_argument, EVALUATED
    add("engine", choices=names, metavar="ENGINE", help=f"one of {', '.join(names)}")
    add("--out", type=Path, default=Path("evaluation"), metavar="DIR", help="default: evaluation")
    for name, (default, words) in _COUNTS.items():
        add(f"--{name}", type=int, default=default, metavar="N", help=f"{words} (default: {default})")
    add("--reader", type=Path, metavar="PATH", help="attribute reader (default: the one that ships)")
    add("--no-attributes", action="store_true", help="leave the attributes out; no reader is needed")
    add_sampling_options(parser)
    add_engine_options(parser)
    parser.set_defaults(run=run)


def check_request(args: argparse.Namespace) -> None:
    """Refuse impossible counts and an unwritable folder before a model loads. Raises `InputError`."""
    least = {
        "prompts": SHEET_PICTURES,
        "batch": 1,
        "diversity_prompts": 1,
        "diversity_seeds": 2,
        "seam_study": 0,
        "seed": 0,
    }
    for name, low in least.items():
        if getattr(args, name) < low:
            raise InputError(f"--{name.replace('_', '-')} must be at least {low}, got {getattr(args, name)}.")
    if args.seed > MAX_SEED:
        raise InputError(f"--seed must be at most {MAX_SEED}, got {args.seed}.")
    if 0 < args.seam_study < SHEET_PICTURES:
        raise InputError(
            f"--seam-study needs at least {SHEET_PICTURES} prompts to say anything, got {args.seam_study}."
        )
    plan = planned(args.engine, args.model, sampling_values(args))
    check_plan(plan)
    if plan.width != 2 * plan.height:
        raise InputError(f"the model's default size {plan.width} x {plan.height} is not 2:1; give --height.")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"cannot make the folder {args.out}: {problem.strerror}; choose another --out."
        ) from problem
    check_writable(args.out / "evaluation.json")


def run(args: argparse.Namespace) -> int:
    """Generate, measure, write; exit code 0 whatever the figures say, they are the result."""
    check_request(args)
    from .evaluation.report import verdict_table, write_report

    reader = None if args.no_attributes else load_attribute_reader(args.reader)
    evaluation = Evaluation(args, load_engine(args), reader)
    figures, criteria = evaluation.measure()
    data, text = write_report(args.out, figures, criteria)
    print(verdict_table(criteria))
    print(f"\nreport  {text}\nfigures {data}\ngrid    {args.out / 'grid.png'}")
    return 0


def load_attribute_reader(path: Path | None) -> Reader:
    """The trained reader. Raises `CheckpointError` where there is none."""
    from ..metrics.attributes import load_reader

    return load_reader(path)


class Evaluation:
    """One evaluation: the engine, the pictures it makes, the worlds they are compared with, the attribute
    reader.
    """

    def __init__(self, args: argparse.Namespace, engine, reader: Reader | None) -> None:
        from .evaluation.pictures import Studio
        from .evaluation.scenes import held_out_cases

        self.args, self.engine, self.reader = args, engine, reader
        self.options = sampling_values(args)
        self.used = engine.config.defaults.changed(**self.options)
        self.studio: Studio = Studio(engine, args.out / "pictures", args.batch, self._latent_shape)
        self.cases: list[Case] = held_out_cases(args.prompts, args.seed)

    def _latent_shape(self, options: Mapping[str, object]) -> tuple[int, int, int]:
        used = self.engine.config.defaults.changed(**options)
        factor = self.engine.vae_factor
        return self.engine.latent_channels, used.height // factor, used.width // factor

    def measure(self) -> tuple[dict[str, object], list[Criterion]]:
        """All figures and the verdict on them."""
        from .evaluation.criteria import attribute_criteria, diversity_criteria, seam_criteria
        from .evaluation.scenes import render_scenes

        made = self._pictures("held_out", self.cases)
        self._save_sheet(made)
        say("rendering the worlds of the same scenes …")
        worlds = render_scenes([case.scene for case in self.cases], self.used.height)
        through_vae = self._through_vae(worlds)
        figures: dict[str, object] = {"about": self._about(), "seams": self._seams(made, worlds, through_vae)}
        criteria = list(seam_criteria(figures["seams"]["made"], figures["seams"]["worlds"]))
        if self.reader is not None:
            figures |= self._attributes(made, through_vae)
            criteria += attribute_criteria(figures["attributes"], figures["reader"])
        figures["diversity"] = self._diversity()
        criteria += diversity_criteria(figures["diversity"]["made"], figures["diversity"]["worlds"])
        figures["yaw"] = self._yaw_dependence(made)
        if self.args.seam_study:
            figures["seam_study"] = self._seam_study()
        return figures, criteria

    def _about(self) -> dict[str, object]:
        used = {name: getattr(self.used, name) for name in self.used.__dataclass_fields__}
        return {
            "engine": self.args.engine,
            "model": self.engine.folder.name,
            "lora": None if self.args.lora is None else self.args.lora.name,
            "prompts": len(self.cases),
            "seed": self.args.seed,
            "polar_filter": self.engine.config.polar_filter,
            **used,
        }

    def _pictures(self, name: str, cases: Sequence[Case], noise_roll: int = 0, **options: object) -> Tensor:
        """One picture per case, each from its own noise."""
        from .evaluation.pictures import Request

        seeds = tuple(self.args.seed * 100_000 + index for index in range(len(cases)))
        prompts = tuple(case.caption.text for case in cases)
        return self.studio.pictures(Request(name, prompts, seeds, {**self.options, **options}, noise_roll))

    def _save_sheet(self, made: Tensor) -> None:
        from .evaluation.sheet import save_sheet, varied

        chosen = varied([case.scene["place"] for case in self.cases], SHEET_PICTURES)
        save_sheet(
            made[chosen], [self.cases[index].caption.text for index in chosen], self.args.out / "grid.png"
        )

    def _through_vae(self, worlds: Tensor) -> Tensor:
        import torch

        from .evaluation.scenes import to_eight_bits

        engine = self.engine
        return torch.cat(
            [
                to_eight_bits(engine.decode(engine.encode_image(one), polar_filter=False).pixels)
                for one in worlds.split(self.args.batch)
            ]
        )

    def _seams(self, made: Tensor, worlds: Tensor, through_vae: Tensor) -> dict[str, object]:
        from .evaluation.figures import seam_figures

        return {
            "made": seam_figures(made),
            "made, at other columns": seam_figures(made.roll(made.shape[-1] // 128 * 8, -1), TURNS),
            "worlds": seam_figures(worlds, TURNS),
            "worlds through the VAE": seam_figures(through_vae, TURNS),
        }

    def _attributes(self, made: Tensor, through_vae: Tensor) -> dict[str, object]:
        from .evaluation.attributes import prompt_scores, reader_scores

        scenes = [case.scene for case in self.cases]
        return {
            "attributes": prompt_scores(self.cases, self._read(made)),
            "reader": reader_scores(scenes, self._read(through_vae)),
        }

    def _read(self, pixels: Tensor) -> list[Reading]:
        return [reading for some in pixels.split(self.args.batch) for reading in self.reader.read(some)]

    def _diversity(self) -> dict[str, object]:
        from .evaluation.attributes import difference_share
        from .evaluation.figures import diversity_figures
        from .evaluation.scenes import render_scenes, scenes_that_say, short_cases

        cases = short_cases(self.args.diversity_prompts, self.args.seed)
        count = self.args.diversity_seeds
        repeated = [case for case in cases for _ in range(count)]
        made = self._pictures("diversity", repeated).split(count)
        scenes = [scenes_that_say(case.caption.mentioned, count, self.args.seed) for case in cases]
        worlds = [render_scenes(group, self.used.height) for group in scenes]
        figures = {"made": diversity_figures(made), "worlds": diversity_figures(worlds)}
        if self.reader is not None:
            stated = [case.caption.mentioned for case in cases]
            for name, groups in (("made", made), ("worlds", worlds)):
                figures[name]["attributes_differ"] = difference_share(
                    [self._read(group) for group in groups], stated
                )
        return figures

    def _yaw_dependence(self, made: Tensor) -> dict[str, float]:
        from .evaluation.figures import yaw_figures

        count = min(YAW_PICTURES, len(self.cases))
        # Not by half a turn, which is what rolling by half in turn (roll "alternate") makes nearly invisible.
        columns = made.shape[-1] // 4 // self.engine.vae_factor
        turned = self._pictures("quarter_turn", self.cases[:count], columns)
        return yaw_figures(made[:count], turned, columns * self.engine.vae_factor)

    def _seam_study(self) -> dict[str, object]:
        from .evaluation.figures import seam_figures

        results: dict[str, object] = {}
        cases = self.cases[: self.args.seam_study]
        for name, options in SEAM_VARIANTS.items():
            results[name] = seam_figures(self._pictures(_folder_name(name), cases, **options))
        return results


def _folder_name(variant: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in variant).split()
    return "-".join(["study", *words])
