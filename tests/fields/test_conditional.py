"""Fields that a code shapes, and the encoder of pictures: one function of x, gradients to the code, sizes."""

import pytest
import torch

from neural3d.fields.conditional import ConditionalField
from neural3d.fields.encoder import PictureEncoder


@pytest.fixture
def field():
    torch.manual_seed(0)
    net = ConditionalField(code=8, outputs=2, width=16, blocks=2).double()
    for block in net.blocks:  # they begin as identities
        torch.nn.init.normal_(block.linear2.weight, std=0.3)
    return net


def test_a_value_does_not_depend_on_what_else_is_asked(field):
    x, code = torch.rand(3, 20, 3).double(), torch.rand(3, 8).double()
    alone = torch.stack([field(x[s : s + 1, 7:8], code[s : s + 1])[0, 0] for s in range(3)])
    assert torch.allclose(field(x, code)[:, 7], alone)


def test_each_shape_follows_its_own_code(field):
    x, code = torch.rand(1, 20, 3).double().expand(2, -1, -1), torch.rand(2, 8).double()
    a, b = field(x, code)
    assert (a - b).abs().max() > 0.01
    assert torch.allclose(field(x, code[:1].expand(2, -1))[1], a)


def test_gradients_reach_positions_codes_and_parameters(field):
    x, code = torch.rand(2, 4, 3).double().requires_grad_(), torch.rand(2, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, c: field(x, c), (x, code))
    field(x, code).sum().backward()
    assert all(p.grad is not None for p in field.parameters())


def test_the_encoder_tells_where_something_is():
    """Averaged over the picture, as the published one, a shifted square would leave nearly the same vector."""
    torch.manual_seed(0)
    net = PictureEncoder(side=32, code=8, width=8).eval()
    pictures = torch.ones(2, 3, 32, 32)
    pictures[0, :, 4:12, 4:12], pictures[1, :, 20:28, 4:12] = 0, 0
    a, b = net(pictures)
    assert a.shape == (8,) and (a - b).norm() > 0.2 * (a - net(torch.ones(1, 3, 32, 32))[0]).norm()
    assert all(p.is_contiguous() for p in net.parameters())  # as the optimizer wants them
