"""Ways to represent and optimise one scene or shape, one file each.

A new method is one file, one line here, one test. Priors have a table of their own (neural3d.priors).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from neural3d.config import nearest
from neural3d.priors import PRIORS

if TYPE_CHECKING:
    from neural3d.methods.base import Method

METHODS = {
    "deepsdf": "neural3d.methods.deepsdf:DeepSdf",
    "dvr": "neural3d.methods.dvr:Dvr",
    "dvr-category": "neural3d.methods.dvr_category:DvrCategory",
    "igr": "neural3d.methods.igr:Igr",
    "nerf": "neural3d.methods.nerf:Nerf",
    "neus": "neural3d.methods.neus:Neus",
    "ngp": "neural3d.methods.ngp:Ngp",
    "occupancy": "neural3d.methods.occupancy:Occupancy",
    "occupancy-category": "neural3d.methods.occupancy_category:OccupancyCategory",
    "sdf": "neural3d.methods.sdf:Sdf",
    "splat": "neural3d.methods.splat:Splat",
}

# Which method does the same for a folder of shapes, or of captures of many objects.
OF_CATEGORY = {"dvr": "dvr-category", "occupancy": "occupancy-category"}


def method_class(name: str) -> type[Method]:
    """The class of a method by its name on the command line. Raises UserError for an unknown one."""
    known = METHODS | PRIORS
    if name not in known:
        raise nearest(name, known, "method")
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
