"""Bodies that move in the viewer: frames by the clock, in a frame with +Z up; what is no body is left to others."""

import numpy as np
import pytest
import torch
from bodies import smpl_arrays
from neural3d.viewer import playing
from neural3d.viewer.playing import Playing, open_body

from neural3d.body import load_model
from neural3d.body.motion import Motion
from neural3d.body.rigged import rigged
from neural3d.files.meshes import write_mesh
from neural3d.files.rigged_gltf import write_rigged
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh
from neural3d.render.paths import look_at

UP = torch.tensor([0.0, 0, 1]).double()
PARAMS = torch.tensor([60.0, 60, 32, 32]).double()


def camera():
    return Camera("PINHOLE", 64, 64, PARAMS, look_at(torch.tensor([0.0, -4, 0]).double(), torch.zeros(3).double(), UP))


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(playing.time, "monotonic", lambda: now[0])
    return now


def test_frames_by_the_clock_and_over_again(clock):
    square = torch.tensor([[-0.2, 0, -0.2], [0.2, 0, -0.2], [0.2, 0, 0.2], [-0.2, 0, 0.2]])
    frames = torch.stack([square + torch.tensor([0.0, 0, height]) for height in (-0.6, 0.0, 0.6)])
    shown = Playing(frames, torch.tensor([[0, 1, 2], [0, 2, 3]]), rate=10.0)

    def row(seconds):
        clock[0] = 100.0 + seconds
        shown.version()
        clock[0] += 5  # a picture shows the moment of its version, however long it takes
        out = shown.render(camera(), torch.tensor([0.0, 0, 1]))
        assert out.rgb[0, 0].tolist() == [0, 0, 1] and out.rgb[out.alpha[..., 0] > 0].min() > 0
        return out.alpha[..., 0].nonzero()[:, 0].float().mean()

    low, middle, high, again = (row(seconds) for seconds in (0.05, 0.15, 0.25, 0.35))
    assert low > middle + 5 > high + 10 and again == low
    assert shown.status() == "0.0 of 0.3 s" and shown.pause(0.01) < 1 / 20


def test_a_model_at_rest_stands_upright(tmp_path):
    np.savez(tmp_path / "m.npz", **smpl_arrays(vertices=200))
    subject = open_body(tmp_path / "m.npz")
    size = subject.aabb[1] - subject.aabb[0]
    assert subject.live is None and size.argmax() == 2 and abs(float(size.max()) - 2) < 1e-5
    back = subject.outline @ subject.capture_from_scene[:3, :3].T + subject.capture_from_scene[:3, 3]
    template = smpl_arrays(vertices=200)["v_template"]
    np.testing.assert_allclose(back[:, 1].max(), template[:, 1].max(), atol=1e-5)  # +Y up again
    assert subject.render(camera(), None).alpha.mean() > 0.02


def test_a_mesh_with_an_animation_plays(tmp_path, clock):
    np.savez(tmp_path / "m.npz", **smpl_arrays())
    body = load_model(tmp_path / "m.npz")
    places = torch.tensor([[0.0, 1, 0], [0, 3, 0]])
    motion = Motion("up", body.skeleton(), torch.eye(4)[:1].expand(2, 24, 4).contiguous(), places, 2.0)
    with (tmp_path / "a.glb").open("wb") as file:
        write_rigged(rigged(body, motion), file)
    subject = open_body(tmp_path / "a.glb")
    assert subject.live is not None and subject.facts[0] == ("frames", "up: 2 frames, 2 a second, 0.50 s")
    low, high = (subject.live.vertices[i, :, 2].mean() for i in (0, 1))
    scale = float(subject.capture_from_scene[:3, :3].norm(dim=1)[0])
    assert abs(float(high - low) * scale - 2) < 1e-4


def test_what_is_no_body(tmp_path):
    write_mesh(Mesh(np.eye(3), np.array([[0, 1, 2]])), tmp_path / "m.glb")
    (tmp_path / "cloud.txt").write_text("0 0 0\n1 0 0\n")
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    for name in ("m.glb", "cloud.txt", "a.npz", "gone.bvh"):
        assert open_body(tmp_path / name) is None
