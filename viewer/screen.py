"""Whether a window can be opened here, and what to do where it cannot."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from neural3d.errors import UserError
from neural3d.geometry.solid import load_open3d

PACKAGES = "apt-get install -y libvulkan1 mesa-vulkan-drivers xvfb"
DRIVERS = (
    "/usr/share/vulkan/icd.d",
    "/etc/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
    "/usr/local/etc/vulkan/icd.d",
)


def check_screen() -> None:
    """Raises UserError where no window can be opened: no display, or nothing that draws on it."""
    try:
        load_open3d()
    except UserError as error:
        raise UserError(f"The window is Open3D's. {error} --screenshot FILE.png and --web PORT do without.") from None
    if not sys.platform.startswith("linux"):
        return
    if not os.environ.get("WAYLAND_DISPLAY") and not _opens_x11():
        raise UserError(
            "There is no display here to open a window on; --screenshot FILE.png saves a picture, and --web PORT "
            "serves the scene to a browser, also through an SSH tunnel."
        )
    check_vulkan()


def check_vulkan() -> None:
    """Raises UserError where Linux lacks what draws windows."""
    drivers = any(any(Path(folder).glob("*.json")) for folder in DRIVERS) or os.environ.get("VK_ICD_FILENAMES")
    if not drivers or not _loads("libvulkan.so.1"):
        raise UserError(f"The window needs Vulkan, which is missing here; on Debian or Ubuntu: {PACKAGES}")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _opens_x11() -> bool:
    """Whether $DISPLAY names an X server that answers."""
    if not os.environ.get("DISPLAY") or not _loads("libX11.so.6"):
        return False
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = x11.XOpenDisplay(None)
    if not display:
        return False
    x11.XCloseDisplay(ctypes.c_void_p(display))
    return True
