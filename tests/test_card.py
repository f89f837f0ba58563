"""Model cards: what a file says about its weights, for people."""

import pytest
import torch
from safetensors.torch import load_file

from models.card import markdown
from models.checkpoint import Header, amend_card, read_header, save_generator
from models.errors import InvalidCheckpoint
from models.families import FAMILIES

_TABLE = {
    "title": "Set5, x4: 5 pictures",
    "protocols": {"PSNR": "dB on Y", "SSIM": "the same planes"},
    "rows": {"ours": {"PSNR": 31.19, "SSIM": None}},
}


def _write(path):
    kind = FAMILIES["srgan"]
    config = kind.generator_config(channels=4, blocks=1)
    header = Header(family=kind.id, generator=config.model_dump(), name="small", card={"steps": 3})
    save_generator(path, kind.build_generator(config), header, torch.float16)


def test_recording_figures_leaves_the_weights_alone(tmp_path):
    """Figures are added to a file's card without changing a bit of its weights or other facts."""
    path = tmp_path / "small.safetensors"
    _write(path)
    before = load_file(path)
    amend_card(path, {"metrics": [_TABLE]})
    after = load_file(path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert read_header(path).card == {"steps": 3, "metrics": [_TABLE]}


def test_a_new_name_keeps_the_direction(tmp_path):
    """Renamed, a model is still what its recipe made it, and its partner another one."""
    path = tmp_path / "small.safetensors"
    _write(path)
    amend_card(path, {"recipe": {"models": {"AtoB": "other", "BtoA": "small"}}})
    amend_card(path, {}, "mine")
    assert read_header(path).card["recipe"]["models"] == {"AtoB": "other", "BtoA": "mine"}
    amend_card(path, {}, "other")
    assert read_header(path).card["recipe"]["models"] == {"AtoB": "mine", "BtoA": "other"}


@pytest.mark.parametrize(
    ("facts", "name"), [({"gate": {"passed": "perhaps"}}, None), ({}, "Not a name")]
)
def test_what_no_card_may_hold_is_not_written(tmp_path, facts, name):
    """A fact that would make the file unreadable is refused, and the file stays as it was."""
    path = tmp_path / "small.safetensors"
    _write(path)
    before = path.read_bytes()
    with pytest.raises(InvalidCheckpoint, match=r"small\.safetensors: "):
        amend_card(path, facts, name)
    assert path.read_bytes() == before


def test_a_card_shows_every_figure_with_its_protocol(tmp_path):
    """The Markdown card holds the facts, each figure, and how it was measured."""
    path = tmp_path / "small.safetensors"
    _write(path)
    amend_card(path, {"metrics": [_TABLE]})
    text = markdown(read_header(path))
    assert "- Steps: 3" in text
    assert "| ours | 31.19 | - |" in text
    assert "- PSNR: dB on Y" in text
