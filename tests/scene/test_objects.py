"""Captures of many objects: written and read back as they were, one by one too, and what silhouettes say of points."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.data.object_rays import ObjectSource, within_silhouettes
from neural3d.errors import UserError
from neural3d.geometry.rays import box_span
from neural3d.geometry.solid import Solid
from neural3d.loading import load_data, load_scene
from neural3d.scene.objects import load_captures, meshes_of, shots_of, write_captures
from neural3d.shapes.category import load_shape_set
from neural3d.synthetic.furniture import write_furniture

SIDE = 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    where = tmp_path_factory.mktemp("objects")
    shapes = load_shape_set(write_furniture(where / "shapes", train=3, test=1))
    return shapes, write_captures(shapes, where / "captures", views=12, side=SIDE)


def test_captures_come_back_as_the_shapes_were(folders):
    shapes, out = folders
    back = load_data(out)
    assert back.captures and back.meshes is None and back.kinds == ["chair", "shelf", "table"]
    assert torch.allclose(back.aabb, shapes.aabb) and torch.allclose(back.scene_from_capture, shapes.scene_from_capture)
    ours = shots_of(back, "train", SIDE)
    for i, mesh in enumerate(meshes_of(back, "train")):
        own = shapes.meshes["train"][i]
        assert np.abs(mesh.vertices.min(0) - own.vertices.min(0)).max() < 1e-5
        x = torch.from_numpy(own.vertices).float()
        for pose, lens in zip(ours.world_from_camera[i], ours.lens[i]):  # all of it is in each picture
            local = (x - pose[:3, 3]) @ pose[:3, :3]
            xy = local[:, :2] / local[:, 2:] * lens[:2] + lens[2:]
            assert (local[:, 2] > 0).all() and xy.min() > -1 and xy.max() < SIDE + 1
    assert shots_of(back, "train", SIDE // 2).pixels.shape[2:4] == (SIDE // 2, SIDE // 2)


def test_all_splits_are_seen_from_one_distance(folders):
    """Else a picture of an unseen shape would tell another size than those learnt from."""
    shapes, out = folders
    for data in (shapes, load_captures(out)):
        far = [shots_of(data, split, SIDE).world_from_camera[..., :3, 3].norm(dim=-1) for split in ("train", "test")]
        assert torch.allclose(far[0], far[1][0, 0], atol=1e-4) and torch.allclose(far[1], far[1][0, 0], atol=1e-4)


def test_an_object_is_also_a_capture_by_itself(folders):
    _, out = folders
    scene = load_scene(out / "train" / "chair_0000")
    assert len(scene.views) == 12 and scene.has_alpha


def test_the_hull_holds_the_shape(folders):
    shapes, _ = folders
    shots = shots_of(shapes, "train", SIDE)
    x = np.random.default_rng(0).uniform(shapes.aabb[0], shapes.aabb[1], (4000, 3))
    for i, mesh in enumerate(shapes.meshes["train"]):
        inside = Solid(mesh).winding(x) > 0
        hull = within_silhouettes(shots, i, torch.from_numpy(x).float()).numpy()
        assert hull[inside].mean() > 0.85 and hull[~inside].mean() < 0.15


def test_rays_show_their_own_object(folders):
    """A ray meets the mesh of its object, and no other batch comes of the same seed."""
    shapes, _ = folders
    source = ObjectSource(
        shots_of(shapes, "train", SIDE), shapes.members["train"], shapes.aabb, torch.device("cpu"), 40, 30
    )
    batch = source.draw(3 * 40, torch.Generator().manual_seed(0))
    assert sorted(batch.shape.tolist()) == [0, 1, 2] and batch.points.shape == (3, 30, 3) and len(batch) == 120
    for k, i in enumerate(batch.shape):
        solid = Solid(shapes.meshes["train"][i])
        t, face = solid.first_hit(batch.origins[k].numpy(), batch.directions[k].numpy())
        assert (face >= 0).mean() > 0.8  # rims are covered by half
        assert ((batch.near[k].numpy() < t) & (t < batch.far[k].numpy()))[face >= 0].all()
        assert torch.allclose(batch.directions[k].norm(dim=-1), torch.ones(40))
        assert torch.equal(batch.within[k], within_silhouettes(source.shots, int(i), batch.points[k]))
    enter, leave = box_span(batch.origins.view(-1, 3), batch.directions.view(-1, 3), shapes.aabb)
    assert (batch.far - batch.near).mean() < 0.7 * (leave - enter).mean()  # silhouettes leave less than the box does
    again = source.draw(3 * 40, torch.Generator().manual_seed(0))
    assert torch.equal(again.rgb, batch.rgb) and torch.equal(again.points, batch.points)


def test_errors_name_the_file(folders, tmp_path):
    shapes, _ = folders
    out = write_captures(shapes, tmp_path / "c", views=2, side=SIDE)
    picture = out / "train" / "chair_0000" / "000.png"
    whole = picture.read_bytes()
    for size, mode, words in (((48, 32), "RGBA", "48 × 32 pixels"), ((32, 32), "RGB", "no alpha")):
        Image.new(mode, size).save(picture)
        with pytest.raises(UserError, match=words) as error:
            shots_of(load_captures(out), "train", SIDE)
        assert str(picture) in str(error.value)
    picture.write_bytes(whole)
    with pytest.raises(UserError, match=r"32 × 32 pixels.*side=64"):
        shots_of(load_captures(out), "train", 64)

    cameras = out / "train" / "chair_0000" / "transforms.json"
    content = json.loads(cameras.read_text())
    cameras.write_text(json.dumps({**content, "k1": 0.1}))
    with pytest.raises(UserError, match="OPENCV; undistort"):
        shots_of(load_captures(out), "train", SIDE)
    for frame in content["frames"]:
        frame["transform_matrix"][0][3] += 9  # elsewhere: no place of the box is in the pictures
    cameras.write_text(json.dumps(content))
    shots = shots_of(load_captures(out), "train", SIDE)
    with pytest.raises(UserError, match="chair_0000: no place in the box"):
        names = shapes.members["train"]
        ObjectSource(shots, [n.removesuffix(".ply") for n in names], shapes.aabb, torch.device("cpu"), 4, 4)

    (out / "train" / "chair_0000" / "shape.ply").unlink()
    with pytest.raises(UserError, match=r"shape\.ply is missing"):
        meshes_of(load_captures(out), "train")
    (out / "category.json").write_text('{"aabb": [[0, 0, 0], [0, 1, 1]]}')
    with pytest.raises(UserError, match="lower corner first"):
        load_data(out)
    (out / "category.json").write_text('{"aabb": [[0, 0, 0], [1, 1, 1]]}')
    for name in ("table_0001", "shelf_0002"):
        (out / "train" / name / "transforms.json").unlink()
    with pytest.raises(UserError, match="holds 1 captures"):
        load_data(out)
