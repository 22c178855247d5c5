"""Noise of parts of a batch: the rows of what is drawn for the whole batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from framecast.nn.joint_noise import IN_PLACE, ROWWISE, SIZED, JointNoise

X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LAST = X.contiguous(memory_format=torch.channels_last)

#: Functions of the indices of some clips and their number.
DRAWS = {
    "randn": lambda i, b: torch.randn(b, 5),
    "randn of a tuple": lambda i, b: torch.randn((b, 50)),
    "randn by keyword": lambda i, b: torch.randn(size=(b, 50)),
    "randn of a generator": lambda i, b: torch.randn(b, 5, generator=torch.Generator().manual_seed(3)),
    "rand": lambda i, b: torch.rand(torch.Size((b, 3))),
    "rand of one axis": lambda i, b: torch.rand(b),
    "randint": lambda i, b: torch.randint(7, (b, 3)),
    "randint from a lower bound": lambda i, b: torch.randint(2, 7, (b, 3)),
    "randint by keyword": lambda i, b: torch.randint(0, 7, size=(b,)),
    "randn_like": lambda i, b: torch.randn_like(X[i]),
    "randn_like, channels last": lambda i, b: torch.randn_like(LAST[i]),
    "rows of frames": lambda i, b: torch.randn_like(X[i].flatten(0, 1)),
    "normal": lambda i, b: torch.normal(X[i], X[i]),
    "normal of a size": lambda i, b: torch.normal(0.0, 1.0, size=(b, 3)),
    "bernoulli": lambda i, b: torch.bernoulli(X[i]),
    "multinomial": lambda i, b: torch.multinomial(X[i].flatten(1), 2),
    "multinomial with replacement": lambda i, b: torch.multinomial(X[i].flatten(1), 20, replacement=True),
    "distribution": lambda i, b: torch.distributions.Normal(X[i].flatten(1), 1.0).rsample(),
    "gumbel": lambda i, b: F.gumbel_softmax(X[i].flatten(1)),
    "dropout": lambda i, b: nn.Dropout(0.5)(X[i]),
    "dropout, channels last": lambda i, b: nn.Dropout(0.5)(LAST[i]),
    "dropout, in place": lambda i, b: nn.Dropout(0.5, inplace=True)(X[i].clone()),
    "dropout of channels": lambda i, b: nn.Dropout2d(0.5)(X[i]),
    "attention": lambda i, b: F.scaled_dot_product_attention(X[i], X[i], X[i], dropout_p=0.5),
    "normal_": lambda i, b: torch.empty(b, 50).normal_(),
    "uniform_": lambda i, b: X[i].new_empty(b, 7).uniform_(-1, 1),
    "exponential_": lambda i, b: torch.empty(b, 5).exponential_(),
    "truncated normal": lambda i, b: nn.init.trunc_normal_(torch.empty(b, 50)),
}


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("name", DRAWS)
def test_parts_of_a_batch_draw_the_rows_of_the_whole(name, parts):
    draw, rows = DRAWS[name], 4 // parts
    torch.manual_seed(1)
    whole = draw(torch.arange(4), 4)
    found = []
    for part in range(parts):
        torch.manual_seed(1)
        with JointNoise(part * rows, rows, 4):
            found.append(draw(torch.arange(part * rows, (part + 1) * rows), rows))
    assert torch.equal(torch.cat(found), whole)


def test_noise_without_an_axis_of_clips_is_the_same_in_every_part():
    def draw():
        return torch.cat(
            [
                torch.randn(5),
                torch.rand(()).reshape(1),
                torch.randperm(9).float(),
                torch.empty(3).normal_(),
                torch.empty(()).normal_()[None],
            ]
        )

    torch.manual_seed(1)
    whole = draw()
    for part in range(2):
        torch.manual_seed(1)
        with JointNoise(2 * part, 2, 4):
            assert torch.equal(draw(), whole)


def test_gradients_pass_through_the_rows_of_a_part():
    x = X[:2].clone().requires_grad_()
    torch.manual_seed(1)
    with JointNoise(0, 2, 4):
        kept = F.dropout(x, 0.5)
    kept.sum().backward()
    assert torch.equal(x.grad, (kept != 0) * 2.0)


#: Random operators of torch that are reached through others of the lists, or draw nothing for clips.
REACHED = {
    "geometric exponential cauchy log_normal normal normal_functional uniform": "forms of the methods that end in _",
    "randperm": "an order of anything but clips, the same in every part",
    "lstm gru rnn_relu rnn_tanh": "dropout inside a recurrent layer; not covered, as the docstring says",
    "rrelu_with_noise rrelu_with_noise_": "called by rrelu",
    "dropout_ feature_dropout_ alpha_dropout_ feature_alpha_dropout_ rrelu_": "called by torch.nn.functional",
}


def test_every_random_operator_of_torch_is_handled():
    def seeded(name):
        packet = getattr(torch.ops.aten, name, None)
        overloads = packet.overloads() if hasattr(packet, "overloads") else ()
        return any(torch.Tag.nondeterministic_seeded in getattr(packet, o).tags for o in overloads)

    random = {name for name in dir(torch.ops.aten) if not name.startswith("_") and seeded(name)}
    handled = {f.__name__ for f in (*SIZED, *ROWWISE, *IN_PLACE)}
    named = {name for group in REACHED for name in group.split()} | {"miopen_rnn", "rrelu_with_noise_functional"}
    assert len(random) > 20
    assert random - handled - named == set()
