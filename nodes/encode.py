"""Encode Prompt."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from .schema import ADVANCED, Condition, Engine, node_schema


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
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a calm sea at sunset, a few clouds",
                    tooltip="What is to be seen all around. The bundled small model knows a small vocabulary; "
                    "unknown words are listed below.",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    optional=True,
                    tooltip="What is to be avoided. Acts only when the sampler's cfg is above 1.",
                ),
                io.Boolean.Input(
                    "model_prefix",
                    default=True,
                    optional=True,
                    extra_dict=ADVANCED,
                    tooltip="Put the sentence that the model was trained with before the prompt: for FLUX with DiT360 "
                    "“This is a panorama image. The image depicts”. What was read is shown below.",
                ),
            ],
            outputs=[Condition.Output("condition", display_name="condition", tooltip="For a Sample node.")],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None = None) -> bool | str:
        # None means that the prompt comes from another node and is not known yet; encode checks it then.
        if prompt is not None and not prompt.strip():
            return "the prompt is empty; describe what is to be seen, for example: a calm sea at sunset"
        return True

    @classmethod
    def execute(
        cls, engine, prompt: str, negative_prompt: str = "", model_prefix: bool = True
    ) -> io.NodeOutput:
        # The negative prompt is encoded even when empty: whether it is needed, cfg says, and that comes later in the graph.
        condition = engine.encode(
            prompt, negative=negative_prompt, prompt_prefix=None if model_prefix else ""
        )
        notes = encoding_notes(condition, prompt)
        return io.NodeOutput(condition, ui=ui.PreviewText("\n".join(notes) or "every word was understood"))


def encoding_notes(condition, prompt: str) -> list[str]:
    """What the model read where that is not the prompt, unknown words, words cut off; empty when all was read as it is."""
    notes = []
    if condition.prompts[0] != prompt:
        notes.append(f"the model reads: {condition.prompts[0]}")
    if condition.unknown_words:
        notes.append(f"words that this model does not know: {', '.join(condition.unknown_words)}")
    if condition.truncated:
        notes.append(f"the prompt is too long: {'; '.join(condition.truncated)}")
    return notes
