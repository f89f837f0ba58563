"""Datasets: from what people upload to what a recipe can name."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

import app.datasets.store
from app.callers import OPERATOR
from app.datasets.dataset import Dataset
from app.datasets.layouts import arrange
from app.datasets.store import DatasetStore
from app.errors import DatasetInUse, DatasetNotFound, JobsUnavailable, StorageFull
from models import data as training_data
from models.errors import InvalidDataset
from models.evaluation.data import upscale_test_pictures
from models.pictures import Pictures, read_picture, reduced
from models.recipe import Data, HighResolutionData
from test_archives import zipped
from tiny import encoded


def picture(seed: int, height: int = 32, width: int = 32) -> bytes:
    levels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return encoded(Image.fromarray(levels).resize((width, height)))


def pictures(*folders: str, count: int = 12, width: int = 32) -> dict[str, bytes]:
    return {
        f"{folder}{i}.png": picture(100 * j + i, width=width)
        for j, folder in enumerate(folders)
        for i in range(count)
    }


LAYOUTS: list[tuple[str, dict[str, bytes], dict[str, int]]] = [
    ("paired", pictures("", width=64), {"train": 11, "test": 1}),
    ("paired", pictures("facades/", width=64), {"train": 11, "test": 1}),
    ("paired", pictures("x/train/", "x/val/", count=4, width=64), {"train": 4, "test": 4}),
    (
        "paired",
        pictures("train/", "val/", "test/", count=3, width=64),
        {"train": 6, "test": 3},
    ),
    ("paired", pictures("A/", "B/"), {"trainA": 11, "trainB": 11, "testA": 1, "testB": 1}),
    (
        "paired",
        pictures("a/train/", "a/test/", "b/train/", "b/test/", count=3),
        {"trainA": 3, "trainB": 3, "testA": 3, "testB": 3},
    ),
    (
        "unpaired",
        pictures("horses/trainA/", "horses/trainB/", "horses/testA/", count=6),
        {"trainA": 6, "trainB": 3, "testA": 6, "testB": 3},
    ),
    ("unpaired", pictures("A/", "B/"), {"trainA": 9, "trainB": 9, "testA": 3, "testB": 3}),
    ("highres", pictures("", count=30), {"train": 27, "test": 3}),
    ("highres", pictures("2019/", "2020/a/"), {"train": 22, "test": 2}),
    ("style", pictures("") | {"style.png": picture(7)}, {"style": 1, "train": 11, "test": 1}),
    (
        "style",
        pictures("s/train/", "s/test/") | {"s/style/night.png": picture(7)},
        {"style": 1, "train": 12, "test": 12},
    ),
]


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(tmp_path / "home")


def unused(_id: str) -> None:
    """Name no job that uses a dataset."""


def upload(folder: Path, entries: dict[str, bytes], name: str = "upload.zip") -> Path:
    path = folder / name
    path.write_bytes(zipped(entries))
    return path


@pytest.fixture
def stored(store: DatasetStore, tmp_path: Path) -> Dataset:
    return store.add(upload(tmp_path, pictures("", count=4)), "four", "highres")[0]


@pytest.mark.parametrize(("kind", "entries", "counts"), LAYOUTS)
def test_layouts(store: DatasetStore, tmp_path: Path, kind: Any, entries, counts) -> None:
    """Each usual layout is recognised, and its recipe tables open as training and test data."""
    dataset, is_new = store.add(upload(tmp_path, entries), "mine", kind)
    assert is_new
    assert dataset.counts == counts
    assert dataset.skipped == {}
    assert (dataset.name, dataset.kind, len(dataset.id)) == ("mine", kind, 32)
    assert dataset.sizes == {"min": 32, "median": 32, "max": 32}
    assert store.get(dataset.id, OPERATOR) == dataset == store.list(OPERATOR)[0]
    dataset.verify()
    table, evaluation = dataset.recipe_tables("any", "BtoA")
    sizes = {"crop_px": 32} if kind == "highres" else {"load_px": 32, "crop_px": 32}
    data = TypeAdapter(Data).validate_python(table | sizes)
    samples = training_data.open_samples(data, store.root, seed=0, scale=4)
    assert samples[3].keys()
    tests = evaluation if kind == "unpaired" else {"": evaluation}
    values = [v for test in tests.values() for key, v in test.items() if not key.endswith("_px")]
    for folder in [name for value in values for name in np.atleast_1d(value).tolist()]:
        assert len(Pictures(store.root, [folder])) > 0


def test_no_test_picture_is_trained_on(store: DatasetStore, tmp_path: Path) -> None:
    """What is held out is not trained on, is the same every time, and the same on both sides."""
    made = [
        store.add(upload(tmp_path, pictures("A/", "B/", count=count)), "mine", "paired")[0]
        for count in (24, 25)
    ]
    names = [{path for path in dataset.checksums if path.startswith("test")} for dataset in made]
    assert len(names[0]) == 12, "enough for a kernel distance"
    assert len(names[0] & names[1]) >= 10
    for dataset in made:
        parts = {p: {x.name for x in (dataset.folder / p).iterdir()} for p in dataset.counts}
        assert parts["testA"] == parts["testB"]
        assert not parts["testA"] & parts["trainA"]


def test_unusable_pictures_are_named(store: DatasetStore, tmp_path: Path) -> None:
    """Damaged, tiny, lonely and unequal pictures are left out by name; the rest is taken."""
    entries = pictures("A/", "B/", count=5) | {
        "A/half.png": picture(1)[:60],
        "B/half.png": picture(1),
        "A/tiny.png": picture(2, 8, 8),
        "A/wide.png": picture(3, 32, 40),
        "B/wide.png": picture(3),
        "A/alone.png": picture(4),
        "cover.png": picture(5),
        "A/text.jpg": b"<svg onload=alert(1)>",
        "A/0.jpg": picture(6),
        "notes.txt": b"notes",
    }
    dataset, _ = store.add(upload(tmp_path, entries), "mine", "paired")
    assert dataset.counts == {"trainA": 4, "trainB": 4, "testA": 1, "testB": 1}
    reasons = {
        "A/half.png": "damaged",
        "B/half.png": "no picture of this name in A",
        "A/tiny.png": "8 x 8",
        "A/wide.png": "another size",
        "B/wide.png": "another size",
        "A/alone.png": "no picture of this name in B",
        "cover.png": "in neither",
        "A/text.jpg": "not a PNG",
        "A/0.png": "the same name",
        "notes.txt": "not a picture",
    }
    assert dataset.skipped.keys() == reasons.keys()
    assert all(words in dataset.skipped[name] for name, words in reasons.items())
    assert any("only 4 pictures" in warning for warning in dataset.warnings)


@pytest.mark.parametrize(
    ("kind", "entries", "words"),
    [
        ("highres", {}, "0 in train.*expects photos"),
        ("highres", {"a.png": b"none", "b.txt": b""}, r"2 other files \(a.png: .* b.txt"),
        ("highres", pictures("", count=2), "1 in train, 1 in test.*at least 2"),
        ("paired", pictures("A/"), "0 in trainA.*no picture of this name in B.*equal names"),
        ("unpaired", pictures("A/") | pictures("B/", count=4), "1 in trainB, .*3 in testB"),
        ("unpaired", pictures("cats/", "dogs/"), "in neither of the folders A and B"),
        ("style", pictures(""), "found 0 style pictures among 12"),
        ("style", pictures("", "style/"), "found 12 style pictures"),
        ("style", {"style.png": picture(1)}, "0 in train"),
    ],
)
def test_near_empty_datasets_are_refused(store, tmp_path: Path, kind, entries, words) -> None:
    """What lacks a part is refused with what was found and what the kind expects."""
    with pytest.raises(InvalidDataset, match=words):
        store.add(upload(tmp_path, entries), "mine", kind)
    assert store.list(OPERATOR) == []
    assert list(store.root.iterdir()) == []


def test_pairs_that_are_none_are_suspected(store: DatasetStore, tmp_path: Path) -> None:
    """Pictures that do not look like two side by side bring a warning."""
    dataset, _ = store.add(upload(tmp_path, pictures("")), "mine", "paired")
    assert any("side by side" in warning for warning in dataset.warnings)


def test_pictures_that_are_in_two_parts_are_told(store: DatasetStore, tmp_path: Path) -> None:
    """A file among those to train on and those to test on, or of both domains, brings a warning."""
    photos = pictures("train/") | pictures("test/", count=3)
    dataset, _ = store.add(upload(tmp_path, photos), "mine", "highres")
    assert any("3 pictures are both in test and in train" in told for told in dataset.warnings)
    apart = {f"test/{n}.png": picture(100 + n) for n in range(3)} | pictures("train/")
    dataset, _ = store.add(upload(tmp_path, apart), "mine", "highres")
    assert not any("both in" in told for told in dataset.warnings)


def test_few_test_pictures_are_told(store: DatasetStore, tmp_path: Path) -> None:
    """A domain with so few test pictures that a comparison says little brings a warning."""
    few = pictures("trainA/", "trainB/", "testA/", "testB/", count=8)
    dataset, _ = store.add(upload(tmp_path, few), "mine", "unpaired")
    told = [warning for warning in dataset.warnings if "kernel distance" in warning]
    assert [" in testA" in warning for warning in told] == [True, False]
    enough = pictures("trainA/", "trainB/", "testA/", "testB/", count=20)
    dataset, _ = store.add(upload(tmp_path, enough), "mine", "unpaired")
    assert dataset.warnings == []


def test_photos_too_small_for_upscalers_are_told(store: DatasetStore, tmp_path: Path) -> None:
    """Photos below the crop that upscalers learn from by default bring a warning."""
    dataset, _ = store.add(upload(tmp_path, pictures("")), "mine", "highres")
    crop_px = HighResolutionData.model_fields["crop_px"].default
    assert any(f"a side below {crop_px} pixels" in told for told in dataset.warnings)


def test_content_is_the_identity(store: DatasetStore, tmp_path: Path) -> None:
    """The same pictures have one id, however packed; another kind or one other pixel, another."""
    entries = pictures("", count=4)
    first, _ = store.add(upload(tmp_path, entries), "first", "highres")
    shuffled = dict(reversed(entries.items())) | {"readme.md": b"x"}
    again, is_new = store.add(upload(tmp_path, shuffled), "again", "highres")
    assert (again, is_new) == (first, False)
    other_kind, _ = store.add(upload(tmp_path, entries), "other", "paired")
    other, _ = store.add(upload(tmp_path, entries | {"0.png": picture(99)}), "other", "highres")
    assert len({first.id, other_kind.id, other.id}) == 3
    assert [dataset.id for dataset in store.list(OPERATOR)].count(first.id) == 1


def test_damage_is_named_and_repaired_by_another_upload(
    store: DatasetStore, stored: Dataset, tmp_path: Path
) -> None:
    """A picture that changed, vanished or appeared is named; the same zip again puts it right."""
    changed, vanished, *_ = sorted(stored.checksums)
    (stored.folder / changed).write_bytes(b"changed")
    (stored.folder / vanished).unlink()
    (stored.folder / "train" / "new.png").write_bytes(b"new")
    with pytest.raises(InvalidDataset) as caught:
        stored.verify()
    for words in (f"{changed} is damaged", f"{vanished} has vanished", "train/new.png was added"):
        assert words in str(caught.value)
    repaired, is_new = store.add(upload(tmp_path, pictures("", count=4)), "four", "highres")
    assert (repaired.id, is_new) == (stored.id, True)
    repaired.verify()


def test_a_damaged_manifest_is_told(store: DatasetStore, stored: Dataset) -> None:
    """Without its manifest a dataset is not listed, is named as damaged, and can be deleted."""
    (stored.folder / "manifest.json").write_text("{")
    assert store.list(OPERATOR) == []
    with pytest.raises(InvalidDataset, match="manifest"):
        store.get(stored.id, OPERATOR)
    store.delete(stored.id, OPERATOR, unused)
    with pytest.raises(DatasetNotFound):
        store.get(stored.id, OPERATOR)


def test_a_dataset_in_use_stays(store: DatasetStore, stored: Dataset) -> None:
    """A dataset that a job uses cannot be deleted; the error names the job."""
    with pytest.raises(DatasetInUse, match="job 12ab"):
        store.delete(stored.id, OPERATOR, {stored.id: "12ab"}.get)
    stored.verify()


def test_a_deletion_that_fails_deletes_nothing(store: DatasetStore, stored: Dataset) -> None:
    """Where the queue of jobs is away at the second look, the dataset is still there."""
    looks = iter((None, JobsUnavailable("the database is away", retry_after_s=5)))

    def using(_: str) -> None:
        if error := next(looks):
            raise error

    with pytest.raises(JobsUnavailable):
        store.delete(stored.id, OPERATOR, using)
    stored.verify()


def test_a_dataset_is_deleted_once(store: DatasetStore, stored: Dataset) -> None:
    """Of two deletions at the same time the later one finds no dataset."""

    def meanwhile(id_: str) -> None:
        store.delete(id_, OPERATOR, unused)

    with pytest.raises(DatasetNotFound):
        store.delete(stored.id, OPERATOR, meanwhile)


def test_few_of_many_skipped_files_are_named(
    store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever uploads thousands of files that are no pictures makes no list of datasets long."""
    monkeypatch.setattr("app.datasets.store._NAMED_SKIPPED", 2)
    entries = pictures("A/", "B/", count=5) | {f"{n}.txt": b"notes" for n in range(5)}
    dataset, _ = store.add(upload(tmp_path, entries), "mine", "paired")
    assert list(dataset.skipped) == ["0.txt", "1.txt"]
    assert "3 more files" in dataset.warnings[-1]


