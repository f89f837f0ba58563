"""Where a generator runs: OpenVINO on the CPU, torch on CUDA and as the fallback everywhere."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

import structlog
import torch
from torch import Tensor, nn

from app.frozen import Drift, FrozenStatistics
from models.checkpoint import LoadedGenerator
from models.errors import InvalidCheckpoint
from models.openvino_core import new_core, openvino
from models.precision import native_bfloat16

MIN_BFLOAT16_PSNR_DB = 40.0
"""A model that falls below this against its float32 answer runs in float32."""

_MIN_FLOAT32_PSNR_DB = 70.0  # far above what a wrong conversion reaches, far below rounding
_PROBE_PX = 128
_KEPT_BYTES = 64 * 2**20  # of the answers; a larger one's buffers are handed back at once

_TRACING = threading.Lock()  # the tracer's caches are the process's

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


def build_engine(loaded: LoadedGenerator, device: torch.device) -> Engine:
    """Return the fastest engine for `device` whose answer on a probe is near enough to float32's.

    The CPU uses torch's number of threads. Candidates, fastest first, are OpenVINO in bfloat16
    where the CPU has it and in float32, then torch likewise; bfloat16 must reach
    MIN_BFLOAT16_PSNR_DB.
    """
    twin = FrozenStatistics(loaded.module)
    exact = TorchRunner(loaded.module, twin, device, torch.float32)
    picture = probe_picture(loaded, _PROBE_PX)
    reference = exact.run(picture)
    for runner in _fast_runners(loaded, twin, device):
        psnr_db = _psnr_db(runner.run(picture), reference)
        wanted_db = MIN_BFLOAT16_PSNR_DB if runner.dtype == "bfloat16" else _MIN_FLOAT32_PSNR_DB
        if psnr_db >= wanted_db:
            return CheckedEngine(runner, exact, twin)
        log.info("engine refused", backend=runner.backend, dtype=runner.dtype, psnr_db=psnr_db)
    return CheckedEngine(exact, exact, twin)


def interpolate(
    regression: LoadedGenerator, adversarial: LoadedGenerator, detail: float
) -> LoadedGenerator:
    """Return the network with weights (1 - detail) * regression + detail * adversarial.

    Deep network interpolation (Wang et al. 2019, equation 2). Raises InvalidCheckpoint where the
    two are not of one family and configuration.
    """
    if (regression.family.id, regression.config) != (adversarial.family.id, adversarial.config):
        raise InvalidCheckpoint("two networks of different configurations cannot be interpolated")
    first, second = regression.module.state_dict(), adversarial.module.state_dict()
    mixed = {
        key: torch.lerp(first[key], value, detail) if value.is_floating_point() else value
        for key, value in second.items()
    }
    module = adversarial.family.build_generator(adversarial.config)
    module.load_state_dict(mixed)
    return replace(adversarial, module=module.eval().requires_grad_(False))


class CheckedEngine:
    """Runs the fast way, and again in float32 what comes out broken; one call at a time."""

    def __init__(self, fast: Runner, exact: Runner, twin: FrozenStatistics) -> None:
        self.device, self.dtype, self.backend = fast.device, fast.dtype, fast.backend
        self._fast, self._exact, self._twin = fast, exact, twin
        self._lock = threading.Lock()

    def __call__(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        with self._lock:
            answer = self._fast.run(batch, statistics)
            broken = _broken(answer, batch)
            if broken.any():
                log.warning("answer computed again in float32", dtype=self.dtype)
                again = self._exact.run(batch[broken], statistics)
                if not again.isfinite().all():
                    raise FloatingPointError("the network's answer is not finite")
                answer[broken] = again
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
    """Eager torch: channels_last where no InstanceNorm forbids it, autocast for bfloat16."""

    backend = "torch"

    def __init__(
        self, module: nn.Module, twin: FrozenStatistics, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device, self.dtype = str(device), str(dtype).removeprefix("torch.")
        self._device, self._low = device, dtype == torch.bfloat16
        # InstanceNorm is 3 to 4 times slower in channels_last on the CPU, other layers faster.
        channels_last = device.type == "cuda" or not twin.norms
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._module, self._twin = module.to(device), twin.to(device)

    def run(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        if statistics is None:
            return self._call(self._module, batch)
        return self._call(self._twin, batch, statistics)

    def drift(self, tile: Tensor, statistics: Tensor) -> Tensor:
        return self._call(self._twin.drift, tile, statistics)

    def _call(self, forward: Callable[..., Tensor], batch: Tensor, *rest: Tensor) -> Tensor:
        batch = batch.to(self._device, memory_format=self._layout)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._low),
        ):
            answer = forward(batch, *(x.to(self._device) for x in rest))
        return answer.to("cpu", torch.float32, memory_format=torch.contiguous_format)


class OpenVINORunner:
    """One compiled model for all sizes and batches, two more for given statistics."""

    backend = "openvino"
    device = "cpu"

    def __init__(
        self, graph: Any, twin: FrozenStatistics, example: Tensor, dtype: torch.dtype
    ) -> None:
        self.dtype = str(dtype).removeprefix("torch.")
        self._twin, self._example = twin, example
        self._compiled = self._compile(graph)

    def _compile(self, graph: Any) -> Any:
        return new_core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if self.dtype == "bfloat16" else "f32",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
            },
        )

    @cached_property
    def _frozen(self) -> Any:
        return self._compile(_convert(self._twin, (self._example, torch.ones(self._twin.size))))

    @cached_property
    def _drift(self) -> Any:
        example = (self._example, torch.ones(self._twin.size))
        return self._compile(_convert(Drift(self._twin), example))

    def run(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        if statistics is None:
            return self._call(self._compiled, batch)
        return self._call(self._frozen, batch, statistics)

    def drift(self, tile: Tensor, statistics: Tensor) -> Tensor:
        return self._call(self._drift, tile, statistics)

    def _call(self, compiled: Any, *inputs: Tensor) -> Tensor:
        arrays = [x.contiguous().numpy() for x in inputs]
        answer = torch.from_numpy(compiled(arrays, share_inputs=True)[0])
        if answer.nbytes > _KEPT_BYTES:
            compiled.release_memory()
        return answer


def _fast_runners(
    loaded: LoadedGenerator, twin: FrozenStatistics, device: torch.device
) -> Iterator[Runner]:
    """Yield the ways worth trying before float32 torch, each built when its turn comes."""
    if device.type == "cpu" and openvino is not None:
        yield from _openvino_runners(loaded.module, twin, probe_picture(loaded, 1))
    if native_bfloat16(device):
        yield TorchRunner(loaded.module, twin, device, torch.bfloat16)


def _openvino_runners(
    module: nn.Module, twin: FrozenStatistics, example: Tensor
) -> Iterator[Runner]:
    try:
        graph = _convert(module, (example,))
        if "BF16" in new_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            yield OpenVINORunner(graph, twin, example, torch.bfloat16)
        yield OpenVINORunner(graph, twin, example, torch.float32)
    except Exception as error:  # noqa: BLE001 -- whatever it stumbles over, torch still runs
        log.warning("OpenVINO does not take the network", error=repr(error))


def _convert(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """Trace a network into an OpenVINO graph with free height, width and batch size."""
    shapes = [[-1, x.shape[1], -1, -1] if x.ndim == 4 else list(x.shape) for x in example]
    with _TRACING, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's own, about constants and its age
        # The probe checks the outcome, so the tracer need not run the network twice more.
        traced = torch.jit.trace(_Opaque(module), example, check_trace=False)  # type: ignore[no-untyped-call]
        try:
            return openvino.convert_model(traced, input=shapes)
        finally:
            _forget_traces()


class _Opaque(nn.Module):
    """A network whose parts the tracer does not see: compiling each takes most of its time."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._hidden = (module,)
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        return self._hidden[0](*inputs)


def _forget_traces() -> None:
    """Let go of what the tracer keeps of every network it ever saw, its weights among it.

    What torch's own tests do between two traces (clear_class_registry of its jit_utils).
    """
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()  # noqa: SLF001
    torch.jit._state._clear_class_state()  # noqa: SLF001
    torch._C._jit_clear_class_registry()  # noqa: SLF001


def probe_picture(loaded: LoadedGenerator, side_px: int) -> Tensor:
    """Return (1, C, h, w) in [-1, 1] with the 1/f spectrum of photographs, and edges."""
    channels = int(getattr(loaded.config, "channels_in", 3))
    height, width = loaded.family.size_rule(loaded.config).padded(side_px, side_px)
    generator = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, channels, height, width)
    for octave in range(7):
        noise = torch.rand(1, channels, 2**octave, 2**octave, generator=generator) * 2 - 1
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
