"""`evaluate` with DiT360: seams and poles, attributes, diversity, and how padding and roll share the work."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...metrics.attributes import load_reader
from ...runtime.errors import InputError
from ..console import say
from ..dit360_options import SAMPLING, add_sampling_options, check_plan, planned, sampling_values
from .attributes import Reader, Reading, difference_share, prompt_scores, reader_scores
from .criteria import Criterion, attribute_criteria, diversity_criteria, seam_criteria
from .figures import diversity_figures, seam_figures, yaw_figures
from .pictures import Request, Studio
from .report import markdown
from .scenes import (
    Case,
    held_out_cases,
    render_scenes,
    scenes_that_say,
    short_cases,
    to_eight_bits,
)
from .sheet import SHEET_PICTURES, save_sheet, varied

YAW_PICTURES = 16
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
    "diversity_prompts": (4, 1, "prompts that are made several times"),
    "diversity_seeds": (8, 2, "pictures per such prompt"),
    "seam_study": (0, 0, "compare padding, roll, both and neither on so many prompts"),
}
"""Option → default, least, help."""


class DiT360Evaluation:
    """One evaluation of pictures for held-out prompts against the worlds themselves.

    Raises InputError or CheckpointError for what can be refused without reading weights.
    """

    OPTIONS = (*SAMPLING, *_COUNTS)

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.options = args, sampling_values(args)
        self.counts = _counts(args)
        plan = planned(args.engine, args.model, self.options)
        check_plan(plan)
        if plan.width != 2 * plan.height:
            raise InputError(
                f"the model's default size {plan.width} x {plan.height} is not 2:1; give --height."
            )

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Everything of `OPTIONS`."""
        group = parser.add_argument_group("evaluation of DiT360")
        for name, (default, _, words) in _COUNTS.items():
            option = f"--{name.replace('_', '-')}"
            group.add_argument(option, type=int, metavar="N", help=f"{words} (default: {default})")
        add_sampling_options(parser)

    @staticmethod
    def load_reader(folder: Path | None) -> Reader:
        """The trained reader of panoramas. Raises `CheckpointError` where there is none."""
        return load_reader(folder)

    @staticmethod
    def words(figures: Mapping, criteria: Sequence[Criterion]) -> str:
        """The report as markdown."""
        return markdown(figures, criteria)

    def measure(self, engine, reader: Reader | None) -> tuple[dict[str, object], list[Criterion]]:
        """All figures and the verdict on them; attributes are left out without a `reader`."""
        return _Run(self, engine, reader).measure()


class _Run:
    """The engine, the pictures it makes, the worlds they are compared with, the reader of attributes."""

    def __init__(self, request: DiT360Evaluation, engine, reader: Reader | None) -> None:
        self.args, self.options, self.counts = request.args, request.options, request.counts
        self.engine, self.reader = engine, reader
        self.used = engine.config.defaults.changed(**self.options)
        self.studio = Studio(engine, self.args.out / "pictures", self.args.batch, self._latent_shape)
        self.cases = held_out_cases(self.args.prompts, self.args.seed)

    def _latent_shape(self, options: Mapping[str, object]) -> tuple[int, int, int]:
        used = self.engine.config.defaults.changed(**options)
        factor = self.engine.vae_factor
        return self.engine.latent_channels, used.height // factor, used.width // factor

    def measure(self) -> tuple[dict[str, object], list[Criterion]]:
        """All figures and the verdict on them."""
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
        if self.counts["seam_study"]:
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
        seeds = tuple(self.args.seed * 100_000 + index for index in range(len(cases)))
        prompts = tuple(case.caption.text for case in cases)
        return self.studio.pictures(Request(name, prompts, seeds, {**self.options, **options}, noise_roll))

    def _save_sheet(self, made: Tensor) -> None:
        chosen = varied([case.scene["place"] for case in self.cases], SHEET_PICTURES)
        save_sheet(
            made[chosen], [self.cases[index].caption.text for index in chosen], self.args.out / "grid.png"
        )

    def _through_vae(self, worlds: Tensor) -> Tensor:
        engine = self.engine
        return torch.cat(
            [
                to_eight_bits(engine.decode(engine.encode_image(one), polar_filter=False).pixels)
                for one in worlds.split(self.args.batch)
            ]
        )

    def _seams(self, made: Tensor, worlds: Tensor, through_vae: Tensor) -> dict[str, object]:
        return {
            "made": seam_figures(made),
            "made, at other columns": seam_figures(made.roll(made.shape[-1] // 128 * 8, -1), TURNS),
            "worlds": seam_figures(worlds, TURNS),
            "worlds through the VAE": seam_figures(through_vae, TURNS),
        }

    def _attributes(self, made: Tensor, through_vae: Tensor) -> dict[str, object]:
        scenes = [case.scene for case in self.cases]
        return {
            "attributes": prompt_scores(self.cases, self._read(made)),
            "reader": reader_scores(scenes, self._read(through_vae)),
        }

    def _read(self, pixels: Tensor) -> list[Reading]:
        return [reading for some in pixels.split(self.args.batch) for reading in self.reader.read(some)]

    def _diversity(self) -> dict[str, object]:
        cases = short_cases(self.counts["diversity_prompts"], self.args.seed)
        count = self.counts["diversity_seeds"]
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
        count = min(YAW_PICTURES, len(self.cases))
        # Not by half a turn, which is what rolling by half in turn (roll "alternate") makes nearly invisible.
        columns = made.shape[-1] // 4 // self.engine.vae_factor
        turned = self._pictures("quarter_turn", self.cases[:count], columns)
        return yaw_figures(made[:count], turned, columns * self.engine.vae_factor)

    def _seam_study(self) -> dict[str, object]:
        results: dict[str, object] = {}
        cases = self.cases[: self.counts["seam_study"]]
        for name, options in SEAM_VARIANTS.items():
            results[name] = seam_figures(self._pictures(_folder_name(name), cases, **options))
        return results


def _counts(args: argparse.Namespace) -> dict[str, int]:
    """The numbers of `_COUNTS` as they will be used. Raises InputError."""
    counts: dict[str, int] = {}
    for name, (default, least, _) in _COUNTS.items():
        given = getattr(args, name)
        counts[name] = default if given is None else given
        if counts[name] < least:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {given}.")
    if 0 < counts["seam_study"] < SHEET_PICTURES:
        raise InputError(
            f"--seam-study needs at least {SHEET_PICTURES} prompts to say anything, got {counts['seam_study']}."
        )
    return counts


def _folder_name(variant: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in variant).split()
    return "-".join(["study", *words])