@pytest.mark.parametrize("id_", ["", ".", "..", "../x", "0" * 31, "0" * 32, "G" * 32, "a/../b"])
def test_ids_are_no_paths(store: DatasetStore, stored: Dataset, id_: str) -> None:
    """Only what looks like an id is looked for."""
    for call in (store.get, partial(store.delete, using=unused), store.contact_sheet):
        with pytest.raises(DatasetNotFound):
            call(id_, OPERATOR)
    stored.verify()


def test_a_full_disk_leaves_nothing(store, tmp_path: Path, monkeypatch) -> None:
    """A disk that fills up is told as such, and what was written is gone."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(app.datasets.store, "write_atomically", full)
    with pytest.raises(StorageFull):
        store.add(upload(tmp_path, pictures("")), "mine", "highres")
    assert list(store.root.iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
from app.datasets.store import DatasetStore
import app.datasets.store
def never(*arguments):
    print("unpacked", flush=True)
    time.sleep(60)
app.datasets.store.arrange = never
DatasetStore(Path(sys.argv[1])).add(Path(sys.argv[2]), "mine", "highres")
"""


def test_a_killed_upload_is_swept(store: DatasetStore, tmp_path: Path, root: Path) -> None:
    """An upload under way is left alone; once its process is killed, the next start removes it."""
    arguments = [sys.executable, "-c", KILLED, tmp_path / "home", upload(tmp_path, pictures(""))]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == b"unpacked\n"
            store.sweep()
            assert len(list(store.root.glob(".incoming-*/unpacked/*"))) == 12
            assert store.list(OPERATOR) == []
        finally:
            process.send_signal(signal.SIGKILL)
    store.sweep()
    assert list(store.root.iterdir()) == []


