"""The viewer in a browser, on loopback: for machines that are reached through an SSH tunnel.

viser serves the page and carries mouse and keys. Pictures by our renderers are its background, coarse while the camera
moves and refined at rest as in the window; splats, meshes and points can also be drawn by the browser itself.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
import warnings
from typing import Any, Literal

import numpy as np
import torch
from neural3d.viewer.camera import first_eye
from neural3d.viewer.items import BLUE, GREY, NO_LINES, Lines, box_lines, frustum_size, scene_lines
from neural3d.viewer.open import Subject
from neural3d.viewer.painter import Paint, painter
from neural3d.viewer.picture import Kind, Shot
from neural3d.viewer.render_thread import Frame, RenderThread

from neural3d.cli.console import console
from neural3d.errors import UserError
from neural3d.files.quantised import C0
from neural3d.geometry.cameras import Camera
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.render import RenderOut

LARGEST = 1280  # pixels of the picture's longer side; the browser enlarges it
SHOWS: dict[str, Kind] = {"colours": "rgb", "depth": "depth", "normals": "normal"}
Drawn = Literal["neural3d", "browser"]


def serve(subject: Subject, port: int) -> None:
    """Serves a subject at http://127.0.0.1:PORT until Ctrl-C. Raises UserError where viser is missing."""
    page = Page(subject, port)
    told(page)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("ended")
    finally:
        page.stop()


def told(page: Page) -> None:
    """Says where it is."""
    console.print(f"{page.subject.name} is at http://127.0.0.1:{page.port}; Ctrl-C ends it")
    console.print(f"from another machine: ssh -L {page.port}:127.0.0.1:{page.port} THIS_MACHINE, then the same address")


class Page:
    """A running server. Everyone who opens the page has a camera and a render thread of their own."""

    def __init__(self, subject: Subject, port: int):
        """port: the first one to try. Raises UserError where viser is missing or no port is free."""
        try:
            import viser
        except ImportError as error:
            raise UserError(f"The browser's viewer needs viser ({error}): pip install 'neural3d[web]'.") from None
        if not 0 < port < 65536:
            raise UserError(f"--web {port}: a port is a number from 1 to 65535, such as 8080.")
        warnings.filterwarnings("ignore", "Queued a .* on a closed connection")  # a picture for one who has just left
        logging.getLogger("websockets").setLevel(logging.CRITICAL)  # it reports browsers that hang up
        self.subject = subject
        self._lines = _lines_of(subject)
        self._paint, self._lock = painter(subject), threading.Lock()
        self._visitors: dict[int, _Visitor] = {}
        try:
            with _silence():
                self._server: Any = viser.ViserServer(
                    "127.0.0.1", port, label=f"neural3d · {subject.name}", verbose=False
                )
        except OSError as error:
            raise UserError(f"--web {port}: cannot be served ({error.strerror or error}); take another port.") from None
        self.port: int = self._server.get_port()
        eye = first_eye(subject, 1.5)
        self._server.scene.set_up_direction(tuple(subject.up.tolist()))
        self._server.gui.configure_theme(show_logo=False, show_share_button=False)  # sharing leads over others' servers
        self._server.gui.main_panel.dock_right()
        first = self._server.initial_camera
        first.up, first.fov = tuple(subject.up.tolist()), math.radians(eye.fov)
        first.position, first.look_at = (tuple(x.tolist()) for x in (eye.centre, eye.pivot))
        self._server.on_client_connect(self._welcome)
        self._server.on_client_disconnect(self._farewell)

    def stop(self) -> None:
        for visitor in list(self._visitors.values()):
            visitor.worker.stop()
        with _silence():
            self._server.stop()

    def paint(self, camera: Camera, background: Any, clip: Any = None) -> RenderOut:
        """One picture at a time: methods and Open3D's scenes are not made for two threads."""
        with self._lock:
            return self._paint(camera, background, clip)

    def _welcome(self, client: Any) -> None:
        self._visitors[client.client_id] = _Visitor(client, self.subject, self.paint, self._lines)

    def _farewell(self, client: Any) -> None:
        visitor = self._visitors.pop(client.client_id, None)
        if visitor is not None:
            visitor.worker.stop()


