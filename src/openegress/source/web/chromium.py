"""Starts Chromium: finds the binary, sets flags and profile, and opens its protocol on two pipes."""

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.ipc import BrowserSettings
from openegress.source.web.cdp import CommandError, DevToolsConnection, Disconnected
from openegress.source.web.identity import Identity
from openegress.source.web.page_cgroup import PageCgroup
from openegress.source.web.process import Child, descendants, died

_log = logging.getLogger(__name__)

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
WELL_KNOWN = (
    "/usr/lib/chromium/chromium",
    "/usr/lib64/chromium-browser/chromium-browser",
    "/opt/google/chrome/chrome",
)
"""Paths of real binaries. The one on PATH is often a script that adds flags of its own."""

READY_TIMEOUT_S = 20.0
"""Time-out for the first answer, which comes after 0.3 s unless the machine is overloaded."""
SHM_BYTES = 512 * 1024 * 1024
"""Free space that /dev/shm needs: with less (Docker's default is 64 MiB), pictures of large pages do not
fit."""
HELD_HZ = 30
"""The rate that Chromium's battery saver limits pages to."""
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LANGUAGE", "TZ", "FONTCONFIG_FILE", "FONTCONFIG_PATH")
"""Variables that the browser gets. All others in our environment may hold secrets."""

FEATURES_OFF = (
    "AudioServiceOutOfProcess",
    "GlobalMediaControls",
    "MediaRouter",
    "OptimizationHints",
    "OptimizationGuideModelDownloading",
    "Translate",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LocalNetworkAccessChecks",
    "PaintHolding",
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxPopup",  # a renderer of 45 MiB for an address bar that nobody sees
)
FEATURES_ON = ("NetworkServiceInProcess2",)
WITHOUT_SANDBOX: dict[str, str | bool] = {
    "no-sandbox": True,
    "test-type": True,  # without it a bar over the page warns of the missing sandbox
}
INSECURE: dict[str, str | bool] = {
    "disable-web-security": True,
    "allow-running-insecure-content": True,  # ws:// from a page of https://
}

FLAGS: dict[str, str | bool] = {
    "kiosk": True,
    "no-first-run": True,
    "no-default-browser-check": True,
    "noerrdialogs": True,
    "disable-gpu": True,  # software compositing: a third of SwiftShader's cost
    "enable-unsafe-swiftshader": True,  # without it a page has no WebGL
    "ozone-platform": "x11",
    "force-color-profile": "srgb",
    "force-device-scale-factor": "1",
    "hide-scrollbars": True,
    "autoplay-policy": "no-user-gesture-required",
    "disable-background-networking": True,
    "disable-background-timer-throttling": True,
    "disable-backgrounding-occluded-windows": True,
    "disable-renderer-backgrounding": True,
    "disable-breakpad": True,
    "disable-crash-reporter": True,
    "disable-client-side-phishing-detection": True,
    "disable-component-update": True,
    "disable-default-apps": True,
    "disable-extensions": True,
    "disable-field-trial-config": True,
    "disable-hang-monitor": True,
    "disable-ipc-flooding-protection": True,
    "disable-prompt-on-repost": True,
    "disable-search-engine-choice-screen": True,
    "disable-site-isolation-trials": True,  # one page, nobody's cookies: saves a process for each frame
    "disable-sync": True,
    "deny-permission-prompts": True,
    "metrics-recording-only": True,
    "no-pings": True,
    "password-store": "basic",
    "renderer-process-limit": "1",
    "window-position": "0,0",
    "enable-features": ",".join(FEATURES_ON),
    "disable-features": ",".join(FEATURES_OFF),
}


class NoSandbox(EgressError):
    """Chromium cannot make a sandbox on this machine."""


def command_flags(
    settings: BrowserSettings, width: int, height: int, profile: Path, proxy: str = ""
) -> dict[str, str | bool]:
    """All flags, by name without dashes. A configured value of None or False removes a flag. Configured lists
    of features are added to ours, and do not replace them."""
    flags = dict(FLAGS)
    if settings.insecure:
        flags |= INSECURE
    for given, value in settings.flags.items():
        name = given.lstrip("-")
        if value is None or value is False:
            flags.pop(name, None)
        elif name in ("enable-features", "disable-features") and isinstance(value, str):
            flags[name] = ",".join(
                dict.fromkeys([*str(flags.get(name, "")).split(","), *value.split(",")])
            ).strip(",")
        else:
            flags[name] = value
    if proxy:
        flags |= {"proxy-server": proxy, "proxy-bypass-list": "<-loopback>"}
    flags["window-size"] = f"{width},{height}"
    flags["user-data-dir"] = str(profile)
    flags["remote-debugging-pipe"] = True
    return flags


def arguments(flags: Mapping[str, str | bool]) -> list[str]:
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in flags.items()]


def find_binary(configured: str) -> str:
    """The configured path, or else the first of WELL_KNOWN and NAMES that exists. Raises EgressError."""
    if configured:
        if not os.access(configured, os.X_OK):
            raise _missing(f"chromium is set to {configured!r}, which is not a program")
        return configured
    for path in WELL_KNOWN:
        if os.access(path, os.X_OK):
            return path
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise _missing(f"no browser found ({', '.join(NAMES)}): install the package chromium")


