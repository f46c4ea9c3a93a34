"""Our kernels, usable on their own: tensors in, tensors out, differentiable, on CPU and CUDA alike.

    from neural3d.ops import HashGridSpec, composite, hash_grid, mlp, ray_march

Each lives in a module of its own name, whose docstring gives the equations and the paper.
"""

from neural3d.ops.adam import Adam, adam_step
from neural3d.ops.antialias import antialias, opposite_corners
from neural3d.ops.composite import Composite, compact_visible, composite, used_samples
from neural3d.ops.hash_grid import HashGridSpec, hash_grid, hash_grid_position_gradient
from neural3d.ops.lbs import blend_skin, kinematics, rotation_exp
from neural3d.ops.memory import keep_memory
from neural3d.ops.mesh_raster import Raster, interpolate, mesh_raster, texture_lookup
from neural3d.ops.mlp import mlp
from neural3d.ops.nade import nade
from neural3d.ops.native import cuda_usable
from neural3d.ops.rasterization import rasterization
from neural3d.ops.ray_march import Samples, compact, pack_bits, ray_aabb, ray_march, ray_points
from neural3d.ops.soft_silhouette import soft_silhouette
from neural3d.ops.spherical_harmonics import spherical_harmonics
from neural3d.ops.splat_project import Projected, splat_project
from neural3d.ops.splat_pull import splat_pull
from neural3d.ops.splat_raster import splat_raster
from neural3d.ops.ssim import ssim, ssim_and_l1

__all__ = [
    "Adam",
    "Composite",
    "HashGridSpec",
    "Projected",
    "Raster",
    "Samples",
    "adam_step",
    "antialias",
    "blend_skin",
    "compact",
    "compact_visible",
    "composite",
    "cuda_usable",
    "hash_grid",
    "hash_grid_position_gradient",
    "interpolate",
    "keep_memory",
    "kinematics",
    "mesh_raster",
    "mlp",
    "nade",
    "opposite_corners",
    "pack_bits",
    "rasterization",
    "ray_aabb",
    "ray_march",
    "ray_points",
    "rotation_exp",
    "soft_silhouette",
    "spherical_harmonics",
    "splat_project",
    "splat_pull",
    "splat_raster",
    "ssim",
    "ssim_and_l1",
    "texture_lookup",
    "used_samples",
]
