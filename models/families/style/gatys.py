"""Style transfer by direct optimisation of one picture (Gatys et al. 2016).

Slow, and the yardstick that a style generator is measured against.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from models.families.style.objective import PerceptualTerms

Start = Literal["photo", "noise"]

_MAX_EVALUATIONS = 25  # of one step's line search; the optimizer's own default leaves it none


def objective(answer: Tensor, target: Tensor, terms: PerceptualTerms) -> Tensor:
    """Content, style and total variation with their weights (Johnson et al. 2016, equation 5).

    (B, 3, H, W) in [-1, 1] and `terms.target` of the photos -> scalar.
    """
    named = terms(answer, target)
    return torch.stack([terms.weights[name] * value for name, value in named.items()]).sum()


def optimise(
    content: Tensor, terms: PerceptualTerms, steps: int, start: Start = "photo", seed: int = 0
) -> tuple[Tensor, list[float]]:
    """Paint `content` by minimising the objective over the picture's pixels with L-BFGS.

    Gatys et al. 2016, equation 7, with the terms the generators are trained by. A step is one
    iteration with its line search (about two evaluations), after which the picture is put back
    into its range. Without the line search some photos diverge at the first step.

    Args:
        content: the photo, (1, 3, H, W) in [-1, 1], sides at least 16, on the device of `terms`.
        terms: what to minimise; holds the style.
        steps: L-BFGS steps.
        start: from the photo, or from uniform noise.
        seed: of the noise.

    Returns:
        The picture, (1, 3, H, W) in [-1, 1], and `steps` + 1 objectives: the n-th is the one
        after n steps.
    """
    if start == "noise":
        noise = torch.rand(content.shape, generator=torch.Generator().manual_seed(seed))
        picture = (2 * noise - 1).to(content)
    else:
        picture = content.detach().clone()
    picture.requires_grad_()
    target = terms.target(content)
    optimizer = torch.optim.LBFGS(
        [picture],
        max_iter=1,
        max_eval=_MAX_EVALUATIONS,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        # L-BFGS disregards curvature below an absolute threshold, which the gradient of a mean
        # over the pixels might not reach.
        total = objective(picture, target, terms) * picture.numel()
        total.backward()  # type: ignore[no-untyped-call]
        return total.detach()

    history = []
    for _ in range(steps):
        before = optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        history.append(float(before) / picture.numel())
        with torch.no_grad():
            picture.clamp_(-1, 1)
    answer = picture.detach()
    with torch.no_grad():
        history.append(float(objective(answer, target, terms)))
    return answer, history
