"""The panel beside the picture, and the page of keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from neural3d.viewer.picture import KINDS
from open3d.visualization import gui

if TYPE_CHECKING:
    from neural3d.viewer.app import Viewer

WIDTH = 19  # of the panel, in font sizes
PANEL, FOOTER = gui.Color(0.21, 0.22, 0.25), gui.Color(0.16, 0.17, 0.19)
FAINT, PLAIN, ACCENT = gui.Color(0.62, 0.65, 0.70), gui.Color(0.93, 0.94, 0.95), gui.Color(0.45, 0.71, 1.0)
KIND_LABELS = {"rgb": "Colour", "depth": "Depth", "normal": "Normal", "error": "Error"}
KEYS = [
    ("left drag", "turn about the subject"),
    ("ctrl + drag, right drag", "move sideways"),
    ("shift + drag", "roll"),
    ("wheel,  + -", "nearer, farther"),
    ("double click", "look at this point"),
    ("arrows", "turn by steps"),
    ("[  ]", "field of view"),
    ("R", "back to the first view"),
    ("1 2 3 4,  V", "colour, depth, normals, error; next"),
    ("C  O  B", "cameras, their photos, bounds"),
    ("N  M  G", "previous, next photo; stand there"),
    ("X", "clip to the box"),
    ("L", "light or dark background"),
    ("K  P", "add a key frame; play the path"),
    ("S", "save a screenshot"),
    ("Tab", "hide or show the panel"),
    ("H  Q", "this page; quit"),
]


class Panel:
    """All widgets; what they do is the Viewer's business."""

    def __init__(self, viewer: Viewer, em: float):
        self.viewer, self.em = viewer, em
        gap = round(0.35 * em)
        self.widget = gui.ScrollableVert(gap, gui.Margins(*(round(x * em) for x in (0.75, 0.75, 1.2, 0.75))))
        self.widget.background_color = PANEL
        self._subject()
        self._view()
        if viewer.state.scene is not None:
            self._cameras()
        self._clip()
        self._path()
        self.footer = gui.Vert(0, gui.Margins(round(0.75 * em), round(0.4 * em), round(0.75 * em), round(0.4 * em)))
        self.footer.background_color = FOOTER
        self.status = self._label("", FAINT)
        self.footer.add_child(self.status)

    # --- sections ---

    def _section(self, title: str, is_open: bool = True) -> Any:
        em = self.em
        section = gui.CollapsableVert(
            title, round(0.35 * em), gui.Margins(round(0.4 * em), round(0.2 * em), 0, round(0.5 * em))
        )
        section.set_is_open(is_open)
        self.widget.add_child(section)
        return section

    def _subject(self) -> None:
        subject, section = self.viewer.state.subject, self._section("Subject")
        section.add_child(self._label(subject.name, ACCENT))
        for name, text in subject.facts:
            section.add_child(self._row(name, self._label(text), lower=0))

    def _view(self) -> None:
        section, viewer, state = self._section("View"), self.viewer, self.viewer.state
        row = gui.Horiz(round(0.25 * self.em))
        self.kinds = {}
        for kind in KINDS:
            if kind == "error" and (state.scene is None or state.subject.render is None):
                continue
            button = self._button(KIND_LABELS[kind], partial(viewer.show_kind, kind), toggles=True)
            self.kinds[kind] = button
            row.add_child(button)
        section.add_child(row)
        self.dark = self._checkbox(section, "Dark background", viewer.set_dark)
        if viewer.drawn_by:
            self.drawn = gui.Combobox()
            for name in viewer.drawn_by:
                self.drawn.add_item(name)
            self.drawn.set_on_selection_changed(lambda _, index: viewer.set_native(index == 1))
            section.add_child(self._row("Drawn by", self.drawn))
        self.fov = self._slider(5, 120, viewer.set_fov)
        section.add_child(self._row("Field of view", self.fov))
        self.bounds = self._checkbox(section, "Bounds", viewer.set_bounds)

    def _cameras(self) -> None:
        section, viewer, scene = self._section("Cameras"), self.viewer, self.viewer.state.scene
        row = gui.Horiz(self.em)
        self.frustums = self._checkbox(row, "Frustums", viewer.set_frustums)
        self.photos = self._checkbox(row, "Photos", viewer.set_photos)
        section.add_child(row)
        self.names = gui.Combobox()
        assert scene is not None
        for view in scene.views:
            self.names.add_item(view.name[-28:])
        self.names.set_on_selection_changed(lambda _, index: viewer.choose(int(index)))
        section.add_child(self.names)
        row = gui.Horiz(round(0.25 * self.em))
        for text, act in (("<", lambda: viewer.step(-1)), (">", lambda: viewer.step(1)), ("Stand there", viewer.stand)):
            row.add_child(self._button(text, act))
        section.add_child(row)
        self.score = self._label("", ACCENT)
        section.add_child(self.score)

    def _clip(self) -> None:
        section, viewer = self._section("Clip", is_open=False), self.viewer
        self.clipping = self._checkbox(section, "Clip to the box", viewer.set_clipping)
        low, high = viewer.state.clip_range()
        self.sides = []
        for end, word in enumerate(("from", "to")):
            for axis, letter in enumerate("xyz"):
                slider = self._slider(low[axis], high[axis], partial(viewer.set_side, end, axis))
                section.add_child(self._row(f"{letter} {word}", slider))
                self.sides.append(slider)
        self.words = self._label("\n")
        section.add_child(self.words)
        row = gui.Horiz(round(0.25 * self.em))
        row.add_child(self._button("Copy", viewer.copy_clip))
        row.add_child(self._button("Reset", viewer.reset_clip))
        section.add_child(row)

    def _path(self) -> None:
        section, viewer = self._section("Path", is_open=False), self.viewer
        self.keyframes = gui.ListView()
        self.keyframes.set_max_visible_items(4)
        self.keyframes.set_on_selection_changed(lambda _, __: viewer.go_to_keyframe(self.keyframes.selected_index))
        self._listed = -1
        section.add_child(self.keyframes)
        row = gui.Horiz(round(0.25 * self.em))
        for text, act in (("Add", viewer.add_keyframe), ("Remove", viewer.remove_keyframe), ("Play", viewer.play)):
            row.add_child(self._button(text, act))
        row.add_child(self._button("Save", viewer.save_path))
        section.add_child(row)
        self.seconds = self._slider(1, 60, lambda x: None)
        self.seconds.double_value = 8
        section.add_child(self._row("Seconds", self.seconds))

    # --- keeping up with the state ---

    def refresh(self) -> None:
        """Shows the state's values in the widgets."""
        state = self.viewer.state
        for kind, button in self.kinds.items():
            button.is_on = kind == state.kind
        self.dark.checked = state.background[0] < 0.5
        self.bounds.checked, self.clipping.checked = state.bounds, state.clipping
        self.fov.double_value = state.eye.fov
        if self.viewer.drawn_by:
            self.drawn.selected_index = int(self.viewer.native)
        if state.scene is not None:
            self.frustums.checked, self.photos.checked = state.frustums, state.photos
            self.names.selected_index = state.chosen
        for slider, value in zip(self.sides, state.clip_box.flatten().tolist()):
            slider.double_value = value
        words = state.clip_words().split()
        self.words.text = " ".join(words[:4]) + "\n" + " ".join(words[4:])
        if self._listed != len(state.keyframes):  # setting items would select anew
            self._listed = len(state.keyframes)
            names = [f"key frame {k + 1}" for k in range(self._listed)]
            self.keyframes.set_items(names or ["none yet: press K"])
            self.keyframes.selected_index = -1
            self.viewer.window.set_needs_layout()

    # --- pieces ---

    def _label(self, text: str, color: gui.Color = PLAIN) -> gui.Label:
        label = gui.Label(text)
        label.text_color = color
        return label

    def _row(self, name: str, widget: gui.Widget, lower: float = 0.15) -> gui.Horiz:
        """A name beside a widget; `lower`: font sizes by which widgets' texts lie lower than plain ones."""
        row = gui.Horiz(round(0.5 * self.em))
        label = gui.Vert(0, gui.Margins(0, round(lower * self.em), 0, 0))
        label.add_child(self._label(name, FAINT))
        label.preferred_width = round(5.6 * self.em)
        row.add_child(label)
        row.add_child(widget)
        return row

    def _button(self, text: str, act: Callable[[], Any], toggles: bool = False) -> gui.Button:
        button = gui.Button(text)
        button.horizontal_padding_em, button.vertical_padding_em = 0.55, 0.05
        button.toggleable = toggles
        button.set_on_clicked(lambda: act())
        return button

    def _checkbox(self, parent: Any, text: str, act: Callable[[bool], Any]) -> gui.Checkbox:
        box = gui.Checkbox(text)
        box.set_on_checked(act)
        parent.add_child(box)
        return box

    def _slider(self, low: float, high: float, act: Callable[[Any], Any]) -> gui.Slider:
        slider = gui.Slider(gui.Slider.DOUBLE)
        slider.set_limits(low, high)
        slider.set_on_value_changed(act)
        return slider


def help_page(em: float) -> gui.Vert:
    """Mouse and keys, as a sheet over the picture."""
    sheet = gui.Vert(round(0.6 * em), gui.Margins(round(1.2 * em), round(em), round(1.2 * em), round(em)))
    sheet.background_color = PANEL
    title = gui.Label("Mouse and keys")
    title.text_color = ACCENT
    sheet.add_child(title)
    grid = gui.VGrid(2, round(0.3 * em))
    for keys, meaning in KEYS:
        for text, color in ((keys, PLAIN), (meaning, FAINT)):
            label = gui.Label(text)
            label.text_color = color
            grid.add_child(label)
    sheet.add_child(grid)
    return sheet
