"""A generator in OpenVINO: traced and compiled, or taken from a cache of what was before."""

from __future__ import annotations

import io
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog
import torch
from torch import Tensor, nn

from app.compiled_cache import CompiledCache
from app.frozen import Drift, FrozenStatistics
from models.openvino_core import new_core, openvino

_KEPT_BYTES = 2**20  # of what a pass takes and gives; a smaller one needs few buffers

_TRACING = threading.Lock()  # the tracer's caches are the process's

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles the parts of one network in one precision; knows those in the cache already.

    Attributes:
        dtype: "bfloat16" or "float32".
        sha256: of the network's weights.
        cache: None keeps nothing.
    """

    dtype: str
    sha256: str
    cache: CompiledCache | None

    def known(self, part: str) -> Any | None:
        """Return `part` as it was kept, or None."""
        content = self.cache and self.cache.get(self.sha256, part, self.dtype)
        if not content:
            return None
        try:
            return new_core().import_model(io.BytesIO(content), "CPU", self._properties)
        except RuntimeError as error:
            log.warning("a compiled network does not open", error=repr(error))
            return None

    def compile(self, graph: Any) -> Any:
        """Return `graph` compiled."""
        return new_core().compile_model(graph, "CPU", self._properties)

    def keep(self, part: str, compiled: Any) -> None:
        """Put a compiled `part` into the cache, where there is one."""
        if self.cache:
            exported: io.BytesIO = compiled.export_model()
            self.cache.put(self.sha256, part, self.dtype, exported.getvalue())

    @property
    def _properties(self) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": "bf16" if self.dtype == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }


class _Buffers:
    """Lets only one network of the process keep its buffers, which OpenVINO else keeps for ever.

    They are hundreds of megabytes for a large picture, and new ones cost up to a tenth of a pass.
    """

    def __init__(self) -> None:
        self._alone = threading.Lock()
        self._full: Callable[[], Any] = lambda: None  # a weak reference to who keeps some

    def run(self, compiled: Any, arrays: list[Any]) -> Any:
        with self._alone:
            other = self._full()
            if other is not None and other is not compiled:
                other.release_memory()
            answer = compiled(arrays, share_inputs=True)[0]
            if max(answer.nbytes, *(x.nbytes for x in arrays)) > _KEPT_BYTES:
                self._full = weakref.ref(compiled)
            return answer


_BUFFERS = _Buffers()  # the process's, as its memory is


class OpenVINORunner:
    """One compiled model for all sizes and batches, two more for given statistics."""

    backend = "openvino"
    device = "cpu"

    def __init__(
        self, compiled: Any, compiler: Compiler, twin: FrozenStatistics, example: Tensor
    ) -> None:
        self.dtype = compiler.dtype
        self._compiled, self._compiler = compiled, compiler
        self._twin, self._example = twin, example

    @classmethod
    def known(
        cls, compiler: Compiler, twin: FrozenStatistics, example: Tensor
    ) -> OpenVINORunner | None:
        """Return the runner that was kept, if one was."""
        compiled = compiler.known("whole")
        return None if compiled is None else cls(compiled, compiler, twin, example)

    def keep(self) -> None:
        """Let `known` find this runner from now on."""
        self._compiler.keep("whole", self._compiled)

    @cached_property
    def _frozen(self) -> Any:
        return self._part("frozen", lambda: self._twin)

    @cached_property
    def _drift(self) -> Any:
        return self._part("drift", lambda: Drift(self._twin))

    def _part(self, part: str, module: Callable[[], nn.Module]) -> Any:
        compiled = self._compiler.known(part)
        if compiled is None:
            graph = convert(module(), (self._example, torch.ones(self._twin.size)))
            compiled = self._compiler.compile(graph)
            self._compiler.keep(part, compiled)
        return compiled

    def run(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        if statistics is None:
            return self._call(self._compiled, batch)
        return self._call(self._frozen, batch, statistics)

    def drift(self, tile: Tensor, statistics: Tensor) -> Tensor:
        return self._call(self._drift, tile, statistics)

    def _call(self, compiled: Any, *inputs: Tensor) -> Tensor:
        arrays = [x.contiguous().numpy() for x in inputs]
        return torch.from_numpy(_BUFFERS.run(compiled, arrays))


def convert(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
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
