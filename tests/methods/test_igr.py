"""igr of analytic clouds: near the truth in seconds, in any pose and scale, with noise and gaps; resumed exactly."""

import math

import numpy as np
import pytest
import torch
import trimesh

from neural3d.cli import main
from neural3d.data.clouds import CloudSource
from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid, open_edges
from neural3d.run import configure, load
from neural3d.shapes.shape import load_shape
from neural3d.train import Trainer

SETTINGS = ["horizon=200", "batch=1024", "levels=8", "max_resolution=64", "log2_table=15"]
CPU = torch.device("cpu")
RADII = 2.0, 0.7  # of the torus


def torus(rng, count=6000, noise=0.0):
    """(points, normals) evenly spread over the torus, with noise in all directions."""
    around, tube = 2 * math.pi * rng.random((2, 4 * count))
    kept = rng.random(4 * count) * sum(RADII) < RADII[0] + RADII[1] * np.cos(tube)  # area grows outward
    around, tube = around[kept][:count], tube[kept][:count]
    outward = np.stack([np.cos(around), np.sin(around), np.zeros(count)], 1)
    normals = outward * np.cos(tube)[:, None] + [0, 0, 1] * np.sin(tube)[:, None]
    return RADII[0] * outward + RADII[1] * normals + noise * rng.standard_normal((count, 3)), normals


def distance_to_torus(points):
    return np.abs(np.hypot(np.hypot(points[:, 0], points[:, 1]) - RADII[0], points[:, 2]) - RADII[1])


def pose(scale):
    matrix = trimesh.transformations.rotation_matrix(1.1, [3, -1, 2])
    matrix[:3, :3] *= scale
    matrix[:3, 3] = [10 * scale, -20 * scale, 5]
    return matrix


def write(path, points, normals=None):
    columns = points if normals is None else np.concatenate([points, normals], 1)
    np.savetxt(path, columns)
    return path


def fit(path, out, settings=SETTINGS, seed=0):
    """The mesh in the file's own frame."""
    config, shape = configure(path, "igr", settings, seed=seed)
    Trainer.create(out, config, shape, CPU).fit(200, previews=False)
    run = load(out, "cpu")
    return run.method.mesh(96).transformed(torch.linalg.inv(run.scene.scene_from_capture))


def errors(mesh):
    """Mean distance of the mesh from the torus, and of the torus from the mesh, in % of the torus's diagonal."""
    diagonal = 2 * math.hypot(math.sqrt(2) * sum(RADII), RADII[1])
    truth, _ = torus(np.random.default_rng(9))
    centres = mesh.vertices[mesh.faces].mean(1)
    return 100 / diagonal * np.array([distance_to_torus(centres).mean(), Solid(mesh).distance(truth).mean()])


@pytest.mark.parametrize("kind, bound", [("normals", 0.03), ("bare", 0.03), ("noise", 0.2)])
def test_the_mesh_is_the_shape_in_any_pose(kind, bound, tmp_path):
    points, normals = torus(np.random.default_rng(0), noise=0.05 if kind == "noise" else 0.0)  # 0.05: 0.65 %
    for number, matrix in enumerate([np.eye(4), pose(0.01)]):
        moved = points @ matrix[:3, :3].T + matrix[:3, 3]
        turned = normals @ matrix[:3, :3].T if kind == "normals" else None
        path = write(tmp_path / f"{number}.{'xyz' if turned is None else 'xyzn'}", moved, turned)
        mesh = fit(path, tmp_path / f"run{number}", seed=number).transformed(np.linalg.inv(matrix))
        assert open_edges(mesh) == 0
        assert mesh.volume > 0
        assert (errors(mesh) < bound).all()


def test_fourier_features_do_it_too(tmp_path):
    settings = ["horizon=300", SETTINGS[1], "backbone=fourier", "width=64", "hidden_layers=2", "frequencies=32"]
    mesh = fit(write(tmp_path / "torus.xyz", torus(np.random.default_rng(0))[0]), tmp_path / "run", settings)
    assert open_edges(mesh) == 0
    assert (errors(mesh) < 0.5).all()


def test_gaps_are_closed(tmp_path):
    points, _ = torus(np.random.default_rng(0))
    kept = np.linalg.norm(points - [RADII[0] + RADII[1], 0, 0], axis=1) > 0.6
    mesh = fit(write(tmp_path / "gap.xyz", points[kept]), tmp_path / "run")
    assert open_edges(mesh) == 0
    truth = torus(np.random.default_rng(1))[0]
    missing = truth[np.linalg.norm(truth - [RADII[0] + RADII[1], 0, 0], axis=1) < 0.5]
    assert Solid(mesh).distance(missing).mean() < 0.06  # of 0.6
    assert (errors(mesh) < 0.3).all()


def hills(rng, count=6000):
    x, y = rng.uniform(-1, 1, (2, count))
    return np.stack([x, y, 0.2 * np.sin(3 * x) * np.cos(2 * y)], 1)


