"""`evaluate` with STAR: do the faces of a cube meet, and do they still show what the prompt says?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ...engines.star.faceray import check_strength
from ...engines.star.training.cubes import CAPTIONS
from ...geometry.cubemap import FACES
from ...metrics.cube import MIN_FACE_SIZE
from ...metrics.face_attributes import FaceReader, load_face_reader
from ...pictures import CubeFaces
from ...runtime.errors import InputError
from ..console import say
from ..star_options import add_drawing_options, check_drawing, face_side, planned_config, sampling_values
from .criteria import Criterion, edge_criteria, face_criteria
from .cubes import CubeRequest, CubeStudio, render_cubes, through_autoencoder
from .faces import edge_figures, face_scores
from .scenes import held_out_cases
from .sheet import SHEET_PICTURES, save_cube_sheet, varied
from .star_report import CODED, NAMED, OFF, ON, WORLDS, markdown

SEEDS, MAX_SEEDS = 2, 1000


class StarEvaluation:
    """One evaluation of cubes for held-out prompts: true worlds, FaceRay off with and without captions that name a face's
    direction, and on, all drawn with the same random numbers.

    Raises InputError or CheckpointError for what can be refused without reading weights.
    """

    OPTIONS = (
        *("cfg", "top_k", "top_p", "more_smooth", "sampler", "adapter_strength", "fade"),
        *("seeds", "captions"),
    )

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.options = args, sampling_values(args)
        self.strength = 1.0 if args.adapter_strength is None else args.adapter_strength
        self.seeds = SEEDS if args.seeds is None else args.seeds
        self.fade = args.fade or 0
        if not 1 <= self.seeds <= MAX_SEEDS:
            raise InputError(f"--seeds must be from 1 to {MAX_SEEDS}, got {self.seeds}.")
        check_strength("--adapter-strength", self.strength)
        if not self.strength:
            raise InputError("--adapter-strength must be above 0: 0 is measured in any case.")
        config = planned_config(args)
        self.captions = args.captions or CAPTIONS[bool(config.face_texts)]
        check_drawing(config, config.defaults.changed(**self.options), self.fade)
        _check_cubes(config)

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """What of `OPTIONS` is STAR's alone; --cfg is DiT360's, too."""
        group = parser.add_argument_group("evaluation of STAR (and --cfg, where 0 is off)")
        group.add_argument("--seeds", type=int, metavar="N", help=f"cubes per prompt (default: {SEEDS})")
        group.add_argument(
            "--captions",
            choices=CAPTIONS,
            help="what the faces hear with FaceRay, as its adapters were trained (default: as the model says)",
        )
        add_drawing_options(group)

    @staticmethod
    def load_reader(folder: Path | None) -> FaceReader:
        """The trained reader of faces. Raises `CheckpointError` where there is none."""
        return load_face_reader(folder)

    @staticmethod
    def words(figures: Mapping, criteria: Sequence[Criterion]) -> str:
        """The report as markdown."""
        return markdown(figures, criteria)

    def measure(self, engine, reader: FaceReader | None) -> tuple[dict[str, object], list[Criterion]]:
        """All figures and the verdict on them; attributes are left out without a `reader`."""
        return _Run(self, engine, reader).measure()


def _check_cubes(config) -> None:
    """Raise InputError for a model whose cubes cannot be compared."""
    if config.faceray is None:
        raise InputError(
            "this model has no FaceRay adapters, and they are what is measured: give one that has."
        )
    if config.generator.cross_attention == "row0":
        raise InputError(
            'this model has all faces hear one text (cross_attention "row0"), so none can be told its direction.'
        )
    if face_side(config) < MIN_FACE_SIZE:
        raise InputError(
            f"edges are measured on faces of at least {MIN_FACE_SIZE} pixels, this model's have {face_side(config)}."
        )


class _Run:
    """The engine, the cubes it draws, the worlds they are compared with, the reader of attributes."""

    def __init__(self, request: StarEvaluation, engine, reader: FaceReader | None) -> None:
        self.request, self.args, self.engine, self.reader = request, request.args, engine, reader
        given = (self.args.vqvae, self.args.text)
        sources = [engine.folder, *(path.expanduser() for path in given if path is not None)]
        self.studio = CubeStudio(engine, self.args.out / "pictures", self.args.batch, sources)
        self.cases = held_out_cases(self.args.prompts, self.args.seed)
        # Every case as often as it is drawn.
        self.drawn = [case for case in self.cases for _ in range(request.seeds)]
        self.edges: dict[str, dict] = {}
        self.scores: dict[str, dict] = {}

    def measure(self) -> tuple[dict[str, object], list[Criterion]]:
        """All figures and the verdict on them."""
        say("rendering the worlds of the same scenes …")
        scenes = [case.scene for case in self.cases]
        worlds = render_cubes(scenes, self.engine.face_size)
        known = [{name: v for name, v in scene.attributes().items() if v is not None} for scene in scenes]
        self._note(WORLDS, worlds, known)
        self._note(CODED, through_autoencoder(self.engine, worlds), known)
        stated = [case.caption.mentioned for case in self.drawn]
        directed = self.request.captions == "face"
        for name, strength, directions in ((NAMED, 0.0, True), (OFF, 0.0, False), (ON, None, directed)):
            cubes = self._draw(name, self.request.strength if strength is None else strength, directions)
            self._note(name, cubes, stated)
        self._save_sheet(cubes)
        figures: dict[str, object] = {"about": self._about(), "edges": self.edges}
        criteria = list(edge_criteria(self.edges, WORLDS, (NAMED, OFF), ON))
        if self.reader is not None:
            config = self.reader.config
            figures |= {"faces": self.scores, "reader": {"scores": config.scores, "checked": config.checked}}
            criteria += face_criteria(self.scores, (NAMED, OFF), ON)
        return figures, criteria

    def _note(self, row: str, cubes: Tensor, stated: Sequence[Mapping[str, str]]) -> None:
        self.edges[row] = edge_figures(cubes)
        if self.reader is not None:
            self.scores[row] = face_scores(stated, self.reader.read(cubes), self.reader.config.counts)

    def _draw(self, row: str, strength: float, directions: bool) -> Tensor:
        prompts = tuple(case.caption.text for case in self.drawn)
        first, options = self.args.seed * 100_000, self.request.options
        name = "".join(letter if letter.isalnum() else "_" for letter in row)
        return self.studio.cubes(CubeRequest(name, prompts, first, strength, directions, options))

    def _save_sheet(self, cubes: Tensor) -> None:
        chosen = varied([case.scene["place"] for case in self.cases], SHEET_PICTURES)
        shown = cubes[[index * self.request.seeds for index in chosen]]
        panoramas = CubeFaces(shown).to_equirect(fade=self.request.fade).pixels
        titles = [self.cases[index].caption.text for index in chosen]
        save_cube_sheet(shown, panoramas, titles, self.args.out / "grid.png")

    def _about(self) -> dict[str, object]:
        request, used = self.request, self.engine.config.defaults.changed(**self.request.options)
        return {
            "engine": self.args.engine,
            "model": self.engine.folder.name,
            "prompts": len(self.cases),
            "seeds": request.seeds,
            "seed": self.args.seed,
            "faces": f"{len(FACES)} of {self.engine.face_size} pixels",
            "captions": request.captions,
            "adapter_strength": request.strength,
            "fade": request.fade,
            **{name: getattr(used, name) for name in used.__dataclass_fields__},
        }
