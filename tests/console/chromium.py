"""Drives a headless Chromium by its DevTools protocol: one browser, pages of their own, real clicks and keys.

Nothing is downloaded: it takes the Chromium or Chrome that is installed. It must not know any page of ours.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
START_SECONDS = 60.0
WAIT_SECONDS = 30.0


class Failed(AssertionError):
    """The page did not do what it should; the message says what it is like."""


def program() -> str | None:
    """The browser to drive: `CHROMIUM` names another one."""
    return os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    def __init__(self, folder: Path) -> None:
        found = program()
        assert found is not None, "no Chromium is installed"
        self._folder = folder / "profile"
        command = [
            found, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={self._folder}", "--no-first-run",
            "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions",
            "--disable-component-update",
            "--disable-breakpad", "--hide-scrollbars", "--no-proxy-server", "--mute-audio", "about:blank",
        ]  # fmt: skip
        if os.geteuid() == 0 or not _user_namespaces():
            command.insert(1, "--no-sandbox")
        if shutil.which("setpriv"):  # tests that are killed leave none behind
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        log = (folder / "chromium.log").open("wb")
        # A group of its own: its helpers end with it.
        self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        log.close()
        self._log = folder / "chromium.log"
        self._ids = itertools.count(1)
        try:
            self._leave = contextlib.ExitStack()
            opened = connect(self._address(), max_size=None, open_timeout=START_SECONDS, proxy=None)
            self._socket = self._leave.enter_context(opened)
        except BaseException:
            self._end()
            raise
        self._pages: dict[str, Page] = {}

    def page(self, width: int = 1440, height: int = 900, *, dark: bool = False) -> Page:
        """A page of a profile of its own: no cookies but its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        page.looks(dark=dark)
        return page

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            said = json.loads(self._socket.recv(timeout=max(deadline - time.monotonic(), 0.01)))
            if said.get("id") == number:
                if "error" in said:
                    raise Failed(f"{method}: {said['error']['message']}")
                result: dict[str, Any] = said["result"]
                return result
            self._heard(said)

    def _heard(self, said: dict[str, Any]) -> None:
        if (page := self._pages.get(said.get("sessionId", ""))) is not None:
            page.heard(said["method"], said.get("params", {}))

    def _address(self) -> str:
        port = self._folder / "DevToolsActivePort"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            lines = port.read_text().split("\n") if port.exists() else []
            if len(lines) >= 2 and lines[1]:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            time.sleep(0.05)
        self._end()
        raise Failed(f"Chromium did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def close(self) -> None:
        self._leave.close()
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()


class Page:
    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target
        self.errors: list[str] = []
        self.said: deque[str] = deque(maxlen=50)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(json.dumps(params["args"])[:500])

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def looks(self, *, dark: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, motion])

    def goto(self, url: str) -> None:
        self.wait("document.documentElement && (document.documentElement.dataset.left = '1')")
        self.call("Page.navigate", url=url)
        self.wait("!document.documentElement.dataset.left && document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """The value of an expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise Failed(f"{expression}: {details.get('exception', {}).get('description', details['text'])}")
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = WAIT_SECONDS) -> Any:
        """Wait until it is true; a page that is just being left is asked again."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if value := self.js(expression):
                    return value
            except Failed as error:
                if not any(word in str(error) for word in ("context", "navigated", "null")):
                    raise
            if time.monotonic() > deadline:
                raise Failed(f"never true: {expression}\n{self.errors}\n{self.js('document.body.innerText')[:3000]}")
            time.sleep(0.03)

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of what can be seen of it."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"!!{place}")
        self.js(f"{place}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.js(
            f"(() => {{ const r = {place}.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2] }})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        self.click(selector)
        self.js(f"document.querySelector({json.dumps(selector)}).select?.()")
        self.call("Input.insertText", text=text)

    def key(self, name: str) -> None:
        pressed = {"key": name, "code": name, "windowsVirtualKeyCode": _CODES[name]}
        text = {"text": "\r"} if name == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def choose_file(self, selector: str, file: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def cookie(self, url: str, name: str, value: str) -> None:
        self.call("Network.setCookie", url=url, name=name, value=value, httpOnly=True, sameSite="Strict")

    def picture(self, file: Path, *, whole: bool = True) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))


_CODES = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}


def _user_namespaces() -> bool:
    """Whether an ordinary user's browser can make its own sandbox here."""
    try:
        return subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
