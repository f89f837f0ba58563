"""The request flow, top to bottom: upload -> pixels -> generator -> pixels -> answer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from app.admission import Share
from app.batcher import Done
from app.errors import ClientLeft, DeadlineExceeded
from app.memory import generating_bytes
from app.metrics import Laps
from app.opening import Served
from app.pace import QueuedPicture
from app.tiling import run_tiled, tile_count, work_pixels
from models import images
from models.errors import ImageTooLarge
from models.family import without_margins
from models.images import Format, Picture, Pixels

if TYPE_CHECKING:
    from app.service import Service


@dataclass(frozen=True, slots=True)
class Plan:
    """What one request wants done with its picture.

    Attributes:
        model: the generator to run.
        scale: side of the answer over side of the input; at most the model's own.
        finish: (the network's answer, the input) -> the endpoint's answer, which is then brought
            to its size; None changes nothing.
        format: of the answer; None leaves it to the caller of `run`.
        quality: of the encoding, 1..100; None for the format's default.
        box: the answer is reduced to fit into it, (height, width).
    """

    model: Served
    scale: int
    finish: Callable[[Pixels, Pixels], Pixels] | None
    format: Format | None
    quality: int | None
    box: tuple[int, int] | None = None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the answer to an upright picture."""
        return images.fitted(height * self.scale, width * self.scale, self.box)


@dataclass(frozen=True, slots=True)
class Result:
    """An encoded answer, the sizes (height, width), and how it came about."""

    data: bytes
    format: Format
    size: tuple[int, int]
    input_size: tuple[int, int]
    model: Served
    compute: str
    seconds: dict[str, float]


def keep_format(input_format: Format) -> Format:
    """Choose the input's format for the answer."""
    return input_format


async def run(
    service: Service,
    data: bytes,
    plan: Plan,
    choose_format: Callable[[Format], Format] = keep_format,
    share: Share | None = None,
) -> Result:
    """Answer one upload; the event loop only waits, other threads touch the pixels.

    All that can fail because of this upload fails before it is queued; what is too large, or
    would take too long, by its header. Raises the ImageErrors of `images.decode`, ImageTooLarge
    for an answer beyond a limit, MemoryFull, RateLimited, and what `LargeQueue.join` and
    `Batcher.submit` raise.
    """
    with contextlib.ExitStack() as held:
        return await _run(service, data, plan, choose_format, share, held)


async def _run(
    service: Service,
    data: bytes,
    plan: Plan,
    choose_format: Callable[[Format], Format],
    share: Share | None,
    held: contextlib.ExitStack,
) -> Result:
    deadline = time.monotonic() + service.settings.deadline_s
    laps = Laps()
    model = plan.model

    with service.batcher.announced():
        limits = service.image_limits
        header = await service.in_codecs(lambda: images.read_header(data, limits))
        height, width = header.height, header.width
        answer_format = plan.format or choose_format(header.format)
        _check_answer(service, plan, height, width, answer_format)
        if share:
            ways = ((height, width), (width, height))  # what is upright is not known yet
            least = min(_memory_bytes(plan, *way, answer_format) for way in ways)
            share.resize(len(data) + least)
        seen_size = model.view.size(height, width)
        answered = math.prod(seen_size) * model.scale**2
        whole = model.view.small or answered <= service.settings.whole_pixels
        tile_px = service.tile_px(model.scale)
        foreseen_s = model.pace.seconds(math.prod(model.rule.padded(*seen_size)))
        queued = None
        if not whole:
            pixels = work_pixels(*seen_size, tile_px, model.rule)
            queued = held.enter_context(service.large_queue.join(model.pace, pixels))
            foreseen_s = queued.needs_s
        picture = await service.in_codecs(lambda: images.decode(data, limits))
        height, width = picture.rgb.shape[:2]  # upright
        size = plan.size(height, width)
        images.check_fits(*size, answer_format)
        if share:
            transparent = picture.alpha is not None
            needed = _memory_bytes(plan, height, width, answer_format, transparent=transparent)
            share.resize(len(data) + needed)
        seen, tensor = await service.in_codecs(lambda: _look(picture.rgb, model, padded=whole))
    laps.end("decode")

    done = await _compute(service, model, tensor, deadline, foreseen_s, queued)
    tiles = 1 if whole else tile_count(*model.view.size(height, width), tile_px, model.rule)
    laps.note(queue=done.queued_s, forward=done.ran_s)
    del tensor  # four bytes a channel of a large picture

    encoded = await service.in_codecs(
        lambda: _encode(done.value, seen, picture, plan, size, answer_format)
    )
    laps.end("encode")
    service.metrics.observe(model.version.name, laps.seconds, done.batch_size)
    return Result(
        data=encoded,
        format=answer_format,
        size=size,
        input_size=(height, width),
        model=model,
        compute=f"{model.compute}; tiles={tiles}; batch={done.batch_size}",
        seconds=laps.seconds,
    )


async def _compute(
    service: Service,
    model: Served,
    tensor: Tensor,
    deadline: float,
    foreseen_s: float,
    queued: QueuedPicture | None,
) -> Done[Any]:
    """Run the network, in tiles where the picture is `queued`; what did not run costs nothing."""
    service.rates.require_compute()
    service.rates.charge(foreseen_s)
    refund = partial(service.rates.charge, -foreseen_s)
    if queued is None:
        left_s = deadline - time.monotonic()
        return await service.batcher.submit(model.engine, tensor, left_s, foreseen_s, refund)
    try:
        return await _run_in_tiles(service, model, tensor, deadline, queued)
    except BaseException:
        service.rates.charge(-foreseen_s * queued.left)
        raise


async def _run_in_tiles(
    service: Service, model: Served, tensor: Tensor, deadline: float, queued: QueuedPicture
) -> Done[Pixels]:
    """Run a large picture tile by tile; other pictures get their turn between its tiles."""
    loop = asyncio.get_running_loop()
    stopped = threading.Event()
    queued_s = ran_s = 0.0

    def on_device(work: Callable[[], Tensor], pixels: int) -> Tensor:
        nonlocal queued_s, ran_s
        if stopped.is_set():
            raise ClientLeft("nobody waits for the remaining tiles")
        cost_s = model.pace.seconds(pixels)
        call = service.batcher.call(work, deadline - time.monotonic(), cost_s)
        done = asyncio.run_coroutine_threadsafe(call, loop).result()
        queued_s += done.queued_s
        ran_s += done.ran_s
        queued.advance(pixels, done.ran_s)
        return done.value

    tile_px = service.tile_px(model.scale)
    picture = tensor[None]
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):  # of waiting, too
            answer = await service.in_tiler(
                lambda: run_tiled(
                    model.engine, picture, model.rule, model.scale, tile_px, on_device
                ),
                queued.needs_s,
                stopped.set,
            )
    except TimeoutError:
        raise DeadlineExceeded("no answer within deadline_s") from None
    return Done(answer, queued_s, ran_s, 1)


