"""Every formula of models/losses.py by hand, by finite differences, and for its shape."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models import losses

Loss = Callable[..., Tensor]

# Each loss with the number of its arguments and their shape.
LOGITS, PICTURE = (2, 1, 3, 3), (2, 3, 4, 5)
FORMULAS: dict[Loss, tuple[int, tuple[int, ...]]] = {
    losses.vanilla_discriminator: (2, LOGITS),
    losses.vanilla_generator: (1, LOGITS),
    losses.least_squares_discriminator: (2, LOGITS),
    losses.least_squares_generator: (1, LOGITS),
    losses.mean_absolute_error: (2, PICTURE),
    losses.mean_squared_error: (2, PICTURE),
    losses.cycle_consistency: (2, PICTURE),
    losses.identity_mapping: (2, PICTURE),
    losses.feature_reconstruction: (2, PICTURE),
    losses.gram_matrix: (1, PICTURE),
    losses.style_reconstruction: (2, (2, 3, 3)),
    losses.total_variation: (1, PICTURE),
    losses.likeness: (2, (3, 8)),
    losses.face_classification: (1, (4,)),
}
by_formula = pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.__name__)


def tensor(*values: float) -> Tensor:
    """A (1, 1, 1, n) picture."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def drawn(formula: Loss) -> list[Tensor]:
    """Random float64 arguments that want gradients."""
    count, shape = FORMULAS[formula]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(count)]


def test_every_formula_is_listed():
    """The checks below cover every public function of models/losses.py."""
    public = {
        f for name, f in vars(losses).items() if getattr(f, "__module__", "") == losses.__name__
    }
    assert public == set(FORMULAS)


@by_formula
def test_gradients(formula: Loss):
    """Each loss has the gradient that finite differences give."""
    assert torch.autograd.gradcheck(formula, drawn(formula))


@by_formula
def test_shapes(formula: Loss):
    """Each loss is a scalar averaged over the batch, and a Gram matrix is channels by channels."""
    arguments = drawn(formula)
    value = formula(*arguments)
    twice = formula(*(torch.cat((a, a)) for a in arguments))
    if formula is losses.gram_matrix:
        assert value.shape == (2, 3, 3)
        torch.testing.assert_close(twice[2:], value)
    else:
        assert value.shape == ()
        torch.testing.assert_close(twice, value)


def test_likeness():
    """Two faces are alike by their cosine beyond the margin; unlike ones cost nothing."""
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    other = torch.tensor([[0.8, 0.6], [-1.0, 0.0]])
    assert losses.likeness(one, other).item() == pytest.approx(0.4)
    assert losses.likeness(one, other, 0.3).item() == pytest.approx(0.25)
    assert losses.likeness(one, other, -1.0).item() == pytest.approx((1.8 + 0) / 2)


def test_face_classification():
    """A detector's doubt is the mean logarithm of its confidence, and finite at none."""
    confidence = torch.tensor([0.5, 1.0])
    assert losses.face_classification(confidence).item() == pytest.approx(math.log(2) / 2)
    assert losses.face_classification(torch.zeros(1)).item() == pytest.approx(7 * math.log(10))


def test_vanilla_adversarial_terms():
    """The BCE terms are the logarithms of the sigmoid's answers."""
    real, fake = tensor(0.0), tensor(math.log(3))  # D = 1/2 and 3/4
    expected = (math.log(2) + math.log(4)) / 2
    assert losses.vanilla_discriminator(real, fake).item() == pytest.approx(expected)
    assert losses.vanilla_generator(fake).item() == pytest.approx(math.log(4 / 3))


def test_least_squares_adversarial_terms():
    """The LSGAN terms are squared distances to one and zero."""
    real, fake = tensor(3.0, 1.0), tensor(2.0, 0.0)
    assert losses.least_squares_discriminator(real, fake).item() == pytest.approx((2 + 2) / 2)
    assert losses.least_squares_generator(fake).item() == pytest.approx((1 + 1) / 2)


@pytest.mark.parametrize(
    "formula", [losses.mean_absolute_error, losses.cycle_consistency, losses.identity_mapping]
)
def test_absolute_errors(formula: Loss):
    """The L1 terms average absolute differences over all values."""
    assert formula(tensor(1.0, -2.0), tensor(0.0, 3.0)).item() == pytest.approx((1 + 5) / 2)


@pytest.mark.parametrize("formula", [losses.mean_squared_error, losses.feature_reconstruction])
def test_squared_errors(formula: Loss):
    """The L2 terms average squared differences over all values."""
    assert formula(tensor(1.0, -2.0), tensor(0.0, 3.0)).item() == pytest.approx((1 + 25) / 2)


def test_gram_matrix():
    """A Gram matrix holds the channels' inner products over C * H * W."""
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    expected = torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4
    torch.testing.assert_close(losses.gram_matrix(features), expected)


def test_style_reconstruction():
    """The style term averages over the entries and holds one target against the whole batch."""
    gram = torch.tensor([[[1.0, 2.0], [2.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]])
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = ((0 + 4 + 4 + 16) + (1 + 0 + 0 + 1)) / 8
    for shaped in (target, target[None]):
        assert losses.style_reconstruction(gram, shaped).item() == pytest.approx(expected)


def test_total_variation():
    """Total variation adds the mean squared steps down and across."""
    picture = torch.tensor([[0.0, 1.0], [3.0, 3.0]]).view(1, 1, 2, 2)
    assert losses.total_variation(picture).item() == pytest.approx((9 + 4) / 2 + (1 + 0) / 2)
