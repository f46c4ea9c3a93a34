"""A moving average against its formula."""

import pytest
import torch
from torch import nn

from neural3d.fields.average import Average


def test_it_forgets_geometrically_and_copies_buffers():
    net = nn.BatchNorm1d(2)
    average = Average(net, decay=0.9)
    for step in range(1, 6):
        with torch.no_grad():
            net.weight.fill_(1.0 + step)
            net.running_mean.fill_(step)
        average.update(net)
    expected = 0.9**5 * 1 + sum(0.1 * 0.9 ** (5 - k) * (1 + k) for k in range(1, 6))
    assert average.mean.weight.tolist() == pytest.approx([expected] * 2)
    assert average.mean.running_mean.tolist() == [5, 5] and average.mean.num_batches_tracked == 0


def test_no_loss_moves_it_and_checkpoints_keep_it():
    net = nn.Linear(2, 1)
    average = Average(net, decay=0.5)
    assert not any(p.requires_grad for p in average.parameters())
    assert average.state_dict().keys() == {"mean.weight", "mean.bias"}
    net.weight.data += 1
    assert not torch.equal(average.mean.weight, net.weight), "a copy"
