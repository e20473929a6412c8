"""Encryption of the API tokens in the database, with Fernet: the first key encrypts, every key decrypts."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

KEY_FILE = Path("var/token-encryption-key")


class TokenUnreadable(Exception):
    """None of TOKEN_ENCRYPTION_KEYS opens a stored token: the key that wrote it is missing."""


class TokenCipher:
    """Encrypts and decrypts with one list of keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises ValueError when a key is no Fernet key (32 bytes, url-safe base64)."""
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        # The oldest key, so that fingerprints stay the same while newer keys are added in front.
        self.fingerprint_key = hmac.digest(keys[-1].encode(), b"fingerprints of redacted secrets", hashlib.sha256)

    def encrypt(self, token: str) -> str:
        return self._fernet.encrypt(token.encode()).decode()

    def decrypt(self, encrypted: str) -> str:
        """Raises TokenUnreadable."""
        try:
            return self._fernet.decrypt(encrypted.encode()).decode()
        except InvalidToken:
            raise TokenUnreadable(
                "a stored API token cannot be read: put the key that wrote it back into TOKEN_ENCRYPTION_KEYS,"
                " or set the token anew with `leadway-calls accounts set-token`"
            ) from None

    def opens_to(self, encrypted: str, token: str) -> bool:
        """Whether `encrypted` decrypts to `token`. False too when no key decrypts it."""
        try:
            return hmac.compare_digest(self._fernet.decrypt(encrypted.encode()), token.encode())
        except InvalidToken:
            return False


def cipher_for(keys: Sequence[str], *, key_file: Path = KEY_FILE) -> TokenCipher:
    """The cipher of the configured keys, or without any of a key that is made once and kept in `key_file`."""
    return TokenCipher(tuple(keys) or (_kept_key(key_file),))


def _kept_key(path: Path) -> str:
    """Reads the key file, or makes it under another name and links it: processes that start at once get one key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Not the process id: containers that share a volume have the same ones.
        aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            pass  # another process was first: its key is used
        finally:
            aside.unlink()
    return path.read_text().strip()
