"""Layers that several families share."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- the name PyTorch's users know it by

Norm = Literal["batch", "instance", "instance_affine", "none"]
Upsampling = Literal["transposed", "nearest"]
ValueRange = Literal["signed", "unit", "byte"]
"""What a network computes in: [-1, 1], [0, 1] or [0, 255]; its `forward` is [-1, 1] in any case."""


def norm_layer(kind: Norm, channels: int, clip: float | None = None) -> nn.Module:
    """Return the normalisation `kind` for (B, channels, H, W).

    "batch" uses running statistics in evaluation mode; both instance norms use each picture's own
    (Ulyanov et al. 2016), so an answer never depends on the rest of the batch.

    `clip` holds what comes out within plus and minus itself, in standard deviations. Otherwise a
    GAN learns to set the contrast of a whole picture by one spot of 30 standard deviations, which
    comes out as a black disc (Karras et al. 2020, section 2).
    """
    if clip is not None:
        return nn.Sequential(norm_layer(kind, channels), nn.Hardtanh(-clip, clip))
    match kind:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "instance":
            return nn.InstanceNorm2d(channels)
        case "instance_affine":
            return nn.InstanceNorm2d(channels, affine=True)
        case "none":
            return nn.Identity()


def has_bias(norm: Norm) -> bool:
    """Whether a convolution in front of `norm` carries a bias: not where BatchNorm adds its own."""
    return norm != "batch"


def conv(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, *, bias: bool = True
) -> nn.Sequential:
    """A convolution with reflection padding, which keeps borders free of a dark frame."""
    return nn.Sequential(
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(channels_in, channels_out, kernel, stride, bias=bias),
    )


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), without ReLU after the sum (Johnson et al. 2016).

    (B, C, H, W) -> (B, C, H, W); `dropout` is applied between the two halves, in training only.
    """

    def __init__(
        self, channels: int, norm: Norm, dropout: float = 0.0, clip: float | None = None
    ) -> None:
        super().__init__()
        bias = has_bias(norm)
        self.body = nn.Sequential(
            conv(channels, channels, 3, bias=bias),
            norm_layer(norm, channels, clip),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            conv(channels, channels, 3, bias=bias),
            norm_layer(norm, channels, clip),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


def upsample(
    kind: Upsampling, channels_in: int, channels_out: int, *, kernel: int = 3, bias: bool = True
) -> nn.Module:
    """Double the resolution: (B, Cin, H, W) -> (B, Cout, 2H, 2W).

    "transposed" is the references' layer, its `kernel` 3 in CycleGAN, 4 in pix2pix; it leaves a
    checkerboard: for good where the stride does not divide the kernel, else until it has been
    trained for long. "nearest" resizes and then convolves by 3 x 3 (Odena et al. 2016), which does
    not.
    """
    if kind == "transposed":
        return nn.ConvTranspose2d(
            channels_in,
            channels_out,
            kernel,
            stride=2,
            padding=1,
            output_padding=kernel % 2,
            bias=bias,
        )
    return NearestConv(channels_in, channels_out, bias=bias)


class NearestConv(nn.Sequential):
    """Nearest-neighbour enlargement, then `conv` of 3 x 3: (B, Cin, H, W) -> (B, Cout, 2H, 2W).

    Training computes it as one transposed convolution, in which the weights that fall on the same
    pixel are summed in advance: the same answer for 4 products a value instead of 9, and without an
    enlarged copy, in 0.2 to 0.5 times the time on a CPU. Serving does not: OpenVINO's transposed
    convolutions of few channels take twice as long in bf16 as its plain ones.
    """

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            conv(channels_in, channels_out, 3, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            answer: Tensor = self[1](self[0](x))
            return answer
        convolution = cast(nn.Conv2d, self.get_submodule("1.1"))
        padded = F.pad(convolution.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        rows = padded[..., 1:, :] + padded[..., :-1, :]
        kernel = rows[..., 1:] + rows[..., :-1]
        # Mirrored at its border, an enlarged picture repeats the outermost pixel. Not by F.pad,
        # whose gradient torch 2.15 cannot compile.
        taller = torch.cat((x[..., :1, :], x, x[..., -1:, :]), dim=2)
        bordered = torch.cat((taller[..., :1], taller, taller[..., -1:]), dim=3)
        return F.conv_transpose2d(bordered, kernel, convolution.bias, stride=2, padding=3)


def to_range(x: Tensor, value_range: ValueRange) -> Tensor:
    """Map [-1, 1] onto the range a network computes in."""
    match value_range:
        case "signed":
            return x
        case "unit":
            return (x + 1) * 0.5
        case "byte":
            return (x + 1) * 127.5


def from_range(x: Tensor, value_range: ValueRange) -> Tensor:
    """Inverse of `to_range`."""
    match value_range:
        case "signed":
            return x
        case "unit":
            return x * 2 - 1
        case "byte":
            return x / 127.5 - 1


def per_image_batch_norm(module: nn.Module) -> None:
    """Replace every BatchNorm2d in `module` by the equivalent that uses each picture's statistics.

    pix2pix is run with BatchNorm on the statistics of a batch of one (Isola et al. 2017, section
    3.3), which is InstanceNorm with BatchNorm's scale and shift.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            instance = nn.InstanceNorm2d(child.num_features, eps=child.eps, affine=True)
            instance.weight, instance.bias = child.weight, child.bias
            setattr(module, name, instance)
        else:
            per_image_batch_norm(child)


def initialise_gan(module: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02), BatchNorm scales from N(1, 0.02); zero the biases.

    The initialisation of DCGAN (Radford et al. 2016), which pix2pix and CycleGAN keep.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, 0.02)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def initialise_unnormalised(module: nn.Module) -> None:
    """Draw the convolutions' weights at a tenth of He's scale, their biases 0.

    It keeps many residual blocks without normalisation stable (ESRGAN, Wang et al. 2018, 3.1).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data.mul_(0.1)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class PatchGAN(nn.Module):
    """Discriminator that judges overlapping patches (Isola et al. 2017, sections 3.2.2 and 6.1.2).

    (B, C, H, W) -> (B, 1, h, w) logits. `layers` strided convolutions give a receptive field of
    16 (1), 34 (2), 70 (3), 142 (4) or 286 (5) pixels; 0 is the 1 x 1 PixelGAN, with h = H, w = W.
    """

    @staticmethod
    def smallest_px(layers: int) -> int:
        """Return the smallest side whose last normalisation has a variance, of 2 x 2 values."""
        return 3 * 2**layers if layers else 2

    def __init__(
        self,
        channels_in: int,
        base_channels: int = 64,
        layers: int = 3,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        bias = has_bias(norm)
        if layers == 0:
            self.body = nn.Sequential(
                nn.Conv2d(channels_in, base_channels, 1),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(base_channels, base_channels * 2, 1, bias=bias),
                norm_layer(norm, base_channels * 2),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(base_channels * 2, 1, 1, bias=bias),
            )
            return
        steps: list[nn.Module] = [
            nn.Conv2d(channels_in, base_channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width = base_channels
        for index in range(1, layers + 1):
            widened = base_channels * min(2**index, 8)
            stride = 2 if index < layers else 1
            steps += [
                nn.Conv2d(width, widened, 4, stride=stride, padding=1, bias=bias),
                norm_layer(norm, widened),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            width = widened
        self.body = nn.Sequential(*steps, nn.Conv2d(width, 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits


def parameter_count(module: nn.Module) -> int:
    """Number of weights, also of those that are frozen."""
    return sum(p.numel() for p in module.parameters())


def bilinear(x: Tensor, scale: int) -> Tensor:
    """Enlarge (B, C, H, W) `scale` times, half-pixel centres."""
    return F.interpolate(x, scale_factor=float(scale), mode="bilinear", align_corners=False)


def local_mean(x: Tensor, side_px: int) -> Tensor:
    """Take means over squares of odd `side_px` around each value of (B, C, H, W).

    At a border, over the pixels inside the picture. Down, then across: the cost grows with the
    side, not with the area.
    """
    half = side_px // 2
    x = F.avg_pool2d(x, (side_px, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, side_px), 1, (0, half), count_include_pad=False)


def as_displayed(picture: Tensor) -> Tensor:
    """Clamp to [-1, 1] in such a way that gradient descent brings values from outside back.

    The projected gradient: outside, it is that at the bound where its descent points inwards, and
    zero where it points further out.
    """
    raw = picture.detach()
    shown = picture + (raw.clamp(-1, 1) - raw)
    if shown.requires_grad:
        shown.register_hook(  # type: ignore[no-untyped-call]
            lambda grad: grad.where((raw.abs() <= 1) | (grad * raw > 0), 0)
        )
    return shown
