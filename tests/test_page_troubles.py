"""The page where answers are slow, broken, endless or out of order, and hands quick."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from browsing import PHOTO
from stubs import (
    DATASETS,
    JOBS,
    KeyedService,
    breaking,
    dataset,
    job,
    never,
    picture,
    stream,
    until,
)
from test_page import choose, make

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

STEPS = 60

pytestmark = pytest.mark.timeout(600)


def test_an_answer_that_breaks_off(page: Page, troubled: Callable[..., None]) -> None:
    """A connection that breaks within an answer is told, and everything can be done again."""
    with breaking() as broken:
        troubled("stylize", broken)
        troubled(JOBS, broken)
        troubled(DATASETS, [dataset("pairs")])
        page.get_by_role("link", name="Training").click()
        page.get_by_role("button", name="Start", exact=True).click()
        page.locator("#job-problem [data-code=unreachable]").wait_for()
        assert page.get_by_role("button", name="Start", exact=True).is_enabled()
        page.get_by_role("link", name="Pictures").click()
        page.locator("#photo-file").set_input_files(PHOTO)
        page.get_by_role("button", name="Make it").click()
        page.locator("#picture-problem [data-code=unreachable]").wait_for()
    page.unroute_all()
    make(page)


def test_stopped_while_something_is_missing(page: Page, troubled: Callable[..., None]) -> None:
    """What is under way can be stopped while a passcode for the next picture is missing."""
    troubled("stylize", never)
    page.locator("#photo-file").set_input_files(PHOTO)
    page.get_by_role("button", name="Make it").click()
    choose(page, "bring back")
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped").wait_for()
    page.get_by_role("button", name="Make it").wait_for()


def test_a_photo_that_browsers_cannot_show(page: Page) -> None:
    """Of a TIFF the answer is seen, and beside it that the photo cannot be shown."""
    buffer = io.BytesIO()
    Image.open(PHOTO).save(buffer, "TIFF")
    file: Any = {"name": "scan.tif", "mimeType": "image/tiff", "buffer": buffer.getvalue()}
    page.locator("#photo-file").set_input_files(file)
    make(page)
    seen_at = """share => {
      const box = document.querySelector("#compare").getBoundingClientRect();
      const [x, y] = [box.left + share * box.width, box.top + box.height / 2];
      return document.elementFromPoint(x, y).id;
    }"""
    assert [page.evaluate(seen_at, share) for share in (0.25, 0.75)] == ["unshowable", "after"]


def test_models_that_load_while_somebody_chooses(
    page: Page, keyed_service: KeyedService, troubled: Callable[..., None]
) -> None:
    """Models that are loaded later leave what was set as it is, and the focus where it is."""
    head = {"X-API-Key": keyed_service.key}
    models = keyed_service.server.client.get("/v1/models", headers=head).json()
    served = [model for model in models if model["name"] == "srresnet-x4"]
    troubled("models", lambda route: route.fulfill(json=served))
    page.route("**/readyz", lambda route: route.fulfill(status=200 if len(served) > 1 else 503))
    page.reload()
    page.get_by_label("Scale").select_option("2")
    page.locator("[name=choice][value=srresnet-x4]").focus()
    served = models
    page.locator("[name=choice][value=starry-night]").wait_for(state="attached")
    assert page.get_by_label("Scale").input_value() == "2"
    assert page.evaluate("document.activeElement.value") == "srresnet-x4"


def test_a_service_that_is_away_for_a_while(page: Page, troubled: Callable[..., None]) -> None:
    """A page that is opened while the service starts anew says so, and goes on by itself."""
    asked: list[Route] = []

    def away(route: Route) -> None:
        asked.append(route)
        route.abort() if len(asked) < 3 else route.fallback()

    troubled("limits", away)
    page.reload()
    page.locator("#picture-problem [data-code=unreachable]").wait_for()
    page.locator(".tile").first.wait_for()
    assert page.locator("#picture-problem .problem").count() == 0


def test_a_training_that_is_over(page: Page, troubled: Callable[..., None]) -> None:
    """Of a training that is replayed the last samples are fetched, not all.

    Those that are shown can be saved from the browser's menu, no others stay in memory. Its losses
    are no live region, which screen readers would read out at every step.
    """
    fetched: list[str] = []
    troubled(JOBS, [job("facades")])
    troubled(f"{JOBS}/facades", job("facades"))
    progress = {"step": 1, "steps": STEPS, "steps_per_s": 1, "seconds_left": 0}
    events = [("sample", {"step": step + 1}) for step in range(STEPS)]
    figures = ("progress", progress | {"figures": {"l1": 0.5}})
    troubled(f"{JOBS}/facades/events", stream(figures, *events, ("end", {"state": "succeeded"})))
    troubled(
        rf"{JOBS}/facades/samples/\d+\.png",
        lambda route: (fetched.append(route.request.url), picture(route)),
    )
    page.evaluate("""() => {
      const {createObjectURL, revokeObjectURL} = URL;
      const held = window.held = new Set();
      URL.createObjectURL = (blob) => {
        const url = createObjectURL(blob);
        held.add(url);
        return url;
      };
      URL.revokeObjectURL = (url) => held.delete(url) && revokeObjectURL(url);
    }""")
    page.get_by_role("link", name="Training").click()
    image = page.get_by_alt_text(f"Samples at step {STEPS}")
    image.wait_for()
    assert len(fetched) < 5
    page.get_by_role("slider").fill("0")
    image = page.get_by_alt_text("Samples at step 1", exact=True)
    image.wait_for()
    assert page.evaluate("[...held]") == [image.get_attribute("src")]
    assert image.evaluate("image => image.naturalWidth") == 16
    assert page.locator("#job .curves").get_by_text("0.5").is_visible()
    assert page.locator("#job").get_by_role("status").count() == 0


def test_a_training_is_followed_through_troubles(page: Page, troubled: Callable[..., None]) -> None:
    """A view of a training outlasts a refusal, an end before the end, and a silence of 45 s."""
    asked: list[str | None] = []
    refusal = {"status": 429, "headers": {"Retry-After": "2"}, "json": {"code": "rate_limited"}}
    answers = [
        lambda route: route.fulfill(**refusal),
        stream(("state", {"state": "running"})),
        never,
        stream(("end", {"state": "succeeded"})),
    ]

    def events(route: Route) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        answers[len(asked) - 1](route)

    troubled(JOBS, [job("facades", "queued")])
    troubled(f"{JOBS}/facades", job("facades", "queued"))
    troubled(f"{JOBS}/facades/events", events)
    page.clock.install()
    page.get_by_role("link", name="Training").click()
    until(page, lambda: len(asked) == 1)
    page.clock.fast_forward(2000)
    until(page, lambda: len(asked) == 3)
    page.clock.fast_forward(45_000)
    page.locator("#job").get_by_text("succeeded").wait_for()
    assert asked == [None, None, "1", "1"]


@pytest.mark.parametrize(("kind", "shown"), [(JOBS, "#job"), (DATASETS, "#dataset-shown")])
def test_the_last_click_counts(
    page: Page, troubled: Callable[..., None], kind: str, shown: str
) -> None:
    """Of two things that are clicked the last is shown; a late answer for the first is given up."""
    given_up: list[str] = []
    of = {JOBS: job, DATASETS: dataset}[kind]
    troubled(kind, [of("slow"), of("quick")])
    troubled(f"{kind}/slow", never)
    troubled(f"{kind}/quick", of("quick"))
    troubled(f"{kind}/quick/contact.png", picture)
    troubled(f"{kind}/quick/events", never)
    page.get_by_role("link", name="Training").click()
    page.get_by_role("button", name="slow").click()
    page.on("requestfailed", lambda request: given_up.append(request.url.rsplit("/", 1)[1]))
    page.get_by_role("button", name="quick").click()
    page.locator(shown).get_by_role("heading", name="quick").wait_for()
    assert "slow" in given_up


def test_another_key(
    page: Page, keyed_service: KeyedService, troubled: Callable[..., None]
) -> None:
    """After another key is given, nothing stays on the screen that was the former one's."""
    troubled(JOBS, [job("mine")])
    troubled(f"{JOBS}/mine", job("mine"))
    troubled(f"{JOBS}/mine/events", never)
    troubled(DATASETS, [dataset("mine")])
    troubled(f"{DATASETS}/mine", dataset("mine"))
    troubled(f"{DATASETS}/mine/contact.png", picture)
    page.get_by_role("link", name="Training").click()
    page.locator("#job").get_by_role("heading", name="mine").wait_for()
    page.locator("#datasets").get_by_role("button", name="mine").click()
    page.locator("#dataset-shown").get_by_role("heading", name="mine").wait_for()
    page.locator("#versions article").wait_for()
    with page.expect_event("requestfailed", lambda request: request.url.endswith("events")):
        page.get_by_role("button", name="Key", exact=True).click()
        page.get_by_label("Key", exact=True).fill(keyed_service.lesser_key)
        page.keyboard.press("Enter")
    page.locator("#jobs-problem [data-code=scope_missing]").wait_for()
    assert "mine" not in page.locator("#training").inner_text()


