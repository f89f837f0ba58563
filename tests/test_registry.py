"""Versions of models: published once, promoted, rolled back, deleted."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import Header, save_generator
from models.errors import InvalidCheckpoint, ModelNotFound, ModelProtected
from models.families import family
from models.registry import Registry

CONFIG = {"base_channels": 2, "blocks": 1}


def write_model(path: Path, **card: Any) -> Path:
    """Write new random weights."""
    kind = family("style")
    generator = kind.build_generator(kind.generator_config(**CONFIG))
    save_generator(
        path, generator, Header(family="style", generator=CONFIG, name="wave", card=card)
    )
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_model(tmp_path / "trained.safetensors")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home", shipped=tmp_path / "weights")


def test_publish_and_promote(registry: Registry, source: Path) -> None:
    """A published version is found by number at once, and by name once it is promoted."""
    assert registry.publish(source, "wave").version == 1
    assert registry.resolve("wave@1").path.read_bytes() == source.read_bytes()
    with pytest.raises(ModelNotFound, match="promoted"):
        registry.resolve("wave")
    assert registry.promote("wave", 1).promoted
    assert registry.resolve("wave").version == 1


def test_list(registry: Registry, source: Path) -> None:
    """The list holds every version by name and number, with the promoted ones marked."""
    for name in ("wave", "udnie", "wave"):
        registry.publish(source, name)
    registry.promote("wave", 2)
    found = [(m.name, m.version, m.promoted) for m in registry.list()]
    assert found == [("udnie", 1, False), ("wave", 1, False), ("wave", 2, True)]


def test_shipped_models(registry: Registry, tmp_path: Path, source: Path) -> None:
    """A shipped model is version 1, serves without a promotion and is never deleted."""
    write_model(tmp_path / "weights" / "wave.safetensors")
    assert registry.resolve("wave").version == 1
    assert registry.publish(source, "wave").version == 2
    assert registry.resolve("wave").version == 1
    registry.promote("wave", 2)
    assert registry.rollback("wave").version == 1
    with pytest.raises(ModelProtected, match="ships"):
        registry.delete("wave", 1)


def test_a_published_version_stays_beside_a_new_shipped_model(
    registry: Registry, tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was published under a name that ships later goes on serving, and the log tells."""
    registry.publish(source, "wave")
    registry.promote("wave", 1)
    write_model(tmp_path / "weights" / "wave.safetensors")
    after = Registry(tmp_path / "home", shipped=tmp_path / "weights")
    assert "wave@1" in caplog.text
    assert after.resolve("wave").path.read_bytes() == source.read_bytes()


def test_a_shipped_model_takes_no_deleted_versions_place(
    registry: Registry, tmp_path: Path
) -> None:
    """Where a version was deleted a name keeps its owner, and no model that ships later is it."""
    theirs = write_model(tmp_path / "theirs.safetensors", lineage={"owner": "ann"})
    for _ in range(2):
        registry.publish(theirs, "wave")
    registry.promote("wave", 2)
    registry.delete("wave", 1)
    write_model(tmp_path / "weights" / "wave.safetensors")
    after = Registry(tmp_path / "home", shipped=tmp_path / "weights")
    assert [(version.version, version.owner) for version in after.versions("wave")] == [(2, "ann")]


def test_owner(registry: Registry, tmp_path: Path, source: Path) -> None:
    """A name belongs to the owner of its first version, whatever the cards of others say."""
    registry.publish(source, "wave")
    theirs = write_model(tmp_path / "theirs.safetensors", lineage={"owner": "ann"})
    assert registry.publish(theirs, "wave").owner is None
    assert registry.publish(theirs, "udnie").owner == "ann"
    assert registry.publish(source, "udnie").owner == "ann"


def test_rollback(registry: Registry, source: Path) -> None:
    """Rolling back promotes what was promoted before, until nothing is left to go back to."""
    for _ in range(3):
        registry.publish(source, "wave")
    for version in (1, 2, 3):
        registry.promote("wave", version)
    registry.delete("wave", 2)
    assert registry.rollback("wave").version == 1
    with pytest.raises(ModelNotFound, match="earlier"):
        registry.rollback("wave")


def test_rollback_to_what_was_tried_out(registry: Registry, source: Path) -> None:
    """What others promote or roll back meanwhile neither comes instead nor leaves a name empty."""
    for _ in range(4):
        registry.publish(source, "wave")
    for version in (1, 2, 3):
        registry.promote("wave", version)
    tried_out = registry.previous("wave").version
    registry.promote("wave", 4)
    for _ in range(2):
        assert registry.rollback("wave", tried_out).version == 2
    registry.promote("wave", 3)
    registry.delete("wave", 2)
    with pytest.raises(ModelNotFound, match="wave@2"):
        registry.rollback("wave", 2)
    assert registry.resolve("wave").version == 3


def test_delete(registry: Registry, source: Path) -> None:
    """A deleted version is gone and its number is never used again; the promoted one stays."""
    for _ in range(2):
        registry.publish(source, "wave")
    registry.promote("wave", 1)
    with pytest.raises(ModelProtected, match="promoted"):
        registry.delete("wave", 1)
    registry.delete("wave", 2)
    with pytest.raises(ModelNotFound):
        registry.resolve("wave@2")
    assert registry.publish(source, "wave").version == 3


def test_with_its_last_version_a_name_goes(registry: Registry, source: Path) -> None:
    """The only version of a name is deleted though it is promoted; the next has a new number."""
    registry.publish(source, "mistake")
    registry.promote("mistake", 1)
    registry.delete("mistake", 1)
    assert "mistake" not in registry.promotions()
    with pytest.raises(ModelNotFound):
        registry.resolve("mistake")
    assert registry.publish(source, "mistake").version == 2
    assert "mistake" not in registry.promotions()


