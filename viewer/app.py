"""The window: the picture, the panel beside it, mouse and keys. Rendering happens in `render_thread`."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from neural3d.viewer.camera import Eye, first_eye, opengl_view, photo_eye
from neural3d.viewer.clipboard import copy_text
from neural3d.viewer.native import add_lines, add_subject, can_draw, image
from neural3d.viewer.open import Subject
from neural3d.viewer.painter import painter
from neural3d.viewer.panel import KEYS, WIDTH, Panel, help_page
from neural3d.viewer.picture import KINDS, Kind
from neural3d.viewer.quiet import quiet
from neural3d.viewer.render_thread import Frame, RenderThread
from neural3d.viewer.state import DARK, WHITE, State, capture_box
from open3d.visualization import gui, rendering

from neural3d.errors import UserError
from neural3d.render.images import save_png
from neural3d.render.path_files import write_camera_path
from neural3d.render.spline import frames_between

TURN = math.radians(0.4)  # per pixel of a drag
STEP = math.radians(10)  # of an arrow key
ZOOM = 0.85  # of the distance, per notch of the wheel
DOUBLE = 0.35  # seconds between the clicks of a double click
PATIENCE = 0.5  # seconds that the worker waits for a window that is busy
FPS = 24.0  # of saved and played paths
CONSUMED = gui.Widget.EventCallbackResult.CONSUMED
Key, Mouse = gui.KeyName, gui.MouseEvent.Type


class Viewer:
    """One window on one subject. Only the window's thread touches it; frames come from a RenderThread."""

    def __init__(self, subject: Subject, width: int = 1280, height: int = 800):
        self.app = gui.Application.instance
        self.app.initialize()
        self.window = self.app.create_window(f"neural3d · {subject.name}", width, height)
        em = self.window.theme.font_size
        self.state = State.of(subject, max(0.1, (width - WIDTH * em) / height))
        self.drawn_by = ["neural3d", "Open3D"] if can_draw(subject) else []
        self.native = False
        self.frame: Frame | None = None  # the picture shown
        self.shown: deque[float] = deque(maxlen=30)  # when the last ones were
        self._mailbox = threading.BoundedSemaphore()  # held while a picture is on its way to the window
        self._press: tuple[int, int] | None = None
        self._clicked = 0.0
        self._playing: tuple[float, list[Eye]] | None = None
        self._note = ""
        self._closed = False
        self._until: Callable[[], bool] = lambda: False
        self._scene: gui.SceneWidget | None = None
        self._fit = True  # nobody has moved the camera yet

        self.image = gui.ImageWidget()
        self.panel, self.help = Panel(self, em), help_page(em)
        self.help.visible = False
        for widget in (self.image, self.panel.widget, self.panel.footer, self.help):
            self.window.add_child(widget)
        self.image.set_on_mouse(self.on_mouse)
        self.window.set_on_key(self.on_key)
        self.window.set_on_layout(self._layout)
        self.window.set_on_tick_event(self._tick)
        self.window.set_on_close(self._close)
        smooth, remember = subject.meshes is not None, subject.kind == "field" and subject.live is None
        self.worker = RenderThread(painter(subject), self._deliver, smooth=smooth, remember=remember, live=subject.live)
        self.worker.start()
        self.panel.refresh()

    # --- pictures ---

    @property
    def size(self) -> tuple[int, int]:
        """Pixels of the picture."""
        return max(1, self.image.frame.width), max(1, self.image.frame.height)

    def update(self, refresh: bool = True) -> None:
        """After any change of the state: asks for a new picture, shows the state in the panel."""
        if refresh:
            self.panel.refresh()
        native = self._native_now()
        if native:
            self._show_native()
        else:
            self.worker.request(self.state.shot(*self.size))
        self._switch(native)

    def _deliver(self, frame: Frame) -> None:
        """On the worker's thread: hands the window a picture, after it took the one before."""
        if self._mailbox.acquire(timeout=PATIENCE) and not self._closed:
            self.app.post_to_main_thread(self.window, lambda: self._take(frame))

    def _take(self, frame: Frame) -> None:
        if self._closed:
            return
        with suppress(ValueError):
            self._mailbox.release()
        self.image.update_image(image(frame.picture))
        self.frame = frame
        self.shown.append(time.monotonic())
        self._say()
        self.window.post_redraw()

    def _say(self) -> None:
        """The status line, and the score of an error view."""
        if self.frame is None:
            return
        text = "sharp" if self.frame.done and self.frame.scale >= 1 else f"{min(self.frame.scale, 1):.0%} of the size"
        if (live := self.state.subject.live) is not None:
            text = f"{live.status()}, {text}"
        recent = [t for t in self.shown if t > time.monotonic() - 1]
        if len(recent) > 3:
            text += f", {(len(recent) - 1) / max(recent[-1] - recent[0], 1e-3):.0f} frames/s"
        if self.frame.note and self.frame.shot.kind == "error" and self.frame.scale:
            self.panel.score.text = f"PSNR {self.frame.note}"
        elif self.frame.note:
            text = self.frame.note
        self.panel.status.text = f"{self._note or text}\nH: mouse and keys"

    def say(self, note: str) -> None:
        """Something for the status line, until the next move."""
        self._note = note
        self.panel.status.text = f"{note}\nH: mouse and keys"
        self.window.set_needs_layout()

    # --- Open3D's own renderer ---

    def _native_now(self) -> bool:
        return self.native and self.state.kind == "rgb" and not self.state.clipping

    def _show_native(self) -> None:
        state = self.state
        if self._scene is None:
            self._scene = gui.SceneWidget()
            self._scene.scene = rendering.Open3DScene(self.window.renderer)
            self._scene.scene.set_lighting(rendering.Open3DScene.LightingProfile.NO_SHADOWS, (0.4, 0.6, -0.7))
            self._scene.scene.view.set_post_processing(False)  # colours as they are
            add_subject(self._scene.scene, state.subject)
            self._scene.set_on_mouse(self.on_mouse)
            self.window.add_child(self._scene)
            self.window.set_needs_layout()
        scene = self._scene.scene
        scene.set_background([*state.background, 1.0])
        add_lines(scene, "lines", state.lines(), 1.5 * self.window.scaling)
        width, height = self.size
        near = max(1e-3, 0.02 * state.eye.distance)
        scene.camera.set_projection(state.eye.fov, width / height, near, 1e4 * near, rendering.Camera.FovType.Vertical)
        scene.camera.look_at(*opengl_view(state.eye))
        self._scene.force_redraw()
        self.window.post_redraw()

    def _switch(self, native: bool) -> None:
        if self._scene is not None and self._scene.visible != native:
            self._scene.visible, self.image.visible = native, not native
            self.window.set_needs_layout()

    # --- mouse and keys ---

    def on_mouse(self, event: Any) -> Any:
        kind = event.type
        if kind == Mouse.WHEEL:
            self.move(self.state.eye.closer(ZOOM ** math.copysign(min(abs(event.wheel_dy), 3), event.wheel_dy)))
        elif kind == Mouse.BUTTON_DOWN:
            now = time.monotonic()
            if now - self._clicked < DOUBLE and event.is_button_down(gui.MouseButton.LEFT):
                self._look_at(event.x, event.y)
            self._press, self._clicked = (event.x, event.y), now
        elif kind == Mouse.DRAG and self._press is not None:
            self._drag(event)
        elif kind == Mouse.BUTTON_UP:
            self._press = None
        return CONSUMED

    def _drag(self, event: Any) -> None:
        assert self._press is not None
        dx, dy = event.x - self._press[0], event.y - self._press[1]
        self._press, self._clicked = (event.x, event.y), 0.0
        eye, (width, height) = self.state.eye, self.size
        if not event.is_button_down(gui.MouseButton.LEFT) or event.is_modifier_down(gui.KeyModifier.CTRL):
            self.move(eye.panned(dx / height, dy / height))
        elif event.is_modifier_down(gui.KeyModifier.SHIFT):
            self.move(eye.rolled(-dx / width * math.pi))
        else:
            self.move(eye.turned(dx * TURN, dy * TURN))

    def _look_at(self, x: int, y: int) -> None:
        """Turns about the point under the mouse from now on."""
        frame = self.frame
        if frame is None or frame.shot.kind == "error" or self._native_now():
            return
        width, height = self.size
        u, v = (x - self.image.frame.x + 0.5) / width, (y - self.image.frame.y + 0.5) / height
        rows, columns = frame.depth.shape
        z = float(frame.depth[min(max(int(v * rows), 0), rows - 1), min(max(int(u * columns), 0), columns - 1)])
        if z > 0:
            camera = frame.shot.camera
            fx, fy, cx, cy = camera.params
            local = camera.params.new_tensor([(u * camera.width - cx) / fx, (v * camera.height - cy) / fy, 1.0]) * z
            self.move(self.state.eye.about(camera.centre + camera.world_from_camera[:3, :3] @ local))

    def on_key(self, event: Any) -> bool:
        if event.type != gui.KeyEvent.Type.DOWN:
            return False
        act = self._keys().get(event.key)
        if act is None:
            return False
        act()
        return True

    def _keys(self) -> dict[Any, Any]:
        state, eye = self.state, self.state.eye
        keys = {
            Key.H: self.toggle_help, Key.ESCAPE: lambda: self.toggle_help(False), Key.Q: self.window.close,
            Key.R: self.reset, Key.S: self.screenshot, Key.K: self.add_keyframe, Key.P: self.play,
            Key.V: lambda: self.show_kind(KINDS[(KINDS.index(state.kind) + 1) % len(KINDS)]),
            Key.C: lambda: self.set_frustums(not state.frustums), Key.O: lambda: self.set_photos(not state.photos),
            Key.B: lambda: self.set_bounds(not state.bounds), Key.X: lambda: self.set_clipping(not state.clipping),
            Key.L: lambda: self.set_dark(state.background == WHITE), Key.TAB: self.toggle_panel,
            Key.N: lambda: self.step(-1), Key.M: lambda: self.step(1), Key.G: self.stand,
            Key.LEFT_BRACKET: lambda: self.move(eye.zoomed(0.9)),
            Key.RIGHT_BRACKET: lambda: self.move(eye.zoomed(1 / 0.9)),
            Key.LEFT: lambda: self.move(eye.turned(-STEP, 0)), Key.RIGHT: lambda: self.move(eye.turned(STEP, 0)),
            Key.UP: lambda: self.move(eye.turned(0, STEP)), Key.DOWN: lambda: self.move(eye.turned(0, -STEP)),
            Key.PLUS: lambda: self.move(eye.closer(ZOOM)), Key.EQUALS: lambda: self.move(eye.closer(ZOOM)),
            Key.MINUS: lambda: self.move(eye.closer(1 / ZOOM)),
        }  # fmt: skip
        digits = (Key.ONE, Key.TWO, Key.THREE, Key.FOUR)
        return keys | {key: lambda k=kind: self.show_kind(k) for key, kind in zip(digits, KINDS)}

    # --- what the user can do ---

    def move(self, eye: Eye, playing: bool = False) -> None:
        """The camera goes elsewhere; that stops the film and leaves the error view, which is the photo's."""
        if not playing:
            self._playing = None
        self._fit = False
        self._note = ""
        refresh = eye.fov != self.state.eye.fov or self.state.kind == "error"
        self.state.eye = eye
        if self.state.kind == "error":
            self.state.kind = "rgb"
        self.update(refresh)

    def reset(self) -> None:
        self.move(first_eye(self.state.subject, self.size[0] / self.size[1]))
        self._fit = True

    def show_kind(self, kind: Kind) -> None:
        if kind not in self.panel.kinds:
            kind = "rgb"
        if kind == "error":
            self.stand()
        self.state.kind = kind
        self.update()

    def set_dark(self, dark: bool) -> None:
        self.state.background = DARK if dark else WHITE
        self.update()

    def set_native(self, native: bool) -> None:
        self.native = native
        self.update()
        if native:
            self.say("drawn by Open3D: seconds a frame without a graphics card")

    def set_fov(self, degrees: float) -> None:
        if abs(degrees - self.state.eye.fov) > 1e-3:
            self.move(replace(self.state.eye, fov=degrees))

    def set_bounds(self, shown: bool) -> None:
        self.state.bounds = shown
        self.update()

    def set_frustums(self, shown: bool) -> None:
        self.state.frustums = shown and self.state.scene is not None
        self.update()

    def set_photos(self, shown: bool) -> None:
        self.state.photos = shown
        self.state.frustums |= shown and self.state.scene is not None
        self.update()

    def choose(self, index: int) -> None:
        """A photo; where one of them is looked through, the eye follows."""
        self.state.chosen = index
        if self.state.kind == "error":
            self.show_kind("error")
        else:
            self.update()

    def step(self, by: int) -> None:
        if self.state.scene is not None:
            self.choose((self.state.chosen + by) % len(self.state.scene.views))
            if self.state.kind != "error":
                self.stand()

    def stand(self) -> None:
        """Where the chosen photo was taken."""
        if self.state.view is not None:
            kind = self.state.kind
            self.move(photo_eye(self.state.view.camera, self.state.subject.aabb))
            self.state.kind = kind
            self.update()

    def set_clipping(self, clipping: bool) -> None:
        self.state.clipping = clipping
        self.update()

    def set_side(self, end: int, axis: int, value: float) -> None:
        """One side of the clip box; it pushes the other before it, so that something is left between."""
        box = self.state.clip_box.clone()
        least = 1e-3 * float((self.state.clip_range()[1] - self.state.clip_range()[0])[axis])
        box[end, axis] = value
        if end == 0:
            box[1, axis] = max(float(box[1, axis]), value + least)
        else:
            box[0, axis] = min(float(box[0, axis]), value - least)
        self.state.clip_box, self.state.clipping = box, True
        self.update()

    def reset_clip(self) -> None:
        self.state.clip_box = capture_box(self.state.subject)
        self.update()

    def copy_clip(self) -> None:
        words = self.state.clip_words()
        if copy_text(words):
            self.say("copied; give it to neural3d export")
        else:
            print(words)
            self.say("no clipboard here: printed in the terminal")

    def add_keyframe(self) -> None:
        self.state.keyframes.append(self.state.eye.camera(*self.size))
        self.say(f"key frame {len(self.state.keyframes)} added")
        self.update()

    def remove_keyframe(self) -> None:
        """The one selected in the panel, or the last."""
        frames, index = self.state.keyframes, self.panel.keyframes.selected_index
        if frames:
            del frames[index if 0 <= index < len(frames) else -1]
            self.update()

    def go_to_keyframe(self, index: int) -> None:
        if 0 <= index < len(self.state.keyframes):
            self.move(photo_eye(self.state.keyframes[index], self.state.subject.aabb))

    def play(self) -> None:
        """The way through the key frames, or stops it."""
        frames = self.state.keyframes
        if self._playing is not None or len(frames) < 2:
            self._playing = None
            return self.say("stopped" if len(frames) > 1 else "two key frames make a path: press K twice")
        count = round(FPS * self.panel.seconds.double_value / (len(frames) - 1))
        way = frames_between(frames, [max(1, count)] * (len(frames) - 1))
        self._playing = time.monotonic(), [photo_eye(camera, self.state.subject.aabb) for camera in way]

    def save_path(self) -> None:
        """The key frames as a camera path in the current folder."""
        path = free_name(self.state.subject.name, "path", ".json")
        try:
            seconds = self.panel.seconds.double_value
            write_camera_path(path, self.state.keyframes, self.state.path_scene(), fps=FPS, seconds=seconds)
        except UserError as error:
            return self.say("no key frames yet: press K" if not self.state.keyframes else str(error))
        self.say(f"saved {path}")

    def screenshot(self) -> None:
        """The picture without the panel, in the current folder."""
        path = free_name(self.state.subject.name, "view", ".png")

        def save(pixels: np.ndarray) -> None:
            try:
                save_png(path, pixels)
            except UserError as error:
                return self.say(str(error))
            self.say(f"saved {path}")

        if self._native_now() and self._scene is not None:
            self._scene.scene.scene.render_to_image(lambda image: save(np.asarray(image)[..., :3]))
        elif self.frame is not None:
            save(self.frame.picture)

    def toggle_help(self, shown: bool | None = None) -> None:
        self.help.visible = not self.help.visible if shown is None else shown
        self.window.set_needs_layout()

    def toggle_panel(self) -> None:
        self.panel.widget.visible = self.panel.footer.visible = not self.panel.widget.visible
        self.window.set_needs_layout()

    # --- the window ---

    def _layout(self, context: Any) -> None:
        area, em = self.window.content_rect, self.window.theme.font_size
        width = min(WIDTH * em, area.width // 2) if self.panel.widget.visible else 0
        frame = gui.Rect(area.x, area.y, max(1, area.width - width), max(1, area.height))
        changed = (frame.width, frame.height) != (self.image.frame.width, self.image.frame.height)
        self.image.frame = frame
        if self._scene is not None:
            self._scene.frame = frame
        low = max(1, area.height - round(2.9 * em))
        self.panel.widget.frame = gui.Rect(frame.get_right(), area.y, max(1, width), low)
        self.panel.footer.frame = gui.Rect(frame.get_right(), area.y + low, max(1, width), max(1, area.height - low))
        w, h = min(round(25 * em), frame.width), min(round((1.69 * len(KEYS) + 3.9) * em), frame.height)
        self.help.frame = gui.Rect(frame.x + (frame.width - w) // 2, frame.y + (frame.height - h) // 2, w, h)
        if changed:
            if self._fit:
                self.state.eye = first_eye(self.state.subject, frame.width / frame.height)
            self.update(refresh=False)

    def _tick(self) -> bool:
        if self._until():
            self._until = lambda: False
            self.app.post_to_main_thread(self.window, self.window.close)  # not from within its own event
        if self._playing is None:
            return False
        started, way = self._playing
        index = int((time.monotonic() - started) * FPS)
        self.move(way[min(index, len(way) - 1)], playing=True)
        if index >= len(way):
            self._playing = None
        return True

    def _close(self) -> bool:
        self._closed = True
        self.worker.stop()
        return True

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Until the window is closed, or `until()` closes it."""
        self._until = until
        try:
            self.app.run()
        finally:
            self._close()


def free_name(name: str, kind: str, suffix: str) -> Path:
    """NAME-KIND-1.SUFFIX in the current folder, or the next number that is not taken."""
    stem, number = Path(name).stem, 1
    while (path := Path(f"{stem}-{kind}-{number}{suffix}")).exists():
        number += 1
    return path


def show(subject: Subject) -> None:
    """Opens the window and returns when it is closed."""
    with quiet():
        Viewer(subject).run()
