"""`--method auto`: the method follows from the data, and the reason names what it follows from."""

import trimesh

from neural3d.loading import load_data
from neural3d.methods.choice import choose
from neural3d.run import configure
from neural3d.scene.objects import write_captures
from tests.captures import cloud, ring, write_colmap, write_transforms


def test_points_open_and_closed_meshes(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=2)
    files = {
        "closed.ply": ball,
        "open.ply": trimesh.Trimesh(ball.vertices, ball.faces[:-20], process=False),
        "points.ply": trimesh.PointCloud(ball.sample(500)),
    }
    chosen = {}
    for name, shape in files.items():
        shape.export(tmp_path / name)
        chosen[name] = choose(load_data(tmp_path / name))
    assert {name: method for name, (method, _) in chosen.items()} == {
        "closed.ply": "sdf",
        "open.ply": "igr",
        "points.ply": "igr",
    }
    assert "loose edges" in chosen["open.ply"][1]


def test_photos(tmp_path):
    """The reason tells where the splats start; `configure` tells both, and a method by name tells nothing."""
    write_colmap(tmp_path / "with", ring(), cloud(count=300), binary=True)
    write_transforms(tmp_path / "without", ring())
    told = []
    for name in ("with", "without"):
        config, _ = configure(tmp_path / name, tell=lambda *words: told.append(words))
        assert config.method == "splat"
    assert "from 300 points" in told[0][1] and "random points" in told[1][1]
    config, _ = configure(tmp_path / "with", "ngp", tell=lambda *words: told.append(words))
    assert config.method == "ngp" and len(told) == 2


def test_a_folder_of_shapes(tmp_path):
    for i in range(10):
        trimesh.creation.box((1, 1, 1 + i / 10)).export(tmp_path / f"box_{i}.ply")
    method, _ = choose(load_data(tmp_path))
    assert method == "occupancy"
    assert configure(tmp_path)[0].method == "occupancy-category"


def test_captures_of_many_objects(tmp_path):
    boxes = [trimesh.creation.box((1, 1, 1 + i / 10)) for i in range(4)]
    for i, mesh in enumerate(boxes):
        mesh.export(tmp_path / f"box_{i}.ply")
    write_captures(load_data(tmp_path), tmp_path / "captures", views=1, side=16)
    assert configure(tmp_path / "captures")[0].method == "dvr-category"
