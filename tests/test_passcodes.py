"""What counts as a passcode, and the keys made of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

import app.faces.passcodes
from app.errors import InvalidPasscode, TooManyAttempts
from app.faces.attempts import Attempts, client_name
from app.faces.passcodes import (
    STRONG,
    STRONG_SCRYPT,
    Cost,
    Kdf,
    condition_bits,
    normalised,
    read_passcode,
    seal_key,
    strongest,
)
from grace import CHEAP

SALT = bytes(range(16))
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@pytest.mark.parametrize("text", ["a", "0" * 1024, "a\0b", "\0", " ", "пароль", "🔑" * 1024])
def test_any_text_is_a_passcode(text: str) -> None:
    """From 1 to 1,024 characters, whatever they are: zeros, spaces, NUL, emoji."""
    assert len(seal_key(SecretStr(text), SALT, CHEAP)) == 32


@pytest.mark.parametrize("text", ["", "a" * 1025, "x" * 2**20, "\ud800"])
def test_what_is_no_passcode_is_said_without_repeating_it(text: str) -> None:
    """Nothing, too much and broken text are refused; the error does not hold the text."""
    with pytest.raises(InvalidPasscode) as caught:
        normalised(SecretStr(text))
    assert not text or text not in str(caught.value)


def test_accents_may_be_typed_either_way() -> None:
    """A composed letter and the same one in two code points are one passcode: NFC."""
    assert normalised(SecretStr("caf\u00e9")) == normalised(SecretStr("cafe\u0301"))
    assert len(normalised(SecretStr("e\u0301" * 1024))) == 2048


def test_a_passcode_does_not_end_at_a_nul() -> None:
    """What follows a NUL counts."""
    assert seal_key(SecretStr("a\0b"), SALT, CHEAP) != seal_key(SecretStr("a\0c"), SALT, CHEAP)
    assert seal_key(SecretStr("a\0"), SALT, CHEAP) != seal_key(SecretStr("a"), SALT, CHEAP)


@settings(max_examples=30)
@given(TEXTS, st.binary(min_size=16, max_size=16))
def test_keys_depend_on_everything(text: str, salt: bytes) -> None:
    """Another letter, salt or cost gives another key; the same give the same."""
    key = seal_key(SecretStr(text), salt, CHEAP)
    assert key == seal_key(SecretStr(text), salt, CHEAP)
    others = [
        seal_key(SecretStr(text + "x"), salt, CHEAP),
        seal_key(SecretStr(text), bytes(b ^ 1 for b in salt), CHEAP),
        seal_key(SecretStr(text), salt, Cost(Kdf.ARGON2ID, 16, 1, 1)),
        seal_key(SecretStr(text), salt, Cost(Kdf.SCRYPT, 16, 1, 1)),
    ]
    assert len({key, *others}) == 5


def test_the_condition_never_changes() -> None:
    """The generator's bits of a passcode are what they were: pictures out there depend on it."""
    bits = condition_bits(SecretStr("correct horse"), 20)
    assert "".join(str(int(bit)) for bit in bits) == "00011100100110111110"
    assert condition_bits(SecretStr("correct horse"), 12) == bits[:12]
    assert 300 < sum(condition_bits(SecretStr("another"), 800)) < 500


def test_the_condition_says_nothing_about_the_key() -> None:
    """Even with the same function, salt and cost, the labels keep the two keys apart."""
    passcode = SecretStr("correct horse")
    key = seal_key(passcode, app.faces.passcodes._CONDITION_SALT, STRONG_SCRYPT)
    bits = condition_bits(passcode, 256)
    assert [bool(byte >> bit & 1) for byte in key for bit in range(8)] != bits


def test_a_guess_is_expensive() -> None:
    """A new seal costs 64 MiB and a noticeable time for every guess at its passcode."""
    assert strongest().memory_kib >= 64 * 1024
    started = time.perf_counter()
    seal_key(SecretStr("guess"), SALT, strongest())
    assert time.perf_counter() - started > 0.03


