import math

import pytest
import torch

from neural3d.fields.occupancy import UNKNOWN, OccupancyGrid
from neural3d.geometry.cameras import Camera
from neural3d.ops.ray_march import ray_march


def ball(x):
    """Density 50 within radius 0.5 of (0.2, 0, 0), none elsewhere."""
    return 50.0 * ((x - x.new_tensor([0.2, 0, 0])).norm(dim=-1) < 0.5)


def centres(grid):
    r = grid.resolution
    axis = (torch.arange(r) + 0.5) * 2 / r - 1
    unit = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    return torch.stack([unit * 2**k for k in range(grid.levels)])


def occupied(grid):
    """The bit field as bool (L, R, R, R), read cell by cell through the march's eyes: unpacked by hand."""
    blocks = grid.resolution // 4
    bits = grid.bits.view(grid.levels, blocks, blocks, blocks, 8)
    bits = (bits[..., None] >> torch.arange(8)) & 1  # byte: x and half of y; bit: rest of y, and z
    cells = bits.view(grid.levels, blocks, blocks, blocks, 4, 4, 4).permute(0, 1, 4, 2, 5, 3, 6)
    return cells.reshape(grid.density.shape).bool()


@pytest.mark.parametrize("levels", [1, 3])
def test_learns_where_the_density_is(levels):
    grid = OccupancyGrid(resolution=32, levels=levels, threshold=1.0, budget=20_000, warmup=0)
    generator = torch.Generator().manual_seed(0)
    assert occupied(grid).all(), "unknown cells are looked at"
    for step in range(40):
        grid.update(ball, step, generator)
    x = centres(grid)
    distance = (x - torch.tensor([0.2, 0, 0])).norm(dim=-1)
    half_diagonal = (math.sqrt(3) / 32 * 2.0 ** torch.arange(levels)).view(-1, 1, 1, 1)
    found = occupied(grid)
    assert found[distance < 0.5 - half_diagonal].all()
    assert not found[distance > 0.5 + 2 * half_diagonal].any()  # coarse cascades repeat the finer one's cells


