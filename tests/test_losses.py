"""Terms that methods share."""

import torch

from neural3d.losses import carving_force


def test_carving_pulls_what_is_right_and_pushes_what_is_wrong():
    error = torch.tensor([0.0, 0.1, 0.3, 1.0, 0.5])
    sure = torch.tensor([1.0, 1, 1, 1, 0])  # the mean error of these is 0.35
    force = carving_force(error, sure)
    assert force[0] == 1 and force[1] > 0 > force[2] > force[3] == -3 and force[4] == 0
