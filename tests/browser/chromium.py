"""A real Chromium without a window, driven by its DevTools protocol; about what a test needs.

`Browser(folder)` starts one; `page()` opens a page; `close()` either. A page's `problems` are what
its console, its scripts and its policy had to complain about, as far as it was told so far.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from tests.processes import descendants
from tests.waiting import wait_for

NAMES = ("chromium", "chromium-browser", "google-chrome")
# What is known of keys that are no text: key → (code, virtual key code, text).
KEYS = {"Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), " ": ("Space", 32, " ")}


def found() -> str | None:
    """The browser of this machine; None: it has none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A browser with a profile of its own in `folder`. `close()` it."""

    def __init__(self, folder: Path) -> None:
        path = found()
        assert path is not None
        profile = folder / "profile"
        self.process = subprocess.Popen(
            [
                path,
                "--headless=new",
                "--no-sandbox",  # there is none for root
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--mute-audio",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            env=os.environ | {"HOME": str(folder), "LANG": "en_US.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        told = profile / "DevToolsActivePort"
        wait_for(lambda: told.exists() and told.read_text().count("\n") == 1, 30, "the browser")
        port, path = told.read_text().split("\n")
        self._ending = ExitStack()
        self._socket = self._ending.enter_context(
            connect(f"ws://127.0.0.1:{port}{path}", max_size=64 << 20)
        )
        self._last_id = 0
        self._answers: dict[int, Any] = {}
        self._pages: dict[str, Page] = {}

    def page(self, width: int = 1200, height: int = 900, *, dark: bool = False) -> "Page":
        """A new page in a context of its own, without anything that others keep."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        asked = {"url": "about:blank", "browserContextId": context}
        target = self.call("Target.createTarget", **asked)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        page.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        return page

    def renderers(self) -> list[int]:
        """The pids of the processes that run pages."""
        pids = []
        for pid in descendants(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"--type=renderer" in words:
                pids.append(pid)
        return pids

    def close(self) -> None:
        """Ends it and everything it started."""
        self._ending.close()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def call(self, method: str, session: str = "", **params: Any) -> Any:
        """Calls a method of the protocol and waits for its answer."""
        number = self.send(method, session, **params)
        end = time.monotonic() + 20
        while number not in self._answers:
            assert time.monotonic() < end, f"{method} is not answered"
            self.listen(1)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def send(self, method: str, session: str = "", **params: Any) -> int:
        """Calls a method without waiting; returns the number of the call."""
        self._last_id += 1
        frame: dict[str, Any] = {"id": self._last_id, "method": method, "params": params}
        if session:
            frame["sessionId"] = session
        self._socket.send(json.dumps(frame))
        return self._last_id

    def has_answered(self, number: int) -> bool:
        """Whether a call that was sent has been answered, by now or in a moment."""
        while self.listen(0.1):
            pass
        return number in self._answers

    def listen(self, wait_s: float) -> bool:
        """Takes in one thing that the browser tells; False if it tells none within that time."""
        try:
            told = json.loads(self._socket.recv(timeout=wait_s))
        except TimeoutError:
            return False
        if "id" in told:
            self._answers[told["id"]] = told
        elif (page := self._pages.get(told.get("sessionId", ""))) is not None:
            page.hear(told["method"], told["params"])
        return True


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self.problems: list[str] = []

    def call(self, method: str, **params: Any) -> Any:
        return self._browser.call(method, self._session, **params)

    def hear(self, method: str, params: Any) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(str(details.get("exception", details).get("description", details)))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.problems.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")

    def close(self) -> None:
        """Closes it, and forgets what it kept."""
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def open(self, url: str) -> None:
        """Goes there, and waits until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({url!r}) && document.readyState === 'complete'", 20)

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def start(self, script: str) -> int:
        """Runs a script without waiting for it, as one that does not end; returns its number."""
        return self._browser.send("Runtime.evaluate", self._session, expression=script)

    def has_ended(self, number: int) -> bool:
        """Whether a script that was started has come to its end."""
        return self._browser.has_answered(number)

    def wait(self, condition: str, deadline_s: float = 15) -> None:
        """Waits until an expression is true."""
        try:
            wait_for(lambda: self.run(condition), deadline_s, condition)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.problems}\n{self.text()}") from None

    def text(self, selector: str = "body") -> str:
        """What a person reads there; empty if there is no such thing."""
        return str(self.run(f"document.querySelector({selector!r})?.innerText ?? ''"))

    def wait_text(self, selector: str, part: str, deadline_s: float = 15) -> None:
        """Waits until that can be read there."""
        read = f"(document.querySelector({selector!r})?.innerText ?? '')"
        self.wait(f"{read}.includes({part!r})", deadline_s)

    def click(self, selector: str) -> None:
        """Clicks with the mouse, where the thing is on the screen."""
        find = f"document.querySelector({selector!r})"
        self.run(f"{find}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y, hit = self.run(
            f"(() => {{ const e = {find}, b = e.getBoundingClientRect();"
            "const x = b.x + b.width / 2, y = b.y + b.height / 2;"
            "return [x, y, e.contains(document.elementFromPoint(x, y))]; })()"
        )
        assert hit, f"{selector} is covered, or not on the screen"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Types where the focus is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Presses a key of `KEYS`."""
        code, number, text = KEYS[key]
        press = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        press["modifiers"] = 8 if shift else 0
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **press)
        self.call("Input.dispatchKeyEvent", type="keyUp", **press)

    def focused(self) -> str:
        """The id of what has the focus."""
        return str(self.run("document.activeElement?.id ?? ''"))

    def picture(self, *, whole: bool = True) -> bytes:
        """A screenshot, as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])