def test_budget_is_kept_and_nothing_is_forgotten_before_it_was_seen():
    grid = OccupancyGrid(resolution=32, levels=2, threshold=1.0, budget=1000)
    generator = torch.Generator().manual_seed(0)
    own = 32**3 + 32**3 - 16**3
    asked = []

    def density(x):
        asked.append(len(x))
        assert x.abs().max() <= 2
        return torch.zeros(len(x))

    for update in range(own // 1000):
        grid.update(density, update, generator)
        unknown = (grid.density == UNKNOWN) & grid._own
        assert unknown.sum() == own - 1000 * (update + 1), "each update meets 1000 new cells"
        assert torch.equal(occupied(grid)[0], grid.density[0] == UNKNOWN)
    grid.update(density, 0, generator)
    assert set(asked) == {1000}
    assert not occupied(grid).any()


def test_after_the_warm_up_half_the_budget_goes_to_occupied_cells():
    grid = OccupancyGrid(resolution=32, threshold=1.0, budget=4096, warmup=100)
    generator = torch.Generator().manual_seed(0)
    for step in (0, 1, 2, 3, 4, 5, 6, 7, 8):
        grid.update(ball, step, generator)
    hits = {}
    for step in (99, 100):
        grid.update(lambda x, step=step: hits.setdefault(step, ball(x)), step, generator)
    share = occupied(grid).float().mean()
    assert abs((hits[99] > 0).float().mean() - share) < 0.03
    assert (hits[100] > 0).float().mean() > 0.4


def test_cells_fade_when_their_density_is_gone():
    grid = OccupancyGrid(resolution=16, threshold=1.0, budget=2 * 16**3, warmup=0)
    generator = torch.Generator().manual_seed(0)
    grid.update(lambda x: torch.where(x[:, 0] < 0, 200.0, 50.0), 0, generator)
    assert occupied(grid).all()
    for _ in range(math.ceil(math.log(1 / 50) / math.log(grid.decay)) - 1):
        grid.update(lambda x: 200.0 * (x[:, 0] < 0), 0, generator)
    assert occupied(grid).all(), "50 · decayⁿ > 1 still"
    grid.update(lambda x: 200.0 * (x[:, 0] < 0), 0, generator)
    assert torch.equal(occupied(grid)[0], centres(grid)[0, ..., 0] < 0)


def test_threshold_is_the_mean_where_that_is_lower():
    grid = OccupancyGrid(resolution=16, threshold=1e6, budget=16**3)
    grid.update(ball, 0, torch.Generator().manual_seed(0))
    assert 0.05 < occupied(grid).float().mean() < 0.15


def test_resumes_exactly():
    def run(grid, generator, steps):
        for step in steps:
            grid.update(ball, step, generator)

    whole, halves, resumed = (
        OccupancyGrid(resolution=16, levels=2, threshold=1.0, budget=500, warmup=5) for _ in "123"
    )
    a, b = (torch.Generator().manual_seed(7) for _ in "12")
    run(whole, a, range(20))
    run(halves, b, range(9))
    resumed.load_state_dict(halves.state_dict())
    run(resumed, b, range(9, 20))
    assert torch.equal(whole.density, resumed.density) and torch.equal(whole.bits, resumed.bits)


@pytest.mark.parametrize(
    "model, params", [("PINHOLE", [80.0, 80, 50, 40]), ("OPENCV", [80, 80, 50, 40, -0.2, 0.05, 0, 0])]
)
def test_what_no_camera_sees_stays_empty(model, params):
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([0.1, 0.0, -3.0])  # in front of the cube, looking along +z
    camera = Camera(model, 100, 80, torch.tensor(params, dtype=torch.float64), pose)
    turned = pose.clone()
    turned[:3, :3] = torch.diag(torch.tensor([-1.0, 1, -1], dtype=torch.float64))  # looking away
    grid = OccupancyGrid(resolution=32, levels=3, threshold=1.0, budget=1 << 20)
    grid.mark_visible([camera, Camera(model, 100, 80, camera.params, turned)])
    # Rays through every pixel meet no cell that was wrongly emptied …
    origins, directions = camera.rays()
    t_min = torch.zeros(8000)
    rays = origins.view(-1, 3), directions.view(-1, 3), t_min, t_min + math.inf
    march = dict(step_min=0.02, step_max=0.02)
    everything = ray_march(*rays, torch.full_like(grid.bits, 255), **march)
    assert len(ray_march(*rays, grid.bits, **march)) == len(everything) > 10_000
    # … what is well beside every picture is empty: all that is seen has |x| < |z|, and blocks are half a unit wide …
    x, _, z = (centres(grid) - pose[:3, 3].float()).unbind(-1)
    beside = (x.abs() > z.abs() + 2) & grid._own
    assert beside.sum() > 1000 and not occupied(grid)[beside].any()
    # … and no density revives it.
    before = occupied(grid)[grid._own]
    grid.update(lambda x: torch.full((len(x),), 50.0), 0, torch.Generator().manual_seed(0))
    assert torch.equal(occupied(grid)[grid._own], before) and 0.1 < before.float().mean() < 0.9


def test_observed_densities_count_and_unobserved_cells_keep_theirs():
    grid = OccupancyGrid(resolution=16, levels=2, threshold=1.0, budget=2 * 2 * 16**3, warmup=0)
    generator = torch.Generator().manual_seed(0)
    grid.update(lambda x: torch.full_like(x[:, 0], 8.0), 0, generator)
    before = grid.density.clone()
    # One point in cascade 0 twice, one in cascade 1.
    grid.observe(
        torch.tensor([[0.01, 0.01, 0.01], [0.02, 0.02, 0.02], [-1.9, 0.1, 0.1]]), torch.tensor([1.0, 20.0, 2.0])
    )
    changed = (grid.density != before).nonzero().tolist()
    assert changed == [[0, 8, 8, 8], [1, 0, 8, 8]]
    assert grid.density[0, 8, 8, 8] == 20
    torch.testing.assert_close(grid.density[1, 0, 8, 8], torch.tensor(8.0 * grid.decay))


@pytest.mark.parametrize("levels", [1, 3])
def test_positions_find_the_bit_of_their_cell(levels):
    grid = OccupancyGrid(resolution=32, levels=levels, threshold=1.0, budget=20_000, warmup=0)
    generator = torch.Generator().manual_seed(0)
    for step in range(10):
        grid.update(ball, step, generator)
    x, found = centres(grid)[grid._own], occupied(grid)[grid._own]
    assert 0 < found.float().mean() < 1
    assert torch.equal(grid.occupied(x), found)
    assert torch.equal(grid.occupied(x + 0.4 * 2 / 32), found), "anywhere in the finest cell, so in all"
    assert not grid.occupied(torch.tensor([[1e6, 0, 0]])).any(), "beyond the last cascade its border answers"
