"""A real ComfyUI in a process of its own, with this checkout as its only custom node, and a small client for it."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import COMFYUI_PATH, ROOT

START_SECONDS = 600  # importing all of ComfyUI on a busy machine; seconds on an idle one
PACK = "PanoDiff"
PREVIEW_EVENT = 4  # binary message: preview image with metadata


class RefusedError(Exception):
    """The server refused a prompt (HTTP 400); `answer` is what it said."""

    def __init__(self, answer: dict) -> None:
        super().__init__(json.dumps(answer)[:2000])
        self.answer = answer


@dataclass
class Run:
    """What happened to one prompt: event names with their data, previews as bytes, outputs by node id."""

    prompt_id: str
    events: list[tuple[str, dict]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    outputs: dict = field(default_factory=dict)

    def named(self, name: str) -> list[dict]:
        return [data for event, data in self.events if event == name]

    @property
    def executed_nodes(self) -> list[str]:
        """Ids of the nodes that really ran, in order; cached ones are not among them."""
        return [data["node"] for data in self.named("executing") if data["node"]]

    @property
    def succeeded(self) -> bool:
        return bool(self.named("execution_success"))


class Server:
    """A running ComfyUI. `base` is its base directory (models, input, output, temp, custom_nodes)."""

    def __init__(self, base: Path, *flags: str, others: tuple[str, ...] = ()) -> None:
        """`others` are names in the base directory's custom_nodes that may be loaded beside this checkout."""
        self.base = base
        self.log = base / "server.log"
        install_pack(base)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [
            sys.executable,
            "main.py",
            "--cpu",
            "--port",
            str(self.port),
            "--base-directory",
            str(base),
        ]
        command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK, *others]
        # Fewer imports, and the content security policy that allows this server's own files only.
        command += ["--disable-api-nodes"]
        command += ["--database-url", f"sqlite:///{(base / 'comfyui.db').as_posix()}", *flags]
        self._output = self.log.open("wb")
        self._process = subprocess.Popen(
            command, cwd=COMFYUI_PATH, stdout=self._output, stderr=subprocess.STDOUT
        )
        self._wait_until_up()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _wait_until_up(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.5)
        self.stop()
        raise RuntimeError(f"ComfyUI did not start:\n{self.log_text()[-4000:]}")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._output.close()

    def get_bytes(self, path: str) -> bytes:
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return answer.read()

    def get(self, path: str):
        return json.loads(self.get_bytes(path))

    def post(self, path: str, content: dict) -> dict:
        request = urllib.request.Request(
            self.address + path, json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as problem:
            raise RefusedError(json.loads(problem.read())) from problem

    def run(
        self,
        prompt: dict,
        *,
        extra: dict | None = None,
        on_event: Callable | None = None,
        seconds: float = 300,
    ) -> Run:
        """Queues an API-format prompt and follows it to its end. `on_event(name, data)` sees each event first.

        Raises RefusedError when the server does not take it, TimeoutError after so many seconds.
        """
        return asyncio.run(asyncio.wait_for(self._run(prompt, extra or {}, on_event), seconds))

    async def _run(self, prompt: dict, extra: dict, on_event: Callable | None) -> Run:
        import aiohttp

        client_id = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.address}/ws?clientId={client_id}", max_msg_size=0) as events,
        ):
            await events.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            content = {"prompt": prompt, "client_id": client_id, "extra_data": extra}
            run = Run((await asyncio.to_thread(self.post, "/prompt", content))["prompt_id"])
            async for message in events:
                if message.type == aiohttp.WSMsgType.BINARY:
                    if int.from_bytes(message.data[:4], "big") == PREVIEW_EVENT:
                        size = int.from_bytes(message.data[4:8], "big")
                        run.previews.append(message.data[8 + size :])
                    continue
                event = json.loads(message.data)
                name, data = event["type"], event.get("data", {})
                if data.get("prompt_id") not in (None, run.prompt_id):
                    continue
                run.events.append((name, data))
                if on_event:
                    await asyncio.to_thread(on_event, name, data)
                if name in ("execution_success", "execution_error", "execution_interrupted"):
                    break
        history = await asyncio.to_thread(self._history, run.prompt_id)
        run.outputs = history.get("outputs", {})
        return run

    def _history(self, prompt_id: str) -> dict:
        for _ in range(50):  # the entry appears a moment after the last event
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                return entry
            time.sleep(0.1)
        return {}

    def view(self, entry: dict) -> bytes:
        """A file that a node reported, through /view as a browser gets it."""
        return self.get_bytes(
            f"/view?filename={entry['filename']}&subfolder={entry['subfolder']}&type={entry['type']}"
        )


def install_pack(base: Path) -> None:
    """This checkout among the custom nodes of a base directory: linked, or copied where links are not allowed."""
    nodes = base / "custom_nodes"
    nodes.mkdir(parents=True, exist_ok=True)
    try:
        (nodes / PACK).symlink_to(ROOT, target_is_directory=True)
    except OSError:
        shutil.copytree(ROOT, nodes / PACK, ignore=shutil.ignore_patterns(".git", "tests", "runs", ".*"))