def write_profile(profile: Path, framerate: int, webrtc: Mapping[str, object]) -> None:
    """Writes a new profile with the preferences for WebRTC. For recordings of up to 30 fps it enables the
    battery saver, which limits pages to 30 Hz and saves a third of Chromium's work."""
    profile.mkdir(mode=0o700)
    local_state: dict[str, object] = {"browser": {"first_run_finished": True}}
    if 0 < framerate <= HELD_HZ:
        local_state["performance_tuning"] = {"battery_saver_mode": {"state": 3}}
    (profile / "Local State").write_text(json.dumps(local_state))
    (profile / "Default").mkdir(mode=0o700)
    preferences = {
        "credentials_enable_service": False,
        "profile": {"default_content_setting_values": {"notifications": 2, "popups": 2}},
        "translate": {"enabled": False},
        "webrtc": dict(webrtc),
    }
    (profile / "Default" / "Preferences").write_text(json.dumps(preferences))


def webrtc_preferences(settings: BrowserSettings) -> dict[str, object]:
    """The preferences for WebRTC. Without UDP, pages use WebRTC only over TCP, through the proxy."""
    if settings.udp:
        return {}
    return {
        "ip_handling_policy": "disable_non_proxied_udp",
        "ip_handling_url": [{"url": _origin(url), "handling": "default"} for url in settings.udp_pages],
    }


def _origin(url: str) -> str:
    """The origin of a URL: preferences by URL do not support paths."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class Chromium:
    """A running browser and the connection to it."""

    child: Child
    connection: DevToolsConnection
    cgroup: PageCgroup | None = None
    """The browser's own cgroup, if we may make one."""

    @classmethod
    async def start(
        cls,
        settings: BrowserSettings,
        width: int,
        height: int,
        framerate: int,
        folder: Path,
        identity: Identity,
        environment: Mapping[str, str],
        proxy: str = "",
    ) -> "Chromium":
        """Starts the browser. `environment`: where display and sound are. `proxy`: a socks5:// URL that all
        traffic goes through, loopback included. Raises EgressError if the browser does not come up."""
        binary = find_binary(settings.chromium)
        profile = folder / "profile"
        write_profile(profile, framerate, webrtc_preferences(settings))
        _give(profile, identity)
        flags = command_flags(settings, width, height, profile, proxy)
        if settings.sandbox is False:
            flags |= WITHOUT_SANDBOX
        if not _shared_memory_suffices():
            flags["disable-dev-shm-usage"] = True
        full_environment = {
            **{name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "XDG_CACHE_HOME": str(folder),
            "TMPDIR": str(folder),
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
            "DBUS_SYSTEM_BUS_ADDRESS": "disabled:",
            **environment,
        }
        try:
            return await cls._launch(binary, flags, full_environment, identity)
        except NoSandbox as error:
            if settings.sandbox:
                raise
            _log.warning("pages are recorded without a sandbox: %s", error.message)
        return await cls._launch(binary, flags | WITHOUT_SANDBOX, full_environment, identity)

    @classmethod
    async def _launch(
        cls,
        binary: str,
        flags: Mapping[str, str | bool],
        environment: Mapping[str, str],
        identity: Identity,
    ) -> "Chromium":
        their_read, our_write = os.pipe()
        our_read, their_write = os.pipe()
        try:
            child = Child.spawn(
                "Chromium",
                [binary, *arguments(flags), "about:blank"],
                environment,
                identity,
                {their_read: 3, their_write: 4},
            )
        except BaseException:
            os.close(our_read)
            os.close(our_write)
            raise
        finally:
            os.close(their_read)
            os.close(their_write)
        cgroup = PageCgroup.make(str(child.pid))
        if cgroup is not None:
            cgroup.take({child.pid})
            cgroup.take(descendants(child.pid))  # and those that it has already started
        connection = await DevToolsConnection.open(our_read, our_write)
        browser = cls(child, connection, cgroup)
        try:
            await connection.command("Browser.getVersion", timeout_s=READY_TIMEOUT_S)
        except (Disconnected, CommandError):
            await child.exited
            error = _start_error(child, identity)
            await browser.close()
            raise error from None
        except TimeoutError:
            await browser.close()
            raise EgressError(
                Code.UNAVAILABLE,
                f"Chromium was not ready after {READY_TIMEOUT_S:.0f} s: the machine is overloaded",
                fault=Fault.SERVICE,
                phase=Phase.BROWSER_START,
            ) from None
        except BaseException:
            await browser.close()
            raise
        return browser

    async def close(self) -> None:
        # There is nothing in the profile to save, so no grace.
        await self.child.stop(grace_s=0)
        self.child.release()
        self.connection.close()
        if self.cgroup is not None:
            self.cgroup.remove()


def version(configured: str = "") -> str:
    """The version that the binary reports, for `doctor`. Blocks for some 50 ms. Raises EgressError if the
    binary is missing."""
    binary = find_binary(configured)
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=15, check=False)
    return done.stdout.strip()


def _give(folder: Path, identity: Identity) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, identity.uid, identity.gid)


def _shared_memory_suffices() -> bool:
    try:
        return shutil.disk_usage("/dev/shm").free >= SHM_BYTES
    except OSError:
        return False


def _start_error(child: Child, identity: Identity) -> EgressError:
    if "sandbox" in child.said().lower():
        return NoSandbox(
            Code.FAILED_PRECONDITION,
            f"Chromium found no usable sandbox as user {identity.name!r}: allow unprivileged user namespaces"
            " on the host (sysctl kernel.unprivileged_userns_clone=1,"
            " kernel.apparmor_restrict_unprivileged_userns=0; in Docker a seccomp profile that permits"
            " clone and unshare), or set enable_chrome_sandbox to false if you trust every page",
            fault=Fault.SERVICE,
            phase=Phase.BROWSER_START,
        )
    return died(child)


def _missing(message: str) -> EgressError:
    return EgressError(Code.FAILED_PRECONDITION, message, fault=Fault.SERVICE, phase=Phase.BROWSER_START)