def test_keys_and_drops_for_something_else(page: Page) -> None:
    """Among the trainings `+` zooms no hidden photo, and a file dropped beside opens nothing."""
    page.locator("#photo-file").set_input_files(PHOTO)
    page.get_by_role("link", name="Training").click()
    page.locator("#training").wait_for()
    page.keyboard.press("+")
    assert page.locator("#zoom-level").text_content() == "fit"
    page.get_by_role("link", name="Pictures").click()
    page.locator("#pictures").wait_for()
    page.keyboard.press("Alt++")
    assert page.locator("#zoom-level").text_content() == "fit"
    is_refused = page.evaluate("""() => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(["PK"], "pairs.zip"));
      const drop = new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer});
      return !document.querySelector("header").dispatchEvent(drop);
    }""")
    assert is_refused


def test_forced_colours(page: Page) -> None:
    """In forced colours the chosen tile has an outline, and the others have none."""
    page.emulate_media(forced_colors="active")
    outlines = "tiles => tiles.map((tile) => getComputedStyle(tile).outlineStyle)"
    for state, styles in (":checked", {"double"}), (":not(:checked)", {"none"}):
        assert set(page.locator(f".tile input{state} + *").evaluate_all(outlines)) == styles


def test_a_version_that_is_refused_late(page: Page, troubled: Callable[..., None]) -> None:
    """Serving all the same is offered for the version that was refused, beside its model alone."""
    versions = [
        {"version": n, "serving": n == 1, "promoted": n == 1, "sha256": "a" * 64, "gate": None}
        | {"lineage": {"job": None}, "metrics": []}
        for n in (1, 2)
    ]
    held: list[Route] = []
    refusal = {"code": "gate_refused", "detail": "starry-night@2 did not pass the gate"}
    anyway = page.get_by_role("button", name="all the same")
    troubled("models/[a-z0-9-]+/versions", versions)
    troubled("models/starry-night/promote", held.append)
    page.get_by_role("link", name="Training").click()
    for other, count in (("starry-night", 1), ("srresnet-x4", 0)):
        page.get_by_label("Of the model").select_option("starry-night")
        page.get_by_role("button", name="Let starry-night@2 serve", exact=True).click()
        until(page, lambda: len(held) == 1)
        page.get_by_label("Of the model").select_option(other)
        page.get_by_role("heading", name=f"{other}@2").wait_for()
        held.pop().fulfill(status=409, json=refusal)
        page.locator("#versions-problem [data-code=gate_refused]").wait_for()
        assert anyway.all_inner_texts() == ["Let starry-night@2 serve all the same"][:count]


