"""Every error's HTTP face."""

import json

import pytest
from pydantic import ValidationError

import app.errors
import models.errors
from app.error_codes import KINDS, kind_of
from app.errors import InvalidParameter, QueueFull
from app.http.problems import problem_of
from app.schemas.edits import EditParams
from models.errors import AnamorphError


def descendants(cls: type) -> list[type]:
    return [cls] + [leaf for child in cls.__subclasses__() for leaf in descendants(child)]


ALL = descendants(AnamorphError)


def test_the_table_is_complete() -> None:
    """Every error class of models and app has its own status and code."""
    assert set(ALL) == set(KINDS)
    assert {cls.__module__ for cls in ALL} == {app.errors.__name__, models.errors.__name__}


def test_codes_are_stable_and_distinct() -> None:
    """Codes are snake_case, and two errors share one only where one is the other's base."""
    seen: dict[str, type] = {}
    for cls in ALL:
        code = KINDS[cls].code
        assert code.replace("_", "a").isalpha(), code
        assert code.islower()
        assert issubclass(cls, seen.setdefault(code, cls))


@pytest.mark.parametrize("cls", ALL)
def test_errors_of_input_are_never_500(cls: type[AnamorphError]) -> None:
    """Nothing in the tree is an internal error."""
    assert 400 <= KINDS[cls].status < 600
    assert KINDS[cls].status != 500


def test_a_problem_follows_rfc_9457() -> None:
    """A problem has type, title, status, detail and code, and names its media type."""
    response = problem_of(
        InvalidParameter("scale: too large", [{"field": "scale", "message": "m"}])
    )
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": "A parameter is not valid",
        "status": 422,
        "code": "invalid_parameter",
        "detail": "scale: too large",
        "errors": [{"field": "scale", "message": "m"}],
    }


def test_findings_are_told_as_they_were_put() -> None:
    """What a check of the service's own finds wrong is told in its words, without pydantic's."""
    with pytest.raises(ValidationError) as raised:
        EditParams.model_validate({"model": "wave", "response_format": "url"})
    told = InvalidParameter.of(list(raised.value.errors()))
    assert str(told) == "response_format: pictures are not kept to be fetched; ask for b64_json"


def test_busy_says_when_to_come_back() -> None:
    """A 503 for load carries Retry-After in whole seconds, rounded up."""
    response = problem_of(QueueFull("full", retry_after_s=2.1))
    assert (response.status_code, response.headers["retry-after"]) == (503, "3")


def test_a_new_error_inherits_its_base() -> None:
    """An error class that is not in the table looks like its nearest base."""

    class Odd(models.errors.CorruptImage):
        pass

    assert kind_of(Odd("x")).code == "corrupt_image"
