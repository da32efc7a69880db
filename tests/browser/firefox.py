"""A real Firefox without a window, with a profile of its own, that asks one push service only.

`Firefox(folder, page, push)` opens `page`; `push` is the WebSocket of its push service. It calls
nobody else. `close()` it.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

NAMES = ("firefox-esr", "firefox")

# Push without the vendor's service and without asking anybody for permission; no first-run page;
# nothing fetched, reported or updated.
PREFERENCES: dict[str, object] = {
    "dom.push.enabled": True,
    "dom.push.connection.enabled": True,
    "dom.push.alwaysConnect": True,
    "dom.push.testing.allowInsecureServerURL": True,
    "dom.push.testing.ignorePermission": True,
    "dom.webnotifications.enabled": True,
    "permissions.default.desktop-notification": 1,
    # Firefox shows notifications itself: there is no desktop that could.
    "alerts.useSystemBackend": False,
    "network.proxy.type": 0,
    "browser.startup.page": 0,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.aboutwelcome.enabled": False,
    "browser.preonboarding.enabled": False,
    "trailhead.firstrun.didSeeAboutWelcome": True,
    "termsofuse.bypassNotification": True,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "toolkit.telemetry.enabled": False,
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
}


def found() -> str | None:
    """The browser of this machine; None: it has none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Firefox:
    """The browser, with one page open."""

    def __init__(self, folder: Path, page: str, push: str) -> None:
        path = found()
        assert path is not None
        profile = folder / "profile"
        profile.mkdir()
        lines = [
            f"user_pref({_js(name)}, {_js(value)});"
            for name, value in (PREFERENCES | {"dom.push.serverURL": push}).items()
        ]
        (profile / "user.js").write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [path, "--headless", "--no-remote", "--profile", str(profile), page],
            env=os.environ | {"HOME": str(folder), "MOZ_HEADLESS": "1", "LANG": "en_US.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Ends it and everything it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)


def _js(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else f'"{value}"'
