"""How often kernels must add to memory that others add to as well: counted, since only a GPU shows what it costs."""

from __future__ import annotations

import pytest
import torch
from ops.test_splat_raster import HEIGHT, WIDTH, leaves_of, splats

from cuda_on_cpu import FOLDER, counted, emulated
from neural3d.ops import HashGridSpec, hash_grid, splat_raster

pytestmark = pytest.mark.skipif(FOLDER is None, reason="NEURAL3D_EMULATED does not name a build of tests/cuda_on_cpu")


def test_gradients_of_splats_are_written_once(emulated_kernels):
    values = splats(100)
    leaves = leaves_of(values)
    with emulated(emulated_kernels):
        image, _ = splat_raster(*values, WIDTH, HEIGHT)
        with counted(emulated_kernels) as counts:
            torch.autograd.grad(image.sum(), leaves)
    assert counts.atomics == 0 and counts.collectives > 0


@pytest.mark.parametrize("neighbours", [True, False])
@pytest.mark.parametrize("features", [1, 2, 4, 8])
def test_points_in_a_cell_add_to_the_table_together(emulated_kernels, features, neighbours):
    """64 points, two warps, all in one cell or by turns in two; the sums are the same."""
    spec = HashGridSpec(levels=1, features=features, base_resolution=9, max_resolution=9)
    x = (torch.tensor([[3.0, 4, 5]]) + torch.linspace(-0.4, 0.4, 64)[:, None]) / 8  # p = x scale + ½, scale 8
    if not neighbours:
        x[::2] += 0.25
    table = torch.zeros(spec.entries, features, requires_grad=True)
    with emulated(emulated_kernels), counted(emulated_kernels) as counts:
        hash_grid(x, table, spec).sum().backward()
    torch.testing.assert_close(table.grad.sum(), torch.tensor(64.0 * features))
    shares = max(1, 4 // features) if neighbours else 32  # of a warp's points, each of which adds by itself
    assert counts.atomics == 2 * shares * 8 * features
    if neighbours and features < 8:  # 4 pairs of neighbours along x, each in a sector or across two
        assert counts.turns <= 2 * 4 * 2 * shares
