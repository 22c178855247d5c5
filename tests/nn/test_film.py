"""FiLM and its residual block: the identity at the start, then a scale and a shift that depend on the vector."""

import torch

from framecast.nn.film import Film, FilmBlock


def test_film_scales_and_shifts_by_a_linear_function_of_the_vector():
    film, x = Film(2, 3), torch.randn(4, 3, 5, 6)
    condition = torch.randn(4, 2)
    assert torch.equal(film(x, condition), x)
    torch.nn.init.normal_(film.linear.weight)
    scale, shift = (condition @ film.linear.weight.T).chunk(2, 1)
    torch.testing.assert_close(film(x, condition), x * (1 + scale[:, :, None, None]) + shift[:, :, None, None])


def test_block_starts_as_the_identity_and_depends_on_the_vector():
    block, x = FilmBlock(3, 2), torch.randn(4, 3, 5, 6)
    one, other = torch.zeros(4, 2), torch.ones(4, 2)
    assert torch.equal(block(x, other), x)
    for p in block.parameters():
        torch.nn.init.normal_(p)
    assert not torch.equal(block(x, one), block(x, other))
