"""Encode Face Prompts."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..panodiff_core.geometry import FACES
from ..panodiff_core.runtime.errors import InputError
from .encode import FACE_NAMES, check_prompt, encoded, negative_input, prompt_input
from .engines import takes, title_of
from .schema import Condition, Engine, node_schema


class EncodeFacePrompts(io.ComfyNode):
    """A prompt for the scene and texts for single faces of the cube -> condition."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_EncodeFacePrompts",
            display_name="Encode Face Prompts",
            category="PanoDiff/Generate",
            description="Turns a prompt for the scene, and texts for single faces of the cube, into a condition.",
            search_aliases=("prompt", "text encode", "regional prompt", "cube faces"),
            inputs=[
                Engine.Input("engine", tooltip="From Load STAR; its text encoder reads the texts."),
                prompt_input(),
                negative_input(),
                *(_face_input(name) for name in FACE_NAMES),
            ],
            outputs=[Condition.Output("condition", display_name="condition", tooltip="For Sample Cubemap.")],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None = None) -> bool | str:
        return check_prompt(prompt)

    @classmethod
    def execute(
        cls, engine, prompt, negative_prompt="", front="", right="", back="", left="", up="", down=""
    ) -> io.NodeOutput:
        if not takes(engine.encode, "faces"):
            raise InputError(
                f"{title_of(engine)} makes a panorama of one text and has no faces: use Encode Prompt, or connect Load STAR"
            )
        texts = zip(FACES, (front, right, back, left, up, down), strict=True)
        faces = {face: text for face, text in texts if text.strip()}
        return encoded(engine.encode(prompt, negative=negative_prompt, faces=faces or None), prompt)


def _face_input(name: str) -> io.String.Input:
    # No dynamic prompts, whose braces would eat {prompt}.
    return io.String.Input(
        name,
        multiline=True,
        default="",
        optional=True,
        tooltip=f"What is to be seen {'ahead' if name == 'front' else name}; {{prompt}} in it stands for the prompt of the "
        "scene. Empty: the prompt of the scene.",
    )
