"""What other programs make of INRIA's .ply: text, plain colours, two scales, harmonics of degree 4."""

import numpy as np
import pytest
import torch
from files.many_splats import assert_equal, scene

from neural3d.errors import UserError
from neural3d.files.quantised import C0
from neural3d.files.splats import is_splat_file, read_splats

BASE = ["x", "y", "z", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]


def columns_of(gaussians):
    a = {name: p.detach().double().numpy() for name, p in gaussians.named_parameters()}
    table = np.concatenate([a["means"], a["opacity_logits"][:, None], a["log_scales"], a["quats"], a["sh_dc"]], 1)
    return dict(zip([*BASE, "f_dc_0", "f_dc_1", "f_dc_2"], table.T))


def write(path, columns, kinds=None, text=False, after=""):
    kinds = {name: "float" for name in columns} | (kinds or {})
    n = len(next(iter(columns.values())))
    head = ["ply", f"format {'ascii' if text else 'binary_little_endian'} 1.0", f"element vertex {n}"]
    head += [*(f"property {kinds[name]} {name}" for name in columns), *after.splitlines(), "end_header", ""]
    types = {"float": "<f4", "double": "<f8", "uchar": "u1"}
    table = np.zeros(n, [(name, types[kinds[name]]) for name in columns])
    for name, column in columns.items():
        table[name] = column
    rows = "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in table.tolist()).encode()
    path.write_bytes("\n".join(head).encode() + (rows + b"3 0 1 2\n" if text else table.tobytes()))


def test_text(tmp_path):
    """Nine digits hold a float32 exactly; elements with lists may follow."""
    gaussians = scene(20, 0)
    write(tmp_path / "a.ply", columns_of(gaussians), text=True, after="element face 1\nproperty list uchar int v")
    assert is_splat_file(tmp_path / "a.ply")
    found = read_splats(tmp_path / "a.ply")
    assert_equal(found.gaussians, gaussians)
    whole = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.ply"):
        read_splats(tmp_path / "a.ply")


@pytest.mark.parametrize(("kind", "full"), [("uchar", 255), ("float", 1.0)])
def test_plain_colours_in_the_place_of_f_dc(tmp_path, kind, full):
    columns = columns_of(scene(3, 0))
    plain = {name: column for name, column in columns.items() if not name.startswith("f_dc")}
    shares = np.array([[0.0, 0.2, 1.0], [0.4, 0.6, 0.8], [1.0, 0.0, 0.2]])
    plain |= dict(zip(("red", "green", "blue"), full * shares.T))
    write(tmp_path / "a.ply", plain, {name: kind for name in ("red", "green", "blue")})
    assert is_splat_file(tmp_path / "a.ply")
    found = read_splats(tmp_path / "a.ply").gaussians
    torch.testing.assert_close(0.5 + C0 * found.sh_dc, torch.from_numpy(shares).float(), rtol=0, atol=1e-6)
    assert found.sh_degree == 0


def test_colours_beside_f_dc_do_not_count(tmp_path):
    """Some write both, for programs that show points."""
    gaussians = scene(3, 0)
    write(tmp_path / "a.ply", columns_of(gaussians) | {name: np.full(3, 7) for name in ("red", "green", "blue")})
    assert_equal(read_splats(tmp_path / "a.ply").gaussians, gaussians)


def test_two_scales_are_a_flat_splat(tmp_path):
    """2D Gaussian splatting: the third axis is the normal; a thousandth as thick as the splat is wide."""
    gaussians = scene(5, 0)
    columns = columns_of(gaussians)
    del columns["scale_2"]
    write(tmp_path / "a.ply", columns)
    assert is_splat_file(tmp_path / "a.ply")
    found = read_splats(tmp_path / "a.ply")
    wide = gaussians.log_scales[:, :2]
    torch.testing.assert_close(found.gaussians.log_scales[:, :2], wide)
    torch.testing.assert_close(found.gaussians.log_scales[:, 2].exp(), wide.amin(1).exp() / 1000)
    assert torch.equal(found.gaussians.quats, gaussians.quats) and "two scales" in found.notes[0]


def test_degree_4_is_cut_to_3(tmp_path):
    """24 coefficients a channel, all of red first: the first 15 of each stay where they are."""
    rest = np.arange(72.0)[None] + np.array([[0.0], [100.0]])
    columns = columns_of(scene(2, 0)) | {f"f_rest_{k}": rest[:, k] for k in range(72)}
    write(tmp_path / "a.ply", columns)
    found = read_splats(tmp_path / "a.ply")
    assert found.gaussians.sh_degree == 3 and "degree 4" in found.notes[0]
    expected = rest.reshape(2, 3, 24)[:, :, :15].transpose(0, 2, 1)
    np.testing.assert_array_equal(found.gaussians.sh_rest.detach().numpy(), expected)


def test_other_numbers_of_harmonics_are_refused(tmp_path):
    write(tmp_path / "a.ply", columns_of(scene(2, 0)) | {f"f_rest_{k}": np.zeros(2) for k in range(10)})
    with pytest.raises(UserError, match="10 numbers f_rest"):
        read_splats(tmp_path / "a.ply")