def test_a_version_deleted_meanwhile(registry: Registry, source: Path) -> None:
    """A version that is gone before it is promoted or deleted is not found; no other is named."""
    for _ in range(3):
        registry.publish(source, "wave")
    registry.promote("wave", 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "check_gate", lambda found: found.path.unlink())
        with pytest.raises(ModelNotFound):
            registry.promote("wave", 3)
    assert registry.resolve("wave").version == 1
    found = registry.resolve("wave@2")
    registry.delete("wave", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "resolve", lambda _: found)
        with pytest.raises(ModelNotFound):
            registry.delete("wave", 2)


def test_versions_survive_a_restart(registry: Registry, tmp_path: Path, source: Path) -> None:
    """Another process with the same folder sees the same versions and promotions."""
    registry.publish(source, "wave")
    registry.promote("wave", 1)
    assert Registry(tmp_path / "home", shipped=tmp_path / "weights").list() == registry.list()


def test_concurrent_publishing(registry: Registry, source: Path) -> None:
    """Versions published at the same time all get numbers of their own."""
    with ThreadPoolExecutor(4) as pool:
        published = list(pool.map(lambda _: registry.publish(source, "wave").version, range(8)))
    assert sorted(published) == list(range(1, 9))
    assert not list(source.parent.glob("home/models/wave/.*"))


def test_concurrent_promotions(registry: Registry, tmp_path: Path, source: Path) -> None:
    """Of versions promoted at the same time none is forgotten, whichever serves in the end."""
    for _ in range(8):
        registry.publish(source, "wave")

    def promote(version: int) -> None:
        Registry(tmp_path / "home", shipped=tmp_path / "weights").promote("wave", version)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(promote, range(1, 9)))
    promoted = {registry.resolve("wave").version}
    promoted |= {registry.rollback("wave").version for _ in range(7)}
    assert promoted == set(range(1, 9))


def test_a_damaged_record_hides_no_other(registry: Registry, source: Path) -> None:
    """What of a record of promotions is no number is passed over; other names are as they were."""
    for name in ("udnie", "wave"):
        registry.publish(source, name)
        registry.promote(name, 1)
    (registry.resolve("wave").path.parent / "promoted").write_bytes(b"\xff1\n\xfe\n")
    assert registry.promotions() == {"udnie": 1}


def test_a_record_that_cannot_be_read_changes_nothing(
    registry: Registry, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was promoted stays so while its record is another user's, as do other names."""
    for name in ("udnie", "wave"):
        registry.publish(source, name)
        registry.promote(name, 1)
    known, read = registry.promotions(), Path.read_text

    def refused(path: Path, *arguments: Any) -> str:
        if path.parent.name == "wave":
            raise PermissionError(errno.EACCES, "not yours")
        return read(path, *arguments)

    monkeypatch.setattr(Path, "read_text", refused)
    assert registry.promotions() == known == {"udnie": 1, "wave": 1}
    assert Registry(source.parent / "home", source.parent).promotions() == {
        "trained": 1,
        "udnie": 1,
    }


def test_what_a_killed_process_left_is_removed(registry: Registry, source: Path) -> None:
    """A copy that nobody published goes with the next publication, unless it may be under way."""
    folder = registry.publish(source, "wave").path.parent
    left, under_way = folder / ".publishing.a", folder / ".publishing.b"
    for copy in (left, under_way):
        copy.touch()
    os.utime(left, (0, 0))
    registry.publish(source, "udnie")
    assert list(folder.glob(".*")) == [under_way]


def test_a_damaged_file_is_never_published(registry: Registry, tmp_path: Path) -> None:
    """Publishing refuses a file that does not load and leaves no trace of it."""
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(InvalidCheckpoint):
        registry.publish(damaged, "wave")
    assert registry.list() == []


def test_other_files_are_no_versions(registry: Registry, tmp_path: Path, source: Path) -> None:
    """What somebody copied into a model's folder neither counts nor hinders."""
    registry.publish(source, "wave")
    for name in ("copy of 1.deleted", "backup.safetensors"):
        (tmp_path / "home/models/wave" / name).write_bytes(b"")
    assert registry.publish(source, "wave").version == 2
    assert [version.version for version in registry.versions("wave")] == [1, 2]


def test_a_damaged_version_hides_no_other(
    registry: Registry, tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A version damaged on disk is logged and left out of the list."""
    registry.publish(source, "wave")
    (tmp_path / "home/models/wave/2.safetensors").write_bytes(b"")
    assert [m.version for m in registry.list()] == [1]
    assert "wave@2" in caplog.text


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", "Wave", "wave@1", ".hidden", "a" * 65, "wave\n"]
)
def test_names(registry: Registry, source: Path, name: str) -> None:
    """A name that could leave the folder or confuse a reference is refused."""
    with pytest.raises(InvalidCheckpoint, match="no model name"):
        registry.publish(source, name)


@pytest.mark.parametrize(
    "reference",
    ["none", "wave@2", "wave@x", "wave@", "../wave", "wave@1@1", "", f"wave@{'9' * 5000}"],
)
def test_unknown_references(registry: Registry, source: Path, reference: str) -> None:
    """A reference to nothing is a ModelNotFound that says what there is."""
    registry.publish(source, "wave")
    registry.promote("wave", 1)
    with pytest.raises(ModelNotFound):
        registry.resolve(reference)
