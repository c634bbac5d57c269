"""Encode Prompt."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from .engines import takes
from .schema import ADVANCED, Condition, Engine, node_schema

FACE_NAMES = ("front", "right", "back", "left", "up", "down")
"""The faces of a cube for people, in the order of the core's `FACES`."""


class EncodePrompt(io.ComfyNode):
    """Words -> condition, for every engine. What the model could not read is shown on the node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_EncodePrompt",
            display_name="Encode Prompt",
            category="PanoDiff/Generate",
            description="Turns a prompt into a condition, and lists the words that the model does not know.",
            search_aliases=("prompt", "text encode"),
            inputs=[
                Engine.Input("engine", tooltip="From a load node; its text encoders read the prompt."),
                prompt_input(),
                negative_input(),
                io.Boolean.Input(
                    "model_prefix",
                    default=True,
                    optional=True,
                    extra_dict=ADVANCED,
                    tooltip="Put the words that the model was trained with before the prompt: for FLUX with DiT360 “This is a "
                    "panorama image. The image depicts”, for star-small the direction of each face. Nothing is put there for "
                    "a model without any. What was read is shown below.",
                ),
            ],
            outputs=[Condition.Output("condition", display_name="condition", tooltip="For a Sample node.")],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None = None) -> bool | str:
        return check_prompt(prompt)

    @classmethod
    def execute(
        cls, engine, prompt: str, negative_prompt: str = "", model_prefix: bool = True
    ) -> io.NodeOutput:
        # The negative prompt is encoded even when empty: whether it is needed, cfg says, and that comes later in the graph.
        options = {}
        if not model_prefix and takes(engine.encode, "prompt_prefix"):
            options["prompt_prefix"] = ""
        if not model_prefix and takes(engine.encode, "faces"):
            options["faces"] = {}
        return encoded(engine.encode(prompt, negative=negative_prompt, **options), prompt)


def prompt_input() -> io.String.Input:
    """What all of the sphere shows."""
    return io.String.Input(
        "prompt",
        multiline=True,
        dynamic_prompts=True,
        default="a calm sea at sunset, a few clouds",
        tooltip="What is to be seen all around. The bundled small model knows a small vocabulary; "
        "unknown words are listed below.",
    )


def negative_input() -> io.String.Input:
    """What guidance goes away from."""
    return io.String.Input(
        "negative_prompt",
        multiline=True,
        dynamic_prompts=True,
        default="",
        optional=True,
        tooltip="What is to be avoided. Acts only with guidance: cfg above 1 in Sample DiT360, above 0 in Sample "
        "Cubemap.",
    )


def check_prompt(prompt: str | None) -> bool | str:
    """A prompt as `validate_inputs` answers. None comes from another node and is not known yet; encode checks it then."""
    if prompt is not None and not prompt.strip():
        return "the prompt is empty; describe what is to be seen, for example: a calm sea at sunset"
    return True


def encoded(condition, prompt: str) -> io.NodeOutput:
    """The condition, and what the model made of the prompt as text on the node."""
    notes = encoding_notes(condition, prompt)
    return io.NodeOutput(condition, ui=ui.PreviewText("\n".join(notes) or "every word was understood"))


def encoding_notes(condition, prompt: str) -> list[str]:
    """What the model and its faces read where that is not the prompt, unknown words, words cut off; empty when all was read as it is."""
    notes = []
    if condition.prompts[0] != prompt:
        notes.append(f"the model reads: {condition.prompts[0]}")
    if faces := getattr(condition, "face_prompts", ()):
        # The prompt written out six times would hide the rest.
        texts = (text.replace(condition.prompts[0], "…") for text in faces[0])
        heard = ", ".join(f'{name} "{text}"' for name, text in zip(FACE_NAMES, texts, strict=True))
        notes.append(f"each face hears a text of its own, in which … is the prompt: {heard}")
    if condition.unknown_words:
        notes.append(f"words that this model does not know: {', '.join(condition.unknown_words)}")
    if condition.truncated:
        notes.append(f"the prompt is too long: {'; '.join(condition.truncated)}")
    return notes
