"""occupancy and deepsdf of a category, on boxes of varying size: near an unseen one, resumed exactly, by command."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.evaluate.category import _cut, evaluate_category
from neural3d.geometry.solid import open_edges
from neural3d.run import configure, load
from neural3d.shapes.category import kind_of
from neural3d.synthetic.furniture import box, joined
from neural3d.train import Trainer

SETTINGS = {
    "occupancy": ["horizon=400", "shapes=6", "points=256", "width=32", "layers=1", "cloud=150", "lr=5e-3"],
    "deepsdf": ["horizon=1200", "shapes=12", "points=128", "width=64", "hidden_layers=3", "latent=8", "octaves=2"],
}
OFFSET = np.array([50.0, 0, 7])


def bench(rng) -> trimesh.Trimesh:
    """A board on two blocks; height, width and thickness vary, far from the origin and not of unit size."""
    width, height, thick = rng.uniform(2, 4), rng.uniform(1, 3), rng.uniform(0.5, 1)
    x = width / 2
    parts = [box((-x, -1, 0), (-x + 0.7, 1, height)), box((x - 0.7, -1, 0), (x, 1, height))]
    mesh = joined([*parts, box((-x, -1, height - 0.1), (x, 1, height + thick))])
    return trimesh.Trimesh(mesh.vertices + OFFSET, mesh.faces, process=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("benches")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 3)):
        (out / split).mkdir()
        for i in range(count):
            bench(rng).export(out / split / f"bench_{i:02d}.ply")
    return out


def train(folder, method, out, steps):
    config, shapes = configure(folder, method, SETTINGS[method])
    trainer = Trainer.create(out, config, shapes, torch.device("cpu"))
    trainer.fit(steps, previews=False)
    return trainer


@pytest.fixture(scope="module", params=SETTINGS)
def run(request, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / request.param
    trainer = train(folder, request.param, out, int(SETTINGS[request.param][0].removeprefix("horizon=")))
    assert trainer.method.config.horizon == trainer.step
    return load(out, "cpu")


def test_unseen_shapes_come_out_right(run):
    report = evaluate_category(run, resolution=48)
    mean = report["results"]["mean"]
    assert mean["iou"] > 0.85 and mean["chamfer"] < 1.5
    assert (run.directory / "eval" / "category.png").exists()
    assert report["results"]["kinds"].keys() == {"bench"} and report["protocol"]["shapes"] == 3
    if run.method.linear:  # with the true distances known
        assert evaluate_category(run, resolution=48, seen="mesh")["results"]["mean"]["iou"] > 0.85
        assert evaluate_category(run, resolution=48, seen="partial")["results"]["mean"]["iou"] > 0.8
        for name in ("eval_category_mesh.json", "eval_category_partial.json", "eval/category_partial.png"):
            assert (run.directory / name).exists()


def test_a_partial_cloud_lacks_one_side():
    cloud = np.random.default_rng(0).normal(size=(300, 3))
    left = _cut(cloud, np.pi / 2)
    assert len(left) == 180 and left[:, 1].max() < np.sort(cloud[:, 1])[180]


def test_the_command_gives_a_closed_mesh_in_the_files_own_frame(run, folder, tmp_path):
    truth = trimesh.load(folder / "test" / "bench_00.ply")
    seen = np.asarray(truth.sample(400, seed=0))
    seen = seen[seen[:, 1] < 0.5]  # a part of it
    trimesh.PointCloud(seen).export(tmp_path / "partial.ply")
    out = tmp_path / "whole.ply"
    main(["reconstruct", str(run.directory), str(tmp_path / "partial.ply"), "--out", str(out), "--resolution", "48"])
    mesh = trimesh.load(out)
    assert mesh.is_watertight and mesh.volume > 0
    assert np.abs(mesh.bounds[:, [0, 2]] - truth.bounds[:, [0, 2]]).max() < 0.25  # of 4 units


def test_between_and_new_shapes_need_latents(run, folder, tmp_path, capsys):
    a, b = (str(folder / "test" / f"bench_0{i}.ply") for i in (0, 1))
    start = ["reconstruct", str(run.directory), "--resolution", "32", "--out", str(tmp_path / "out")]
    if not run.method.linear:
        for options in (["--between", a, b], ["--samples", "2"]):
            with pytest.raises(SystemExit) as stop:
                main([*start, *options])
            assert stop.value.code == 2
        return
    main([*start, "--between", a, b, "--count", "3"])
    meshes = [trimesh.load(tmp_path / "out" / f"{i:03d}.glb", force="mesh") for i in range(3)]
    tops = [mesh.bounds[1, 2] for mesh in meshes]
    assert min(tops[0], tops[2]) - 0.1 < tops[1] < max(tops[0], tops[2]) + 0.1
    main([*start, "--samples", "2"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000.glb", "001.glb", "002.glb"]


@pytest.mark.parametrize("method", SETTINGS)
def test_resuming_gives_the_same_bytes(folder, method, tmp_path):
    for parts in ([20], [12, 20]):
        trainer = train(folder, method, tmp_path / str(len(parts)), parts[0])
        for steps in parts[1:]:
            trainer = Trainer.resume(trainer.directory, torch.device("cpu"))
            trainer.fit(steps, previews=False)
    a, b = ((tmp_path / n / "checkpoint.safetensors").read_bytes() for n in "12")
    assert a == b


def test_files_that_cannot_be_reconstructed(run, folder, tmp_path):
    from neural3d.reconstruct import reconstruct

    cases = {"few": np.zeros((3, 3)) + OFFSET, "elsewhere": np.random.default_rng(0).uniform(0, 1, (100, 3))}
    for name, points in cases.items():
        trimesh.PointCloud(points).export(tmp_path / f"{name}.ply")
    with pytest.raises(UserError, match="holds 3 points"):
        reconstruct(run, tmp_path / "few.ply")
    with pytest.raises(UserError, match="outside the category"):
        reconstruct(run, tmp_path / "elsewhere.ply")
    with pytest.raises(UserError, match="no such file"):
        reconstruct(run, tmp_path / "none.ply")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    with pytest.raises(UserError, match="learnt shapes from points: give a point cloud"):
        reconstruct(run, tmp_path / "photo.png")


def test_a_category_is_no_scene(run, folder, tmp_path):
    for command in (["render", str(run.directory), "--out", str(tmp_path)], ["export", str(run.directory), "x.ply"]):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 2


def test_methods_know_what_they_are_for(folder):
    with pytest.raises(UserError, match=r"folder of meshes.*deepsdf"):
        configure(folder, "ngp")
    with pytest.raises(UserError, match="is a mesh or point cloud"):
        configure(folder / "test" / "bench_00.ply", "deepsdf")


def test_kinds_are_folders_or_first_words():
    names = {"chair/a1.ply": "chair", "train/lamp_0001.ply": "lamp", "test/bed7.ply": "bed", "sofa.ply": "sofa"}
    assert {name: kind_of(name) for name in names} == names


def test_meshes_of_codes_are_closed(run):
    cloud = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    code = run.method.code_of(cloud, torch.Generator().manual_seed(0))
    assert open_edges(run.method.shape(code, 24)) == 0