def test_without_argon2id_scrypt_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenSSL lacks Argon2id, new seals are made with Scrypt at about the same cost."""

    def lacking(**_arguments: object) -> None:
        raise app.faces.passcodes.UnsupportedAlgorithm("no Argon2id")

    assert strongest() == STRONG
    monkeypatch.setattr(app.faces.passcodes, "Argon2id", lacking)
    assert strongest() == STRONG_SCRYPT


@pytest.mark.parametrize(
    "numbers",
    [
        *((1, 2**21, 3, 4), (1, 65536, 9, 4), (1, 65536, 3, 0), (1, 65536, 0, 4), (1, 8, 1, 2)),
        *((2, 3000, 1, 1), (2, 0, 1, 1), (2, 65536, 2, 1), (2, 65536, 1, 4), (2, 2**31, 1, 1)),
    ],
)
def test_a_cost_is_bounded(numbers: tuple[int, int, int, int]) -> None:
    """No file can name a cost that would exhaust the service, or that cannot be computed."""
    kdf, *rest = numbers
    with pytest.raises(ValueError, match="range"):
        Cost(Kdf(kdf), *rest)


def test_a_passcode_file_may_end_in_a_line_break(tmp_path: Path) -> None:
    """One line break at the end, of either kind, and a byte order mark are not the passcode."""
    path = tmp_path / "passcode"
    for content in (b"a b", b"a b\n", b"a b\r\n", b"\xef\xbb\xbfa b\n"):
        path.write_bytes(content)
        assert read_passcode(path).get_secret_value() == "a b"
    path.write_bytes(b"a\n\n")
    assert read_passcode(path).get_secret_value() == "a\n"
    for content in (b"", b"\n", b"\xff\xfe\x00", b"x" * 2**20):
        path.write_bytes(content)
        with pytest.raises(InvalidPasscode):
            read_passcode(path)


def test_attempts_are_counted_by_the_minute() -> None:
    """The attempt beyond the limit is refused and told when to come back; others go on."""
    attempts = Attempts(2)
    for _ in range(2):
        attempts.take("client a", "picture 1")
    with pytest.raises(TooManyAttempts) as caught:
        attempts.take("client a", "picture 2")
    assert 1 <= caught.value.retry_after_s <= 60
    with pytest.raises(TooManyAttempts):
        attempts.take("client b", "picture 1")
    attempts.take("client b", "picture 2")


def test_an_attempt_of_a_minute_ago_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What succeeds after its minute buys no attempt in the next, and is not remembered."""
    attempts, start = Attempts(2), time.time()
    slow = attempts.take("client a")
    monkeypatch.setattr(time, "time", lambda: start + 61)
    attempts.give_back(slow)
    assert not attempts._storage.storage
    for _ in range(2):
        attempts.take("client a")
    attempts.give_back(slow)
    with pytest.raises(TooManyAttempts):
        attempts.take("client a")


def test_a_refused_attempt_costs_nothing_else() -> None:
    """Who asks for a picture that others have used up may still restore another one."""
    attempts = Attempts(2)
    for _ in range(2):
        attempts.take("client a", "picture 1")
    for _ in range(5):
        with pytest.raises(TooManyAttempts):
            attempts.take("client b", "picture 1")
    attempts.take("client b", "picture 2")


def test_success_counts_for_nothing() -> None:
    """Whoever knows the passcode may restore as often as wanted."""
    attempts = Attempts(2)
    for _ in range(20):
        attempts.give_back(attempts.take("client a", "picture 1"))


@pytest.mark.parametrize(
    ("hosts", "same"),
    [
        (("192.0.2.1", "192.0.2.1"), True),
        (("192.0.2.1", "192.0.2.2"), False),
        (("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"), True),
        (("2001:db8:1:2::1", "2001:db8:1:3::1"), False),
        (("::ffff:192.0.2.1", "192.0.2.1"), True),
        (("::ffff:192.0.2.1", "::ffff:192.0.2.2"), False),
        (("testclient", None), False),
    ],
)
def test_a_household_is_one_client(hosts: tuple[str, str | None], same: bool) -> None:
    """IPv4 addresses count one by one, IPv6 addresses by the network whose owner picks them."""
    assert (client_name(hosts[0]) == client_name(hosts[1])) is same
