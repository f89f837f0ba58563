"""Where a generator runs: OpenVINO on the CPU, torch on CUDA and as the fallback everywhere."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import structlog
import torch
from torch import Tensor, nn

from app.compiled_cache import CompiledCache
from app.errors import InvalidParameter
from app.frozen import FrozenStatistics
from app.openvino_runner import Compiler, OpenVINORunner, convert
from models.checkpoint import LoadedGenerator
from models.family import channels
from models.openvino_core import new_core, openvino
from models.precision import native_bfloat16

MIN_BFLOAT16_PSNR_DB = 40.0
"""A model that falls below this against its float32 answer runs in float32."""

_FAULTS = 3  # in a row
_MIN_FLOAT32_PSNR_DB = 70.0  # far above what a wrong conversion reaches, far below rounding
_PROBE_PX = 128
_RELATED = 0.5  # cosine of kernels: 0.9996 of srresnet-x4 and srgan-x4, 0 of networks trained apart

log = structlog.get_logger()


class Engine(Protocol):
    """A generator on its device.

    Attributes:
        device: "cpu" or "cuda:0".
        dtype: what it computes in, "bfloat16" or "float32".
        backend: "openvino" or "torch".
    """

    device: str
    dtype: str
    backend: str

    def __call__(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Map float32 (B, C, H, W) in [-1, 1] to float32 (B, C', sH, sW), both on the CPU.

        `statistics`, if given, replaces the pictures' own in every InstanceNorm. An answer that is
        not finite, or constant where the picture is not, is computed again in float32; raises
        FloatingPointError if it is not finite even then.
        """
        ...

    def statistics(self, patches: Tensor, drift: Tensor | None = None) -> Tensor:
        """Return what makes every InstanceNorm treat samples (N, C, h, w) as one picture.

        `drift`, of statistics measured before on the same samples, corrects them.
        """
        ...

    def drift(self, tile: Tensor, statistics: Tensor) -> Tensor:
        """Return how far `statistics` are from those of (1, C, h, w); see `FrozenStatistics`."""
        ...


