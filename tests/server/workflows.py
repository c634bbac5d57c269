"""Workflow files of the frontend, as the prompts that the server takes."""

from __future__ import annotations

import json
from pathlib import Path

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
_NOTHING = object()
NOTES = {"Note", "MarkdownNote"}


def read_workflow(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def to_prompt(workflow: dict, definitions: dict) -> dict:
    """UI format -> API format, by the node definitions of /object_info.

    Widget values are stored by position, so a value that lands on an input it does not fit fails at the server.
    """
    links = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        linked = {i["name"]: links[i["link"]] for i in node.get("inputs", []) if i.get("link") is not None}
        values = iter(node.get("widgets_values", []))
        inputs: dict = {}
        for name, kind, options in defined_inputs(definitions[node["type"]]):
            if isinstance(kind, list) or kind in WIDGETS:
                inputs[name] = next(values, _NOTHING)
                assert inputs[name] is not _NOTHING, f"{node['type']} has no widget value for {name}"
                if options.get("control_after_generate"):
                    next(values)
            if name in linked:
                inputs[name] = list(linked[name])
        left = list(values)
        assert not left, f"{node['type']} has {len(left)} widget values too many: {left}"
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def defined_inputs(definition: dict) -> list[tuple[str, object, dict]]:
    """(name, type, options) of a node's inputs in the order of its widgets."""
    return [
        (name, spec[0], spec[1] if len(spec) > 1 else {})
        for group in ("required", "optional")
        for name, spec in definition["input"].get(group, {}).items()
    ]