def _check_answer(
    service: Service, plan: Plan, height: int, width: int, answer_format: Format
) -> None:
    """Raise ImageTooLarge if the answer, or what the network makes for it, is beyond a limit."""
    if plan.box is None:  # how a picture fits into a box is known once it is upright
        images.check_fits(*plan.size(height, width), answer_format)
    scale = plan.model.scale
    limit = service.settings.max_output_pixels
    if height * width * scale**2 > limit:
        raise ImageTooLarge(
            f"{width} x {height} pixels become {width * scale} x {height * scale}; "
            f"at most {limit:,} (max_output_pixels) are allowed"
        )


def _memory_bytes(
    plan: Plan, height: int, width: int, answer_format: Format, *, transparent: bool = False
) -> int:
    model, seen = plan.model, height * width
    made, answered = seen * model.scale**2, math.prod(plan.size(height, width))
    padded = math.prod(model.rule.padded(*model.view.size(height, width)))
    return generating_bytes(
        seen, made, answered, answer_format, transparent=transparent, margins=max(0, padded - seen)
    )


def _look(rgb: Pixels, model: Served, *, padded: bool) -> tuple[Pixels, Tensor]:
    """Return what the view shows of a picture, and the generator's input (C, h, w) made of it.

    With `padded` the input is mirrored at right and bottom to fit the size rule.
    """
    seen = model.view.look(rgb)
    return seen, model.view.to_tensor(model.rule.pad(seen) if padded else seen)


def _encode(
    answer: Tensor | Pixels,
    seen: Pixels,
    picture: Picture,
    plan: Plan,
    size: tuple[int, int],
    answer_format: Format,
) -> bytes:
    """Crop, finish, reduce, rejoin the transparency and encode."""
    if isinstance(answer, Tensor):
        answer = without_margins(answer, seen, plan.model.scale)
        answer = plan.model.view.to_rgb(answer, seen, picture.rgb)
    if plan.finish:
        answer = plan.finish(answer, picture.rgb)
    whole = Picture(answer, picture.alpha, picture.format)
    return images.encode(images.resized(whole, *size), answer_format, plan.quality)