class _Visitor:
    """One browser: its panel, its camera, its pictures."""

    def __init__(self, client: Any, subject: Subject, paint: Paint, lines: Lines):
        self.client, self.subject, self.lines = client, subject, lines
        self.native = _add_native(client.scene, subject)
        self.frustums = client.scene.add_line_segments(
            "/cameras", lines.ends.astype(np.float32), np.repeat(lines.colors[:, None], 2, 1), thickness=1.5,
            thickness_units="screen", visible=False,
        )  # fmt: skip
        gui = client.gui
        gui.add_markdown("  \n".join(f"**{label}** {text}" for label, text in subject.facts))
        self.show = gui.add_dropdown("show", tuple(SHOWS), initial_value="colours")
        by = ("neural3d", "browser") if self.native else ("neural3d",)
        self.drawn = gui.add_dropdown("drawn by", by, initial_value="neural3d", visible=len(by) > 1)
        self.cameras = gui.add_checkbox("cameras and bounds", False)
        self.state = gui.add_markdown("")
        for widget in (self.show, self.drawn, self.cameras):
            widget.on_update(lambda _: self.update())
        self.worker = RenderThread(paint, self.deliver, smooth=subject.meshes is not None, live=subject.live)
        self.worker.start()
        client.camera.on_update(lambda _: self.update())
        self.update()

    def update(self) -> None:
        """After any change of camera or choices."""
        by_browser = self.drawn.value == "browser" and self.show.value == "colours"
        for node in self.native:
            node.visible = by_browser
        self.frustums.visible = by_browser and self.cameras.value
        if by_browser:
            self.client.scene.set_background_image(None)
            self.state.content = "drawn by the browser"
        elif (camera := self.camera()) is not None:
            lines = self.lines if self.cameras.value else NO_LINES
            kind, size = SHOWS[self.show.value], (camera.width, camera.height)
            self.worker.request(Shot(camera, kind, size, torch.ones(3), lines=lines))

    def camera(self) -> Camera | None:
        """The browser's; None as long as it has not said."""
        view = self.client.camera
        width, height = int(view.image_width or 0), int(view.image_height or 0)
        if min(width, height) < 2:
            return None
        shrink = max(1.0, max(width, height) / LARGEST)
        width, height = max(2, round(width / shrink)), max(2, round(height / shrink))
        focal = 0.5 * height / math.tan(0.5 * view.fov)
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = rotation_from_quaternion(torch.tensor(view.wxyz, dtype=torch.float64))
        pose[:3, 3] = torch.tensor(view.position, dtype=torch.float64)
        return Camera("PINHOLE", width, height, torch.tensor([focal, focal, width / 2, height / 2]), pose)

    def deliver(self, frame: Frame) -> None:
        """On the render thread."""
        if self.drawn.value == "browser" and self.show.value == "colours":
            return
        self.client.scene.set_background_image(frame.picture, "jpeg", jpeg_quality=92 if frame.done else 75)
        said = [self.subject.live.status()] if self.subject.live else []
        said.append(frame.note or ("done" if frame.done else f"{frame.scale:.0%} of the size"))
        self.state.content = ", ".join(said)


def _silence() -> contextlib.redirect_stdout:
    """viser prints a banner, and when it ends."""
    return contextlib.redirect_stdout(io.StringIO())


def _lines_of(subject: Subject) -> Lines:
    bounds = box_lines(subject.aabb, GREY)
    if subject.scene is None:
        return bounds
    return bounds + scene_lines(subject.scene, frustum_size(subject.scene), None)


def _add_native(scene: Any, subject: Subject) -> list[Any]:
    """What the browser can draw itself, hidden at first; nothing of fields."""
    if subject.splats is not None:
        splats = subject.splats
        with torch.no_grad():
            half = rotation_from_quaternion(splats.quats) * splats.log_scales.exp()[:, None]
            values = (splats.means, half @ half.mT, (0.5 + C0 * splats.sh_dc).clamp(0, 1))
            opacity = splats.opacity_logits.sigmoid()[:, None]
        arrays = [x.detach().float().cpu().numpy() for x in (*values, opacity)]
        return [scene.add_gaussian_splats("/splats", *arrays, visible=False)]
    if subject.meshes is not None:
        return [scene.add_mesh_trimesh(f"/mesh/{k}", mesh, visible=False) for k, mesh in enumerate(subject.meshes)]
    if subject.points is not None:
        points, colors = subject.points
        color: Any = BLUE if colors is None else colors
        return [scene.add_point_cloud("/points", points, color, point_size=0.005, point_shape="circle", visible=False)]
    return []
