"""PanoDiff, seen from ComfyUI: where its nodes and its web files are.

ComfyUI imports this file under the path of its folder, so everything below is reached by relative imports. The import
itself stands inside the function because test runners and packaging tools import the file too, without that package.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Returns the extension object that lists the node classes. ComfyUI calls this once at start."""
    from .nodes.extension import PanoDiffExtension

    return PanoDiffExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
