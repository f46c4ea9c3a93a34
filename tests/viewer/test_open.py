"""Every kind of subject opens, upright and in place; what is damaged says so."""

import numpy as np
import pytest
import torch
import trimesh
from neural3d.viewer.open import open_subject
from PIL import Image
from splats import synthetic_splats
from toy import ball_capture

from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.files.splats import write_splats


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj", ".stl", ".off"])
def test_meshes_stand_upright_and_keep_their_frame(tmp_path, suffix):
    mesh = trimesh.creation.box(extents=(1, 2, 4))
    mesh.apply_translation((10, 20, 30))
    mesh.export(tmp_path / f"box{suffix}")
    subject = open_subject(tmp_path / f"box{suffix}")
    assert subject.kind == "mesh" and len(subject.meshes) == 1
    size = (subject.aabb[1] - subject.aabb[0]).tolist()
    up = 1 if suffix in (".glb", ".obj", ".off") else 2  # the file's axis that points up
    assert size[2] / max(size) == pytest.approx([1, 2, 4][up] / 4)
    back = subject.capture_from_scene.numpy()
    vertices = subject.meshes[0].vertices @ back[:3, :3].T + back[:3, 3]
    assert np.allclose(vertices.min(0), [9.5, 19, 28], atol=1e-4) and np.allclose(
        vertices.max(0), [10.5, 21, 32], atol=1e-4
    )


def test_points_and_their_colours(tmp_path):
    points, colors = np.random.default_rng(0).normal(size=(50, 3)), np.tile([255, 0, 0, 255], (50, 1)).astype(np.uint8)
    trimesh.PointCloud(points, colors=colors).export(tmp_path / "points.ply")
    subject = open_subject(tmp_path / "points.ply")
    assert subject.kind == "points" and (subject.points[1] == [255, 0, 0]).all()
    assert np.abs(subject.points[0]).max() == pytest.approx(0.9, abs=1e-4)


def test_splat_files(tmp_path):
    means, quats, scales, opacities, dc, rest = synthetic_splats(200)
    write_splats(Gaussians(means, scales, quats, opacities, dc, rest), tmp_path / "s.ply")
    subject = open_subject(tmp_path / "s.ply")
    assert subject.kind == "splats" and len(subject.splats) == 200 and subject.scene is None
    moved = (
        subject.splats.means.detach().double() @ subject.capture_from_scene[:3, :3].T
        + subject.capture_from_scene[:3, 3]
    )
    assert torch.allclose(moved, means, atol=1e-4)


def test_captures_bring_their_cameras(tmp_path):
    subject = open_subject(ball_capture(tmp_path, train=3, test=1))
    assert subject.kind == "scene" and len(subject.scene.views) == 4 and subject.render is None


def test_damage_is_told_in_a_sentence(tmp_path):
    trimesh.creation.box().export(tmp_path / "box.glb")
    whole = (tmp_path / "box.glb").read_bytes()
    (tmp_path / "box.glb").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.ply").write_text("no ply")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    for name in ("box.glb", "text.ply", "run", "image.png", "missing"):
        with pytest.raises(UserError, match=name):
            open_subject(tmp_path / name)