def test_a_place_in_the_queue(page: Page, troubled: Callable[..., None]) -> None:
    """The place of a training in the queue is asked for again and again, until it is shown no more.

    A refusal for the time being is waited out.
    """
    asked: list[Route] = []

    def told(route: Route) -> None:
        asked.append(route)
        if len(asked) == 2:
            route.fulfill(status=503, json={"code": "busy"})
        else:
            route.fulfill(json=job("facades", "queued") | {"position": 5 - len(asked)})

    troubled(JOBS, [job("facades", "queued"), job("edges")])
    for name in ("facades", "edges"):
        troubled(f"{JOBS}/{name}", told if name == "facades" else job(name))
        troubled(f"{JOBS}/{name}/events", never)
    page.clock.install()
    page.get_by_role("link", name="Training").click()
    page.locator("#job").get_by_text("queued, number 4").wait_for()
    page.clock.fast_forward(5000)
    until(page, lambda: len(asked) == 2)
    page.clock.run_for(5000)
    page.locator("#job").get_by_text("queued, number 2").wait_for()
    page.get_by_role("button", name="edges").click()
    page.locator("#job").get_by_text("running").wait_for()
    page.clock.run_for(20_000)
    assert len(asked) == 3


def test_an_event_that_is_none(page: Page) -> None:
    """A connection with an event that cannot be read is given up before another one is made."""
    given_up = page.evaluate("""async () => {
      const {follow} = await import("./page/events.js");
      const bad = new TextEncoder().encode('event: progress\\ndata: {"step": NaN}\\n\\n');
      const signals = [];
      window.fetch = async (path, {signal}) => {
        signals.push(signal);
        return new Response(new ReadableStream({start: (stream) => stream.enqueue(bad)}));
      };
      follow("events", () => {}, new AbortController().signal);
      while (signals.length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
      return signals[0].aborted;
    }""")
    assert given_up
