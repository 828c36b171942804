"""A headless Chromium, steered over its pipe: pages with their clicks, keys, sizes, colours, and what they complain of.

The pipe of Chrome's protocol needs no library: messages are JSON, each ended by a zero byte.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.servers import die_with_parent
from tests.support.stage import allowed

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"
)
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowDown": 40, "ArrowUp": 38}


class Browser:
    """One browser with one page. Without a Chromium on this machine the test is skipped."""

    def __init__(self, folder: Path) -> None:
        if CHROMIUM is None:
            pytest.skip("no browser here: install chromium")
        theirs, self._write = os.pipe()
        self._read, answers = os.pipe()
        # Chromium wants 3 and 4, which may be these very pipes: the shell moves them from where nothing else is.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs, answers)]
        words = [CHROMIUM, *OPTIONS.split(), f"--user-data-dir={folder}/profile", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "chromium", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=ends,
            preexec_fn=die_with_parent,
        )
        for end in (theirs, answers, *ends):
            os.close(end)
        self._number = 0
        self._session = ""
        self._rest = b""
        self.errors: list[str] = []
        """What was written to the console as an error, and exceptions that nobody caught."""
        self.requests: list[str] = []
        """The addresses that were asked for."""

    def __enter__(self) -> Self:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Page", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for end in (self._read, self._write):
            os.close(end)

    def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + allowed(60)
        while True:
            for found in self._heard(end - time.monotonic()):
                if found.get("id") == self._number:
                    if "error" in found and method == "Runtime.evaluate":  # its page has just gone
                        return {"result": {}}
                    assert "error" not in found, found["error"]
                    return found["result"]
            assert time.monotonic() < end, f"no answer to {method}"

    def _heard(self, seconds: float) -> list[dict[str, Any]]:
        if select.select([self._read], [], [], max(0.0, seconds))[0]:
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        *whole, self._rest = self._rest.split(b"\0")
        found = [json.loads(one) for one in whole]
        for one in found:
            self._note(one.get("method", ""), one.get("params", {}))
        return found

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.errors.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(json.dumps(params["entry"]))

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """The value of an expression in the page, as JSON has it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 20.0) -> None:
        """Wait until an expression is true. Between two pages it may have no value."""
        end = time.monotonic() + allowed(seconds)
        attempt = f"(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
        while not self.value(attempt):
            assert time.monotonic() < end, f"not true: {expression}; the page: {self.text()[:2000]}"
            time.sleep(0.05)

    def text(self) -> str:
        """What the page says."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def press(self, *keys: str) -> None:
        """Keys, by their names, or as characters."""
        for key in keys:
            text = "\r" if key == "Enter" else key if len(key) == 1 else ""
            code = KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
            more = {"key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", **more, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def look(self, width: int, height: int, scheme: str, path: Path | None = None) -> None:
        """Give the window a size and its user's colours, "light" or "dark". ``path``: a picture, as PNG."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=media)
        if path is not None:
            path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
