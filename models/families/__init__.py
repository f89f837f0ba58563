"""The model families; a new one is a folder here and a line below."""

from models.errors import InvalidCheckpoint
from models.families import anonymizer, cyclegan, pix2pix, srgan, style
from models.family import Family

FAMILIES: dict[str, Family] = {
    module.FAMILY.id: module.FAMILY for module in (pix2pix, cyclegan, srgan, style, anonymizer)
}


def family(family_id: str) -> Family:
    """Return the family called `family_id`; raises InvalidCheckpoint for an unknown one."""
    try:
        return FAMILIES[family_id]
    except KeyError:
        known = ", ".join(sorted(FAMILIES))
        raise InvalidCheckpoint(f"no family is called {family_id!r}; there are {known}") from None
