"""The hash radiance field by itself; what it learns and costs is in tests/methods/test_ngp.py."""

import dataclasses
import sys

import torch

from neural3d.fields.radiance import HashRadiance, RadianceConfig, Steps
from neural3d.ops.mlp import has_tensor_cores
from neural3d.ops.ray_march import Samples

SMALL = RadianceConfig(log2_table=10, levels=4, grid_resolution=16)


def field(device, **settings):
    torch.manual_seed(0)
    made = HashRadiance(
        dataclasses.replace(SMALL, **settings), finest=32, steps=Steps(0.01, 0.0, 0.01), near=0.1, reach=None
    )
    with torch.no_grad():
        made.table.uniform_(-1, 1)
    return made.to(device)


def learn(field, device):
    """Colours and densities at some points, and what a loss on them asks of the parameters."""
    generator = torch.Generator().manual_seed(0)
    positions, directions, v = (torch.rand(100, 3, generator=generator).to(device) for _ in range(3))
    every = torch.arange(100, device=device)
    samples = Samples(positions, every.float(), every.float(), every, every)
    directions = torch.nn.functional.normalize(directions - 0.5, dim=-1)
    sigma, rgb = field.emission(samples, directions)
    ((rgb * v).sum() + sigma.sum()).backward()
    return [sigma.detach(), rgb.detach(), *(p.grad for p in field.parameters())]


def test_bfloat16_is_near_float32_and_the_same_without_tensor_cores(device, monkeypatch):
    exact = learn(field(device), device)
    rounded = learn(field(device, precision="bfloat16"), device)
    for have, want in zip(rounded, exact):
        assert 1e-5 < (have - want).abs().max() / want.abs().max() < 0.05
    if not has_tensor_cores(device):
        return
    monkeypatch.setattr(sys.modules["neural3d.ops.mlp"], "has_tensor_cores", lambda device: False)
    for have, want in zip(learn(field(device, precision="bfloat16"), device), rounded):
        assert (have - want).abs().max() < 1e-3 * want.abs().max()