def test_a_lost_contact_sheet_comes_with_the_next_upload(
    store: DatasetStore, tmp_path: Path
) -> None:
    """The same pictures once more repair what is missing, the look at them too."""
    zip_file = upload(tmp_path, pictures(""))
    dataset, _ = store.add(zip_file, "mine", "highres")
    dataset.contact_sheet.unlink()
    again, _ = store.add(zip_file, "mine", "highres")
    assert again.id == dataset.id
    assert store.contact_sheet(dataset.id, OPERATOR)


def test_flat_pictures_do_not_occupy_the_checker(
    store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many pictures of one colour, small as files, are refused before all of them are decoded."""
    monkeypatch.setattr("app.datasets.store._FREE_PIXELS", 1_000_000)
    flat = {f"{n}.png": encoded(Image.new("1", (1000, 1000 + n))) for n in range(8)}
    with pytest.raises(InvalidDataset, match="too many pixels"):
        store.add(upload(tmp_path, flat), "mine", "highres")


def test_the_contact_sheet_shows_every_part(store: DatasetStore, tmp_path: Path) -> None:
    """The contact sheet is a PNG with a row for each part, at most 12 pictures wide."""
    dataset, _ = store.add(upload(tmp_path, pictures("A/", "B/", count=20)), "mine", "unpaired")
    with Image.open(io.BytesIO(store.contact_sheet(dataset.id, OPERATOR))) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (12 * 100 + 4, 4 * 100 + 4)
        colours = np.asarray(sheet.convert("RGB"))
    assert (colours[4:100, 4:100] != 235).any()
    assert (colours[204:300, -100:-4] == 235).all(), "3 test pictures leave the row's end empty"


def test_photos_are_a_test_set(store: DatasetStore, tmp_path: Path) -> None:
    """An upscaler's test photos are cropped to a multiple of the scale, reduced as in training."""
    entries = {f"{i}.png": picture(i, 33, 46) for i in range(4)}
    dataset, _ = store.add(upload(tmp_path, entries), "mine", "highres")
    _, evaluation = dataset.recipe_tables("srgan")
    [low], [high] = upscale_test_pictures(store.root, evaluation["sets"][0], 4)
    assert (low.shape, high.shape) == ((8, 11, 3), (32, 44, 3))
    [name] = [path for path in dataset.checksums if path.startswith("test")]
    original = read_picture(dataset.folder / name)[:, :32, :44]
    assert (reduced(original, 4).permute(1, 2, 0).numpy() == low).all()
    assert evaluation["middle_px"] >= 512
    _, [middle] = upscale_test_pictures(store.root, evaluation["sets"][0], 4, middle_px=16)
    whole = read_picture(dataset.folder / name).permute(1, 2, 0).numpy()
    assert (middle == whole[8:24, 15:31]).all()


_NAMES = st.lists(
    st.sampled_from(["A", "b", "train", "testA", "x", "Style", "val"]), max_size=3
).map(tuple)


@given(
    st.lists(st.tuples(_NAMES, st.text("aé-.", min_size=1, max_size=120)), unique=True),
    st.sampled_from(["paired", "unpaired", "highres", "style"]),
)
def test_any_names_are_sorted(paths: list[tuple[tuple[str, ...], str]], kind: Any) -> None:
    """Whatever pictures are called, each is in one part or named as left out, under a safe name."""
    sizes = {"/".join([*folders, name + ".png"]): (32, 32) for folders, name in paths}
    try:
        made = arrange(sizes, kind)
    except InvalidDataset:
        return
    placed = [source for names in made.parts.values() for source in names.values()]
    assert sorted([*placed, *made.skipped]) == sorted(sizes)
    for name in (name for names in made.parts.values() for name in names):
        assert "/" not in name
        assert len(name.encode()) <= 255


@pytest.mark.parametrize("folder", ["", "2020/" * 50], ids=["short", "shortened"])
def test_pairs_of_two_formats_stay_together(folder: str) -> None:
    """A photo and its partner of another suffix are both for training or both for tests."""
    names = {"A": ".jpg", "B": ".png"}
    sizes = {
        f"{side}/{folder}{n}{suffix}": (64, 64) for side, suffix in names.items() for n in range(30)
    }
    parts = {
        part: {Path(name).stem for name in names}
        for part, names in arrange(sizes, "paired").parts.items()
    }
    assert parts["testA"] == parts["testB"] != set()
    assert parts["trainA"] == parts["trainB"]
