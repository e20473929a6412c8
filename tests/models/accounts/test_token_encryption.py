"""API tokens at rest: which key writes, which keys read, and what happens without a key."""

import os
import re
import shlex
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from models.accounts.token_encryption import TokenCipher, TokenUnreadable, cipher_for, make_key_file
from models.settings import Secret, Settings, SettingsError
from tests.support.umask import umask
from tests.support.waiting import at_once

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_what_was_encrypted_is_read_again_and_looks_like_nothing() -> None:
    cipher = TokenCipher([NEW])
    encrypted = cipher.encrypt("token ñ")
    assert "token" not in encrypted
    assert cipher.decrypt(encrypted) == "token ñ"
    assert cipher.encrypt("token ñ") != encrypted, "equal tokens do not look equal"


def test_the_first_key_writes_and_every_key_reads() -> None:
    by_old = TokenCipher([OLD]).encrypt("token")
    both = TokenCipher([NEW, OLD])
    assert both.decrypt(by_old) == "token"
    by_new = both.encrypt("token")
    assert TokenCipher([NEW]).decrypt(by_new) == "token"
    with pytest.raises(TokenUnreadable):
        TokenCipher([OLD]).decrypt(by_new)


def test_a_token_that_cannot_be_read_is_told_with_what_to_do_and_without_the_token() -> None:
    encrypted = TokenCipher([OLD]).encrypt("token")
    with pytest.raises(TokenUnreadable, match="TOKEN_ENCRYPTION_KEYS") as raised:
        TokenCipher([NEW]).decrypt(encrypted)
    assert encrypted not in str(raised.value)
    assert raised.value.__cause__ is None
    for broken in ("", "no token", encrypted[:-4], "ñ"):
        with pytest.raises(TokenUnreadable):
            TokenCipher([OLD]).decrypt(broken)


def test_whether_a_token_is_the_stored_one_can_be_asked() -> None:
    encrypted = TokenCipher([OLD]).encrypt("token")
    assert TokenCipher([NEW, OLD]).opens_to(encrypted, "token")
    assert not TokenCipher([NEW, OLD]).opens_to(encrypted, "tokem")
    assert not TokenCipher([NEW]).opens_to(encrypted, "token")
    assert not TokenCipher([NEW]).opens_to("nonsense", "token")


def test_fingerprints_stay_the_same_while_keys_are_added_in_front() -> None:
    assert TokenCipher([NEW, OLD]).fingerprint_key == TokenCipher([OLD]).fingerprint_key
    assert TokenCipher([NEW]).fingerprint_key != TokenCipher([OLD]).fingerprint_key
    assert OLD.encode() not in TokenCipher([OLD]).fingerprint_key


@pytest.mark.parametrize("key", ["", "short", "ñ" * 44, "x" * 44, "not/a+key"])
def test_what_is_no_key_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(ValueError) as raised:
        TokenCipher([key])
    assert not key or key not in str(raised.value)


AT_HOME = Settings(leadway_api_url="http://127.0.0.1:9")
"""Of tests, demo and development: the API is on this machine."""


def test_with_the_api_on_this_machine_a_key_is_made_once_and_kept_for_its_owner_only(tmp_path: Path) -> None:
    key_file = tmp_path / "var" / "key"
    with umask(0):
        encrypted = cipher_for(AT_HOME, key_file=key_file).encrypt("token")
    assert cipher_for(AT_HOME, key_file=key_file).decrypt(encrypted) == "token"
    assert stat.S_IMODE(os.stat(key_file).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(key_file.parent).st_mode) == 0o700
    assert [file.name for file in key_file.parent.iterdir()] == ["key"]


def test_elsewhere_a_missing_key_is_a_sentence_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TOKEN_ENCRYPTION_KEYS is not set") as raised:
        cipher_for(Settings(), key_file=tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
    command = re.findall(r"python3 (-c '.*')", str(raised.value))[0]
    made = subprocess.run([sys.executable, *shlex.split(command)], capture_output=True, text=True, check=True).stdout
    TokenCipher([made.strip()])


def test_elsewhere_the_key_file_of_make_run_is_read(tmp_path: Path) -> None:
    make_key_file(tmp_path / "key")
    encrypted = cipher_for(Settings(), key_file=tmp_path / "key").encrypt("token")
    assert TokenCipher([(tmp_path / "key").read_text()]).decrypt(encrypted) == "token"


@pytest.mark.parametrize("content", ["", "no key", "\xff"])
def test_a_key_file_that_holds_no_key_is_a_sentence_that_names_it(content: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(content, encoding="latin-1")
    with pytest.raises(SettingsError, match=f"{tmp_path / 'key'} holds is not a Fernet key"):
        cipher_for(Settings(), key_file=tmp_path / "key")


def test_a_key_file_that_cannot_be_read_is_a_sentence_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{tmp_path} cannot be used"):
        cipher_for(Settings(), key_file=tmp_path)


def test_with_keys_no_file_is_made(tmp_path: Path) -> None:
    cipher_for(replace(AT_HOME, token_encryption_keys=(Secret(NEW),)), key_file=tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    ciphers = at_once([lambda: cipher_for(AT_HOME, key_file=key_file)] * 8)
    encrypted = ciphers[0].encrypt("token")
    assert {cipher.decrypt(encrypted) for cipher in ciphers} == {"token"}