class Runner(Protocol):
    """One way to compute a generator's answer."""

    device: str
    dtype: str
    backend: str

    def run(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Map a batch to its answer, unchecked."""
        ...

    def drift(self, tile: Tensor, statistics: Tensor) -> Tensor:
        """Return how far `statistics` are from the tile's, unchecked."""
        ...

    def keep(self) -> None:
        """Remember, where that saves work, that its answers are near enough to float32's."""
        ...


def build_engine(
    loaded: LoadedGenerator, device: torch.device, cache: CompiledCache | None = None
) -> Engine:
    """Return the fastest engine for `device` whose answer on a probe is near enough to float32's.

    The CPU uses torch's number of threads. Candidates, fastest first, are OpenVINO in bfloat16
    where the CPU has it and in float32, then torch likewise; bfloat16 must reach
    MIN_BFLOAT16_PSNR_DB, and is not for a family's `exact` networks. What OpenVINO made is kept in
    `cache` and taken from there the next time, bit for bit, without a probe; `loaded.sha256` must
    then tell its weights from all others.
    """
    exact = TorchRunner(loaded.module, device, torch.float32)
    twin = exact.twin
    if known := _known_runner(loaded, twin, device, cache):
        return CheckedEngine(known, exact, twin)
    picture = probe_picture(loaded, _PROBE_PX)
    reference = exact.run(picture)
    for runner in _fast_runners(loaded, twin, device, cache):
        psnr_db = _psnr_db(runner.run(picture), reference)
        wanted_db = MIN_BFLOAT16_PSNR_DB if runner.dtype == "bfloat16" else _MIN_FLOAT32_PSNR_DB
        if psnr_db >= wanted_db:
            runner.keep()
            return CheckedEngine(runner, exact, twin)
        log.info(
            "engine refused",
            model=loaded.header.name,
            backend=runner.backend,
            dtype=runner.dtype,
            psnr_db=psnr_db,
        )
    return CheckedEngine(exact, exact, twin)


def interpolate(
    regression: LoadedGenerator, adversarial: LoadedGenerator, detail: float
) -> LoadedGenerator:
    """Return the network with weights (1 - detail) * regression + detail * adversarial.

    Deep network interpolation (Wang et al. 2019, equation 2), which asks for two of which one was
    trained from the other. Raises InvalidParameter where the two are not of one family and
    configuration, or have nothing in common.
    """
    if (regression.family.id, regression.config) != (adversarial.family.id, adversarial.config):
        raise InvalidParameter("detail: networks of two configurations cannot be interpolated")
    first, second = regression.module.state_dict(), adversarial.module.state_dict()
    if _likeness(first, second) < _RELATED:
        raise InvalidParameter(
            f"detail: {regression.header.name} and {adversarial.header.name} were trained apart, "
            "so nothing lies between them"
        )
    mixed = {
        key: torch.lerp(first[key], value, detail) if value.is_floating_point() else value
        for key, value in second.items()
    }
    module = adversarial.family.build_generator(adversarial.config)
    module.load_state_dict(mixed)
    return replace(adversarial, module=module.eval().requires_grad_(False))


def _likeness(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return the cosine of two networks' kernels."""
    a, b = (
        torch.cat([weight.flatten() for weight in state.values() if weight.ndim > 1])
        for state in (first, second)
    )
    return float(torch.cosine_similarity(a, b, dim=0))


class CheckedEngine:
    """Runs the fast way, and again in float32 what comes out broken; one call at a time.

    After three runs in a row that only float32 got right it runs in float32 alone.
    """

    def __init__(self, fast: Runner, exact: Runner, twin: FrozenStatistics) -> None:
        self.device, self.dtype, self.backend = fast.device, fast.dtype, fast.backend
        self._fast, self._exact, self._twin = fast, exact, twin
        self._lock = threading.Lock()
        self._faults = 0

    def __call__(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        with self._lock, torch.inference_mode():  # outside it, torch's answer cannot be mended
            answer = self._fast.run(batch, statistics)
            broken = _broken(answer, batch)
            at_fault = False
            if broken.any():
                log.warning("answer computed again in float32", dtype=self.dtype)
                again = self._exact.run(batch[broken], statistics)
                if not again.isfinite().all():
                    raise FloatingPointError("the network's answer is not finite")
                answer[broken] = again
                at_fault = not _broken(again, batch[broken]).all()  # else the answer is flat
            self._faults = self._faults + 1 if at_fault else 0
            if self._faults == _FAULTS:
                log.warning("float32 from now on", dtype=self.dtype)
                self._fast, self.dtype = self._exact, self._exact.dtype
                self.backend = self._exact.backend
            return answer

    def statistics(self, patches: Tensor, drift: Tensor | None = None) -> Tensor:
        with self._lock, torch.inference_mode():
            device = torch.device(self.device)
            drift = None if drift is None else drift.to(device)
            return self._twin.measure(patches.to(device), drift).float().cpu()

    def drift(self, tile: Tensor, statistics: Tensor) -> Tensor:
        with self._lock:
            drift = self._fast.drift(tile, statistics)
            return drift if drift.isfinite().all() else self._exact.drift(tile, statistics)


class TorchRunner:
    """Eager torch: channels_last where no InstanceNorm forbids it, autocast for bfloat16.

    Attributes:
        twin: of the module that runs, with statistics from outside.
    """

    backend = "torch"

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = str(device), str(dtype).removeprefix("torch.")
        self._device, self._low = device, dtype == torch.bfloat16
        self._module = (_with_bfloat16_weights(module) if self._low else module).to(device)
        self.twin = FrozenStatistics(self._module)
        # InstanceNorm is 3 to 4 times slower in channels_last on the CPU, other layers faster.
        channels_last = device.type == "cuda" or not self.twin.norms
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def run(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        if statistics is None:
            return self._call(self._module, batch)
        return self._call(self.twin, batch, statistics)

    def drift(self, tile: Tensor, statistics: Tensor) -> Tensor:
        return self._call(self.twin.drift, tile, statistics)

    def keep(self) -> None:
        """Nothing is compiled, so nothing is kept."""

    def _call(self, forward: Callable[..., Tensor], batch: Tensor, *rest: Tensor) -> Tensor:
        batch = batch.to(self._device, memory_format=self._layout)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._low),
        ):
            answer = forward(batch, *(x.to(self._device) for x in rest))
        return answer.to("cpu", torch.float32, memory_format=torch.contiguous_format)


def _with_bfloat16_weights(module: nn.Module) -> nn.Module:
    """Return a copy whose weights autocast need not cast, which it would in every call."""
    low = copy.deepcopy(module)
    for layer in low.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.to(torch.bfloat16)
    return low


def _known_runner(
    loaded: LoadedGenerator,
    twin: FrozenStatistics,
    device: torch.device,
    cache: CompiledCache | None,
) -> Runner | None:
    if device.type != "cpu" or openvino is None or cache is None:
        return None
    example = probe_picture(loaded, 1)
    compilers = (Compiler(dtype, loaded.sha256, cache) for dtype in _dtypes(loaded))
    runners = (OpenVINORunner.known(compiler, twin, example) for compiler in compilers)
    return next((runner for runner in runners if runner), None)


def _fast_runners(
    loaded: LoadedGenerator,
    twin: FrozenStatistics,
    device: torch.device,
    cache: CompiledCache | None,
) -> Iterator[Runner]:
    """Yield the ways worth trying before float32 torch, each built when its turn comes."""
    if device.type == "cpu" and openvino is not None:
        yield from _openvino_runners(loaded, twin, cache)
    if native_bfloat16(device) and "bfloat16" in _dtypes(loaded):
        yield TorchRunner(loaded.module, device, torch.bfloat16)


def _openvino_runners(
    loaded: LoadedGenerator, twin: FrozenStatistics, cache: CompiledCache | None
) -> Iterator[Runner]:
    example = probe_picture(loaded, 1)
    try:
        graph = convert(loaded.module, (example,))
        low = "BF16" in new_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        for dtype in _dtypes(loaded) if low else ("float32",):
            compiler = Compiler(dtype, loaded.sha256, cache)
            yield OpenVINORunner(compiler.compile(graph), compiler, twin, example)
    except Exception as error:  # noqa: BLE001 -- whatever it stumbles over, torch still runs
        log.warning("OpenVINO does not take the network", error=repr(error))


def _dtypes(loaded: LoadedGenerator) -> tuple[str, ...]:
    return ("float32",) if loaded.family.exact(loaded.config) else ("bfloat16", "float32")


def probe_picture(loaded: LoadedGenerator, side_px: int) -> Tensor:
    """Return (1, C, h, w) in [-1, 1] with the 1/f spectrum of photographs, and edges."""
    taken, _ = channels(loaded.config)
    height, width = loaded.family.size_rule(loaded.config).padded(side_px, side_px)
    generator = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, taken, height, width)
    for octave in range(7):
        noise = torch.rand(1, taken, 2**octave, 2**octave, generator=generator) * 2 - 1
        noise = nn.functional.interpolate(noise, (height, width), mode="bicubic")
        picture += noise / 2 ** (octave / 2)
    picture[..., height // 3 : height // 2, width // 4 : width // 2] = 0.8
    return picture.clamp(-1, 1)


def _psnr_db(answer: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio of [-1, 1] pictures in dB; -inf for what is not finite."""
    error = nn.functional.mse_loss(answer.clamp(-1, 1), reference.clamp(-1, 1)).item()
    if not math.isfinite(error):
        return -math.inf
    return 10 * math.log10(4 / max(error, 1e-20))


def _broken(answer: Tensor, batch: Tensor) -> Tensor:
    """Tell for each picture whether its answer is not finite, or constant for no reason: (B,)."""
    low, high = answer.flatten(1).aminmax(dim=1)
    finite = low.isfinite() & high.isfinite()
    picture_low, picture_high = batch.flatten(1).aminmax(dim=1)
    return ~finite | ((low == high) & (picture_low < picture_high))
