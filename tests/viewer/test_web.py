"""The browser's viewer: its server, a visitor's pictures, and how it ends."""

import socket
import time
import urllib.request

import numpy as np
import pytest
import torch
from ports import free_port, reachable
from splats import synthetic_splats

pytest.importorskip("viser", reason="viser is not installed: pip install 'neural3d[web]'")

from neural3d.viewer import web
from neural3d.viewer.open import open_subject

from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.files.splats import write_splats


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    path = tmp_path_factory.mktemp("web") / "ball.ply"
    means, quats, scales, opacities, sh_dc, sh_rest = synthetic_splats(500, size=0.1)
    write_splats(Gaussians(means, scales, quats, opacities, sh_dc, sh_rest), path)
    return open_subject(path, "cpu")


def test_the_page_is_served_on_loopback_alone_until_it_is_stopped(subject, capfd):
    page = web.Page(subject, free_port())
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/", timeout=10) as answer:
            assert answer.status == 200 and b"<html" in answer.read().lower()
        host = socket.gethostbyname(socket.gethostname())
        assert host.startswith("127.") or not reachable(host, page.port)
    finally:
        page.stop()
    assert not reachable("127.0.0.1", page.port)
    assert capfd.readouterr().out == ""


class Handle:
    """A widget or node of viser's, as far as visitors use it."""

    def __init__(self, value=None, visible=True):
        self.value, self.visible, self.content = value, visible, ""

    def on_update(self, call):
        self.call = call


class Client:
    """Stands in for a browser: 120 × 80 pixels, looking along +y at the origin from 3 away."""

    def __init__(self):
        self.scene = self.gui = self.camera = self
        self.image_width, self.image_height, self.fov = 120, 80, 0.9
        self.wxyz, self.position = np.array([0.5**0.5, -(0.5**0.5), 0, 0]), np.array([0.0, -3, 0])
        self.pictures = []

    def add_line_segments(self, *args, **options):
        return Handle(visible=options["visible"])

    add_gaussian_splats = add_line_segments

    def add_markdown(self, text):
        return Handle()

    def add_dropdown(self, label, choices, initial_value, visible=True):
        return Handle(initial_value)

    def add_checkbox(self, label, value):
        return Handle(value)

    def on_update(self, call):
        self.call = call

    def set_background_image(self, picture, *args, **options):
        self.pictures.append(picture)


def wait_for(done) -> None:
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until, "no picture came"
        time.sleep(0.02)


def test_a_visitor_gets_pictures_of_his_own_view_until_the_browser_draws(subject):
    client = Client()
    visitor = web._Visitor(client, subject, web.painter(subject), web._lines_of(subject))
    try:
        wait_for(lambda: visitor.state.content == "done")
        camera = visitor.camera()
        assert camera is not None and (camera.width, camera.height) == (120, 80)
        torch.testing.assert_close(camera.forward, torch.tensor([0.0, 1, 0]).double(), atol=1e-7, rtol=0)
        expected = subject.render(camera, torch.ones(3)).rgb.clamp(0, 1).numpy()
        assert abs(client.pictures[-1] / 255 - expected).mean() < 0.01

        client.position = np.array([0.0, -30, 0])
        client.call(None)
        wait_for(lambda: visitor.state.content == "done" and client.pictures[-1].mean() > 240)

        visitor.drawn.value = "browser"
        visitor.update()
        assert client.pictures[-1] is None and visitor.native[0].visible and not visitor.frustums.visible
        visitor.show.value = "depth"
        visitor.update()
        assert not visitor.native[0].visible, "depth is ours to draw"
        wait_for(lambda: client.pictures[-1] is not None)
        client.image_width = None  # a browser that has not said its size yet
        assert visitor.camera() is None
    finally:
        visitor.worker.stop()


def test_bad_ports_are_sentences(subject):
    with pytest.raises(UserError, match="a port is a number from 1 to 65535"):
        web.Page(subject, 70000)
