"""GaussianSplats3D's .ksplat: sections made by hand, plain and compressed, and SplatTransform's small file."""

import struct

import numpy as np
import pytest
import torch

from neural3d.errors import UserError
from neural3d.files.quantised import C0
from neural3d.files.splats import is_splat_file, read_splats


def by_hand(compression, degree=0, version=1):
    """Three splats in a section: buckets of two, of which the second is partly filled; cubes of 4, at 10 and 20."""
    coefficients = (degree + 1) ** 2 - 1
    header = bytearray(4096)
    struct.pack_into("<BB2xIIIIH", header, 0, 0, version, 1, 1, 3, 3, compression)
    struct.pack_into("<ff", header, 36, -2.0, 2.0)
    section = bytearray(1024)
    struct.pack_into("<IIII", section, 0, 3, 3, 2, 2)
    struct.pack_into("<fHxxI4xIIH", section, 16, 4.0, 12, 32767, 1, 1, degree)
    body = struct.pack("<I", 1) + struct.pack("<6f", 10, 10, 10, 20, 20, 20)
    for k in range(3):
        position = (k, 2.0 * k, -1.0) if compression == 0 else (0, 32767, 65534)
        real, sh = ("f", "f") if compression == 0 else ("e", "e" if compression == 1 else "B")
        body += struct.pack("<3f" if compression == 0 else "<3H", *position)
        body += struct.pack(f"<3{real}4{real}", 0.5, 1.0, 0.0, 1, 0, 0, 0.5) + bytes([0, 51, 255, 102])
        for i in range(3 * coefficients):
            body += struct.pack(f"<{sh}", i if sh == "B" else i / 8)
    return bytes(header + section) + body


def coefficient(i, compression):
    return i / 255 * 4 - 2 if compression == 2 else i / 8


@pytest.mark.parametrize("compression", [0, 1, 2])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_a_file_made_by_hand(tmp_path, compression, degree):
    (tmp_path / "a.ksplat").write_bytes(by_hand(compression, degree))
    assert is_splat_file(tmp_path / "a.ksplat")
    g = read_splats(tmp_path / "a.ksplat").gaussians
    plain = [[k, 2 * k, -1] for k in range(3)]
    bucketed = [[centre - 2, centre, centre + 2] for centre in (10, 10, 20)]  # half a cube to either side
    np.testing.assert_allclose(g.means.detach(), bucketed if compression else plain, atol=1e-4)
    torch.testing.assert_close(g.log_scales[0].exp(), torch.tensor([0.5, 1, 0.0005]))  # 0: flat
    torch.testing.assert_close(g.quats[0], torch.tensor([1, 0, 0, 0.5]))
    torch.testing.assert_close(0.5 + C0 * g.sh_dc[0], torch.tensor([0, 0.2, 1]), rtol=0, atol=1e-6)
    torch.testing.assert_close(g.opacity_logits[0].sigmoid(), torch.tensor(0.4))
    assert g.sh_degree == degree
    for channel in range(3 if degree else 0):  # the first degree's nine numbers: three of red, of green, of blue
        expected = [coefficient(3 * channel + k, compression) for k in range(3)]
        np.testing.assert_allclose(g.sh_rest[0, :3, channel].detach(), expected, atol=1e-3)
    if degree == 2:
        expected = [coefficient(9 + 5 + k, compression) for k in range(5)]
        np.testing.assert_allclose(g.sh_rest[0, 3:, 1].detach(), expected, atol=1e-2)


def test_the_file_of_splat_transform(data_dir):
    """Four balls of σ = 0.1 and opacity 0.9 on a grid, as its generator says."""
    g = read_splats(data_dir / "golden_peers/splat_transform/splat/minimal.ksplat").gaussians
    grid = torch.tensor([[x, 0.0, z] for z in (-1.0, 0.0) for x in (-1.0, 0.0)])
    assert {tuple(row) for row in g.means.tolist()} == {tuple(row) for row in grid.tolist()}
    torch.testing.assert_close(g.log_scales.exp(), torch.full((4, 3), 0.1))
    torch.testing.assert_close(g.opacity_logits.sigmoid(), torch.full((4,), 230 / 255))


def test_damaged(tmp_path):
    whole = by_hand(1, 1)
    for name, data in {
        "short": whole[:100],
        "cut": whole[:-1],
        "version": by_hand(1, version=0),
        "compression": whole[:20] + b"\7" + whole[21:],
        "sections": whole[:4] + b"\0\0\0\0" + whole[8:],
        "buckets": whole[: 4096 + 12] + b"\xff\xff\xff\xff" + whole[4096 + 16 :],
        "degree": whole[: 4096 + 40] + b"\x09" + whole[4096 + 41 :],
    }.items():
        (tmp_path / f"{name}.ksplat").write_bytes(data)
        with pytest.raises(UserError, match=rf"{name}\.ksplat"):
            read_splats(tmp_path / f"{name}.ksplat")
