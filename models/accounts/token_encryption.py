"""Encryption of the API tokens in the database, with Fernet: the first key encrypts, every key decrypts."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from models.settings import Settings, SettingsError, is_loopback
from models.settings.places import make_private

KEY_FILE = Path("var/token-encryption-key")
MAKE_ONE = (
    "Make one with: python3 -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
    " and set it, the same for every process and command"
)


class TokenUnreadable(Exception):
    """None of TOKEN_ENCRYPTION_KEYS opens a stored token: the key that wrote it is missing."""


class TokenCipher:
    """Encrypts and decrypts with one list of keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises ValueError when a key is no Fernet key (32 bytes, url-safe base64)."""
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        # The oldest key, so that fingerprints stay the same while newer keys are added in front.
        self.session_keys = [hmac.digest(key.encode(), b"sessions of the pages", hashlib.sha256) for key in keys]
        """The first one signs, all are believed."""
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


def cipher_for(settings: Settings, *, key_file: Path = KEY_FILE) -> TokenCipher:
    """The cipher of the configured keys, or without any of the key in `key_file`. Raises SettingsError.

    The file is made here only where the API is on this machine. Elsewhere each container would make a key of its own,
    and could not read the tokens of the others (docs/decisions/0097).
    """
    keys = [key.get_secret_value() for key in settings.token_encryption_keys]
    try:
        if not keys and is_loopback(settings.leadway_api_url):
            make_key_file(key_file)
        return TokenCipher(keys or [key_file.read_text().strip()])
    except FileNotFoundError:
        told = f"TOKEN_ENCRYPTION_KEYS is not set, so no API token can be stored or read. {MAKE_ONE}"
    except OSError as error:
        told = (
            f"the key file {key_file} cannot be used ({error.strerror}): set TOKEN_ENCRYPTION_KEYS, or run this in the"
            " folder in which the system runs"
        )
    except ValueError:
        where = "TOKEN_ENCRYPTION_KEYS: at least one" if keys else f"what the key file {key_file} holds"
        told = f"{where} is not a Fernet key (32 bytes, url-safe base64). {MAKE_ONE}"
    raise SettingsError(told)


def make_key_file(path: Path = KEY_FILE) -> None:
    """Makes it, if it is missing, under another name and links it: who starts at once gets one key. Raises OSError."""
    make_private(path.parent)
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