def test_a_sheet_is_found_to_be_open_and_trimmed(tmp_path, capsys):
    points = hills(np.random.default_rng(0))
    path = write(tmp_path / "hills.xyz", points)
    mesh = fit(path, tmp_path / "run")
    run = load(tmp_path / "run", "cpu")
    assert run.method.open and open_edges(mesh) > 0
    beyond = np.abs(mesh.vertices[:, :2]).max()
    assert 0.97 < beyond < 1 + 2 * 2 / math.sqrt(len(points))  # half a spacing, each √(area / points), and some
    assert (
        np.abs(mesh.vertices[:, 2] - 0.2 * np.sin(3 * mesh.vertices[:, 0]) * np.cos(2 * mesh.vertices[:, 1])).mean()
        < 0.02
    )
    assert Solid(mesh).distance(points).mean() < 0.02
    main(["export", str(tmp_path / "run"), str(tmp_path / "closed.ply"), "--open", "no", "--resolution", "64"])
    closed = trimesh.load(tmp_path / "closed.ply")
    assert closed.is_watertight
    main(["info", str(tmp_path / "run")])
    assert "open, trimmed" in " ".join(capsys.readouterr().out.split())


def test_density_that_falls_takes_nothing_away(tmp_path):
    points, normals = torus(np.random.default_rng(0), 12_000)
    kept = np.random.default_rng(1).random(len(points)) < 30 ** (-(points[:, 0] / sum(RADII) + 1) / 2)
    mesh = fit(write(tmp_path / "falls.xyzn", points[kept], normals[kept]), tmp_path / "run")
    assert open_edges(mesh) == 0
    assert (errors(mesh) < 0.25).all()


def test_more_points_than_are_used_are_drawn_from(tmp_path, monkeypatch):
    monkeypatch.setattr("neural3d.data.clouds.MOST", 3000)
    shape = load_shape(write(tmp_path / "many.xyzn", *torus(np.random.default_rng(0))))
    source = CloudSource(shape, CPU)
    assert len(source.points) == 3000 and "3,000 of the 6,000" in shape.notes[0]


def test_points_that_stand_alone_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    points, normals = torus(rng)
    lost = rng.uniform(-2.5, 2.5, (60, 3))
    lost = lost[distance_to_torus(lost) > 0.4]
    random = rng.standard_normal(lost.shape)
    cloud = np.concatenate([points, lost]), np.concatenate([normals, random])
    source = CloudSource(load_shape(write(tmp_path / "lost.xyzn", *cloud)), CPU)
    assert source.strays > 0.5 * len(lost) and len(source.points) > 5990 - 0.5 * len(lost)


def test_an_open_mesh_is_sampled(tmp_path):
    bowl = trimesh.creation.icosphere(3)
    bowl = bowl.submesh([np.flatnonzero(bowl.triangles_center[:, 2] < 0.5)], append=True)
    bowl.export(tmp_path / "bowl.ply")
    mesh = fit(tmp_path / "bowl.ply", tmp_path / "run")
    assert open_edges(mesh) == 0
    assert Solid(mesh).distance(bowl.vertices).mean() < 0.02


def test_normals_that_point_inward_are_turned(tmp_path):
    points, normals = torus(np.random.default_rng(0))
    shape = load_shape(write(tmp_path / "in.xyzn", points, -normals))
    source = CloudSource(shape, CPU)
    assert shape.notes and (source.normals.numpy() * normals).sum(1).min() > 0.99


def test_resuming_gives_the_same_bytes(tmp_path):
    path = write(tmp_path / "torus.xyz", torus(np.random.default_rng(0), 2000)[0])
    for parts in ([40], [25, 40]):
        config, shape = configure(path, "igr", SETTINGS)
        trainer = Trainer.create(tmp_path / str(len(parts)), config, shape, CPU)
        for steps in parts:
            trainer.fit(steps, previews=False)
            trainer = Trainer.resume(trainer.directory, CPU)
    a, b = ((tmp_path / n / "checkpoint.safetensors").read_bytes() for n in "12")
    assert a == b


@pytest.mark.parametrize("what, words", [("few", "50 or more"), ("plane", "one plane"), ("line", "one line")])
def test_clouds_without_a_surface_are_refused(what, words, tmp_path):
    points = np.random.default_rng(0).random((30 if what == "few" else 300, 3))
    points[:, {"few": [], "plane": [2], "line": [1, 2]}[what]] = 1.5
    with pytest.raises(UserError, match=words):
        CloudSource(load_shape(write(tmp_path / "bad.xyz", points)), CPU)


def test_a_sphere_of_few_points(tmp_path):
    points = np.random.default_rng(0).standard_normal((300, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    mesh = fit(write(tmp_path / "sphere.xyz", points), tmp_path / "run")
    assert open_edges(mesh) == 0
    assert abs(np.linalg.norm(mesh.vertices, axis=1) - 1).mean() < 0.02
    assert isinstance(mesh, Mesh)
