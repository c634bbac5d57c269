"""`python -m panodiff_core train RECIPE …`: render training data and train the small models."""

from __future__ import annotations

import argparse
import logging

from ..training.arguments import add_loop_arguments, loop_config
from ..training.recipes import (
    cubemap_scenes,
    dit,
    dit_latents,
    reader,
    round_trips,
    star,
    star_faceray,
    star_reader,
    star_round_trips,
    star_sampler,
    star_tokens,
    star_vqvae,
    text,
    vae,
    worlds_cache,
)

log = logging.getLogger(__name__)

PREPARATIONS = (worlds_cache, cubemap_scenes, round_trips, dit_latents, star_tokens, star_round_trips)
RECIPES = (vae, text, dit, reader, star_vqvae, star, star_faceray, star_sampler, star_reader)


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add `train` with one subcommand per recipe and per preparation of data."""
    parser = subparsers.add_parser("train", help="render training data, train the small models")
    recipes = parser.add_subparsers(dest="recipe", metavar="RECIPE", required=True)
    for module in PREPARATIONS:
        sub = recipes.add_parser(module.NAME, help=module.HELP, description=module.HELP)
        module.add_arguments(sub)
        sub.set_defaults(run=run, recipe_module=module)
    for module in RECIPES:
        sub = recipes.add_parser(module.NAME, help=module.HELP, description=module.HELP)
        module.add_arguments(sub)
        add_loop_arguments(sub, module.DEFAULTS)
        sub.set_defaults(run=run, recipe_module=module)
    parser.recipes = recipes.choices
    return parser


def recipe_parser(parser: argparse.ArgumentParser, recipe: str) -> argparse.ArgumentParser:
    """The parser of one recipe below the parser of `train`."""
    return parser.recipes[recipe]


def run(args: argparse.Namespace) -> int:
    """Do what the parsed options ask for; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    module = args.recipe_module
    if module in PREPARATIONS:
        return module.run(args)
    from ..training.loop import Trainer

    config = loop_config(args)  # first, so that a mistyped option is told before anything is loaded
    trainer = Trainer(module.build(args), config)
    done = trainer.run()
    if args.export is not None:
        trainer.export(args.export)
    log.info("%s", "training finished" if done else "stopped early; run the same command again to continue")
    return 0
