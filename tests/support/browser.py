"""Drive a headless Chromium over its DevTools protocol."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect


def chromium() -> str | None:
    """Find a Chromium by its usual names, or Playwright's."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache" / "ms-playwright"))
    programs = [shutil.which(name) for name in names]
    programs += [str(path) for name in ("chrome", "headless_shell") for path in cache.glob(f"chromium*/*/{name}")]
    return next(filter(None, programs), None)


class Tab:
    """A page; ``events`` holds the browser's reports."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(f"(() => {{ try {{ return !!({expression}) }} catch {{ return false }} }})()"):
            assert time.monotonic() < end, self.evaluate("document.body.innerText")
            time.sleep(0.05)

    def drop(self, selector: str, file: Path) -> None:
        """Drag a file from outside and drop it on an element."""
        box = self.evaluate(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
                            f"(document.querySelector({selector!r}).getBoundingClientRect())")  # fmt: skip
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)

    def requests(self) -> list[str]:
        """Addresses requested since ``Network.enable``."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def errors(self) -> list[Any]:
        """Uncaught exceptions and errors in the console."""
        return [
            event["params"]
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
            or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")
        ]


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Tab]:
    """Open a Chromium with an empty page."""
    program = chromium()
    assert program
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--remote-debugging-port=0", "--window-size=1000,900", f"--user-data-dir={profile}")  # fmt: skip
    with subprocess.Popen([program, *flags, "about:blank"], stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            address = next(
                match[1] for line in running.stderr if (match := re.search(r"DevTools listening on (ws://\S+)", line))
            )
            with connect(address, max_size=None) as socket:
                browser = Tab(socket)
                targets = browser.call("Target.getTargets")["targetInfos"]
                page = next(target["targetId"] for target in targets if target["type"] == "page")
            with connect(re.sub(r"/browser/.*", f"/page/{page}", address), max_size=None) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    tab.call(f"{domain}.enable")
                yield tab
        finally:
            running.kill()
