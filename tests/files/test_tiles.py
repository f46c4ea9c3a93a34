"""3D Tiles: the tree as the standard has it, boxes around all, leaves that are the splats, nothing else overwritten."""

import json

import pytest
import torch

from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.files.splats import read_splats
from neural3d.files.tiles import INDEX, write_tiles

TURN = torch.tensor([[1.0, 0, 0, 5], [0, 0, 1, 6], [0, -1, 0, 7], [0, 0, 0, 1]], dtype=torch.float64)
TURN[:3, :3] *= 2


def scattered(n: int = 900) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    means = torch.randn(n, 3, generator=g) * torch.tensor([3.0, 1, 0.2])
    means[:5] *= 1000  # sky
    quats = torch.randn(n, 4, generator=g)
    return Gaussians(means, torch.full((n, 3), -4.0), quats, torch.zeros(n), torch.rand(n, 3), torch.zeros(n, 0, 3))


def tiles_below(tile: dict) -> list[dict]:
    return [tile] + [t for child in tile.get("children", []) for t in tiles_below(child)]


def test_the_tree_is_whole(tmp_path):
    splats = scattered()
    told = []
    count, levels = write_tiles(splats, tmp_path / "out", TURN, 100, told.append)
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    root = index["root"]
    tiles = tiles_below(root)
    assert index["asset"]["version"] == "1.1" and root["refine"] == "REPLACE"
    assert index["extensions"]["3DTILES_content_gltf"]["extensionsUsed"] == ["KHR_gaussian_splatting"]
    assert len(tiles) == count == told[-1] and levels == 3
    assert {p.name for p in (tmp_path / "out").glob("*.glb")} == {t["content"]["uri"] for t in tiles}
    leaves = []
    for tile in tiles:
        part = read_splats(tmp_path / "out" / tile["content"]["uri"])
        assert 0 < len(part.gaussians) <= 100
        assert all(child["geometricError"] < tile["geometricError"] for child in tile.get("children", []))
        assert (tile["geometricError"] == 0) == ("children" not in tile)
        x, y, z = part.gaussians.means.detach().double().T + torch.from_numpy(part.offset)[:, None]
        box = torch.tensor(tile["boundingVolume"]["box"], dtype=torch.float64)
        in_tile = torch.stack([x, -z, y], 1) - box[:3]  # glTF's y up to z up
        assert (in_tile.abs() <= box[3:].reshape(3, 3).diagonal() + 1e-4).all()
        if "children" not in tile:
            leaves.append(torch.stack([x, y, z], 1))
    want = splats.means.detach().double() @ TURN[:3, :3].T + TURN[:3, 3]
    got = torch.cat(leaves)
    key = lambda m: m[m[:, 0].argsort()]  # noqa: E731
    assert torch.allclose(key(got), key(want), atol=1e-3)
    assert index["geometricError"] > root["geometricError"] > 0
    near = [t["boundingVolume"]["box"][3] for t in root["children"]]
    assert sum(width > 1000 for width in near) == 1  # the sky alone is far


def test_a_scene_of_one_tile(tmp_path):
    assert write_tiles(scattered(50), tmp_path, TURN, 100) == (1, 1)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["root"]["geometricError"] == 0 < index["geometricError"]


def test_what_is_in_the_folder_is_not_lost(tmp_path):
    write_tiles(scattered(), tmp_path, TURN, 100)
    write_tiles(scattered(50), tmp_path, TURN, 100)
    assert {p.name for p in tmp_path.iterdir()} == {"0.glb", INDEX}
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds mine\.txt, which is no tile"):
        write_tiles(scattered(), tmp_path, TURN, 100)
    with pytest.raises(UserError, match="no splats"):
        write_tiles(scattered(50).selected(torch.zeros(50, dtype=torch.bool)), tmp_path, TURN, 100)
