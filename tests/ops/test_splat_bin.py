import itertools
import math

import pytest
import torch
from ops.test_splat_raster import splats
from reference.splat_bin import touched

from neural3d.ops.native import native, served_by_cpu
from neural3d.ops.splat_bin import Bins, splat_bin

WIDTH, HEIGHT = 71, 45


def tiles(bins: Bins) -> list[torch.Tensor]:
    """The splats of each tile's list."""
    begin = bins.tile_begin.tolist()
    return [bins.entry[a:b].long().cpu() for a, b in itertools.pairwise(begin)]


def listed(bins: Bins, n: int) -> torch.Tensor:
    """(N, tiles): who is in which list."""
    out = torch.zeros(n, len(bins.tile_begin) - 1, dtype=torch.bool)
    for t, entries in enumerate(tiles(bins)):
        assert len(entries.unique()) == len(entries), "no splat is listed twice"
        out[entries, t] = True
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [2.0, 5.0, 40.0])
def test_lists_hold_what_touches(device, dtype, size):
    """All that reach 1/255 at a pixel, and none that does not come near it between the pixels."""
    values = splats(60, 3, dtype, device, size=size)
    bins = splat_bin(*values, WIDTH, HEIGHT)
    square = native(values[0].device).splat_tile
    got = listed(bins, 60)
    xy, conic, depth, opacity = (v.double().cpu() for v in values[:4])
    must = touched(xy, conic, opacity, WIDTH, HEIGHT, square).flatten(1)
    may = touched(xy, conic, opacity, WIDTH, HEIGHT, square, step=0.25, least=0.8 / 255).flatten(1)
    assert must.any() and not must.all()
    assert not (must & ~got).any() and not (got & ~may).any()
    for entries in tiles(bins):
        assert torch.equal(entries, entries[depth[entries].argsort(stable=True)]), "near ones first"
    total = int(bins.tile_begin[-1])
    assert total == got.sum() and len(bins.place[:total].unique()) == total, "a row of gradients for each"


@pytest.mark.parametrize("size", [2.0, 5.0, 40.0])
def test_cells_hold_what_touches(size):
    values = splats(60, 3, torch.float64, size=size)
    bins = splat_bin(*values, WIDTH, HEIGHT)
    if not served_by_cpu(values[0].device):
        pytest.skip("cells are the CPU's")
    rows, columns = -(-HEIGHT // 4), -(-WIDTH // 4)
    got = torch.zeros(60, 8 * (-(-rows // 8)), 8 * (-(-columns // 8)), dtype=torch.bool)
    at = 0
    for t, entries in enumerate(tiles(bins)):
        y, x = divmod(t, -(-WIDTH // 32))
        for i in entries.tolist():
            bits = int(bins.cells[at])
            assert bits != 0
            got[i, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = torch.tensor(
                [[bits >> (8 * v + u) & 1 for u in range(8)] for v in range(8)], dtype=torch.bool
            )
            at += 1
    xy, conic, _, opacity = values[:4]
    assert not got[:, rows:].any() and not got[:, :, columns:].any()
    got = got[:, :rows, :columns]
    must = touched(xy, conic, opacity, WIDTH, HEIGHT, 4)
    may = touched(xy, conic, opacity, WIDTH, HEIGHT, 4, step=0.125, least=0.8 / 255)
    assert not (must & ~got).any() and not (got & ~may).any()


def test_order_is_by_depth_and_then_by_number(device):
    values = splats(300, device=device, size=30)
    values[2][:] = torch.tensor([3.0, -1.0, 3.0, 0.0, -0.0, 1e-30], device=device).repeat(50)
    for entries in tiles(splat_bin(*values, WIDTH, HEIGHT)):
        depth = values[2].cpu()[entries]
        assert (depth[1:] >= depth[:-1]).all()
        for d in depth.unique():
            same = entries[(depth == d) & (depth != 0)]  # -0 lies before 0
            assert torch.equal(same, same.sort().values)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_what_cannot_be_seen_has_no_entry(device, n):
    values = splats(n, device=device)
    values[3][:] = 0.001
    bins = splat_bin(*values, WIDTH, HEIGHT)
    assert not bins.tile_begin.any()
    for which, bad in ((0, math.nan), (1, math.inf), (2, math.nan), (3, math.nan)):
        spoiled = splats(n, device=device)
        spoiled[which][:] = bad
        assert not splat_bin(*spoiled, WIDTH, HEIGHT).tile_begin.any()


@pytest.mark.parametrize("n", [3000, 20_000, 300_000])
def test_threads_change_nothing(n):
    """Few splats are one part, more of them several, and many are sorted by all threads."""
    values = splats(n, size=1.5, width=300, height=200)
    threads, results = torch.get_num_threads(), []
    try:
        for k in (1, 2, 5):
            torch.set_num_threads(k)
            results.append(splat_bin(*values, 300, 200))
    finally:
        torch.set_num_threads(threads)
    total = int(results[0].tile_begin[-1])
    for other in results[1:]:
        assert torch.equal(other.tile_begin, results[0].tile_begin)
        for name in ("entry", "cells", "place"):
            assert torch.equal(getattr(other, name)[:total], getattr(results[0], name)[:total]), name
    depth = values[2]
    for entries in tiles(results[0]):
        assert torch.equal(entries, entries[depth[entries].argsort(stable=True)])
