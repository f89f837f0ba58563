"""Every loss, one function a formula. Serving never imports this module; all training does.

All take float tensors and return a scalar, averaged over the batch, unless a docstring says
otherwise. Logits are a discriminator's unbounded answers, of any shape.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- the name PyTorch's users know it by


def vanilla_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-(E[log D(y)] + E[log(1 - D(G(x)))]) / 2 (Goodfellow et al. 2014, equation 1).

    The half slows the discriminator down relative to the generator (Isola et al. 2017, 3.3).
    """
    real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return (real + fake) / 2


def vanilla_generator(fake_logits: Tensor) -> Tensor:
    """-E[log D(G(x))], the non-saturating form (Goodfellow et al. 2014, section 3)."""
    return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """(E[(D(y) - 1)^2] + E[D(G(x))^2]) / 2 (Mao et al. 2017, equation 9)."""
    return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2


def least_squares_generator(fake_logits: Tensor) -> Tensor:
    """E[(D(G(x)) - 1)^2] (Mao et al. 2017, equation 9, without the half, as in CycleGAN)."""
    return (fake_logits - 1).square().mean()


def mean_absolute_error(answer: Tensor, target: Tensor) -> Tensor:
    """E[|y - G(x)|], the L1 term of pix2pix (Isola et al. 2017, equation 3); equal shapes."""
    return F.l1_loss(answer, target)


def mean_squared_error(answer: Tensor, target: Tensor) -> Tensor:
    """E[(y - G(x))^2], the MSE of SRResNet (Ledig et al. 2017, equation 4); equal shapes."""
    return F.mse_loss(answer, target)


def cycle_consistency(picture: Tensor, returned: Tensor) -> Tensor:
    """E[|F(G(x)) - x|], one direction (Zhu et al. 2017, equation 2); equal shapes."""
    return F.l1_loss(returned, picture)


def identity_mapping(picture: Tensor, mapped: Tensor) -> Tensor:
    """E[|G(y) - y|] for y already in G's target domain (Zhu et al. 2017, section 5.2)."""
    return F.l1_loss(mapped, picture)


def feature_reconstruction(features: Tensor, target: Tensor) -> Tensor:
    """|phi(y) - phi(y_c)|^2 / (C H W) (Johnson et al. 2016, equation 2).

    (B, C, H, W) activations of a frozen network for the answer and for its target. SRGAN's VGG
    loss (Ledig et al. 2017, equation 5) is the same with another layer.
    """
    return F.mse_loss(features, target)


def gram_matrix(features: Tensor) -> Tensor:
    """Psi psi^T / (C H W), (B, C, H, W) -> (B, C, C) (Johnson et al. 2016, equation 3)."""
    batch, channels, height, width = features.shape
    psi = features.reshape(batch, channels, height * width)
    return psi @ psi.transpose(1, 2) / (channels * height * width)


def style_reconstruction(gram: Tensor, target: Tensor) -> Tensor:
    """|G - G_s|_F^2 / C^2 (Johnson et al. 2016, equation 4, averaged over the entries).

    (B, C, C) Gram matrices of the answer; (C, C) or (1, C, C) of the style image. The paper sums
    the entries; its code and PyTorch's example average them, and so do the weights people use.
    """
    return F.mse_loss(gram, target.expand_as(gram))


def total_variation(picture: Tensor) -> Tensor:
    """Mean of squared differences of neighbours, down and across (Johnson et al. 2016, 3.2).

    (B, C, H, W) with H and W at least 2.
    """
    down = (picture[..., 1:, :] - picture[..., :-1, :]).square().mean()
    across = (picture[..., 1:] - picture[..., :-1]).square().mean()
    return down + across


def likeness(embedding: Tensor, other: Tensor, margin: float = 0.0) -> Tensor:
    """E[max(0, cos(f, g) - margin)], the cosine embedding term that Gu et al. 2020 use on faces.

    (B, D) embeddings of unit length, row by row; a margin of -1 gives the mean cosine plus one.
    """
    return ((embedding * other).sum(1) - margin).clamp_min(0).mean()


def face_classification(confidence: Tensor) -> Tensor:
    """-E[log p], the cross-entropy of a detector for faces (Zhang et al. 2016, equation 1).

    (B,) probabilities that each picture is a face; one below 1e-7 counts as that.
    """
    return -confidence.clamp_min(1e-7).log().mean()
