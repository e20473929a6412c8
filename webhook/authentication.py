"""Proves that a notification came from Leadway: by its signature, or by an account's intake secret.

Exactly one credential decides, the strongest that is present, and it is never backed up by a weaker one: a request with
a bad Ed25519 signature is refused although its RSA signature, or the secret in its path, would do. Otherwise an
attacker could choose which lock to pick.
"""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from models.accounts.intake_secrets import hash_secret
from webhook.rejections import Reason

VENDOR_KEYS = (
    """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAi2HR1srL4o18O8BRa7gVJY7G7bupbN3H9AwJrHCDiOg=
-----END PUBLIC KEY-----
""",
    """-----BEGIN PUBLIC KEY-----
MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEAokvo/r9tVgcfZ5DysOSC
Frm602qYV0MaAiNnX9O8KxMbiyRKWeL9JpCpVpt4XHIcBOK4u3cLSqJGOLaPuXw6
dO0t6Q/ZVdAV5Phz+ZtzPL16iCGeK9po6D6JHBpbi989mmzMryUnQJezlYJ3DVfB
csedpinheNnyYeFXolrJvcsjDtfAeRx5ByHQmTnSdFUzuAnC9/GepgLT9SM4nCpv
uxmZMxrJt5Rw+VUaQ9B8JSvbMPpez4peKaJPZHBbU3OdeCVx5klVXXZQGNHOs8gF
3kvoV5rTnXV0IknLBXlcKKAQLZcY/Q9rG6Ifi9c+5vqlvHPCUJFT5XUGG5RKgOKU
J062fRtN+rLYZUV+BjafxQauvC8wSWeYja63VSUruvmNj8xkx2zE/Juc+yjLjTXp
IocmaiFeAO6fUtNjDeFVkhf5LNb59vECyrHD2SQIrhgXpO4Q3dVNA5rw576PwTzN
h/AMfHKIjE4xQA1SZuYJmNnmVZLIZBlQAF9Ntd03rfadZ+yDiOXCCs9FkHibELhC
HULgCsnuDJHcrGNd5/Ddm5hxGQ0ASitgHeMZ0kcIOwKDOzOU53lDza6/Y09T7sYJ
PQe7z0cvj7aE4B+Ax1ZoZGPzpJlZtGXCsu9aTEGEnKzmsFqwcSsnw3JB31IGKAyk
T1hhTiaCeIY/OwwwNUY2yvcCAwEAAQ==
-----END PUBLIC KEY-----
""",
)
"""The vendor's current Ed25519 key and its legacy RSA key, as published in its webhook guide."""

ED25519_HEADER = "X-GHL-Signature"
RSA_HEADER = "X-WH-Signature"
INTAKE_HEADER = "X-Intake-Secret"

_ED25519_BYTES = 64
_SMALLEST_RSA_BITS = 2048
_LONGEST_SECRET = 256
_PEM = re.compile(r"-----BEGIN ((?:RSA )?PUBLIC KEY)-----.*?-----END \1-----", re.DOTALL)


class Method(StrEnum):
    """Which credential proved it."""

    ED25519 = "ed25519"
    RSA = "rsa"
    INTAKE_HEADER = "intake_header"
    INTAKE_PATH = "intake_path"


@dataclass(frozen=True)
class Proof:
    """That a notification is genuine. `location_id` is the secret's account; a signature only says "Leadway": None."""

    method: Method
    location_id: str | None


@dataclass(frozen=True)
class PublicKeys:
    """The keys that a signature may fit, several while one is being replaced. None of a kind: that door is closed."""

    ed25519: tuple[Ed25519PublicKey, ...] = ()
    rsa: tuple[RSAPublicKey, ...] = ()


class NotAuthenticated(Exception):
    """Nothing proves that Leadway sent it; `reason` says what is wrong. Carries nothing of the request."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Headers(Protocol):
    """The request's headers, looked up without regard to case."""

    def get(self, key: str, /) -> str | None: ...


def verify(
    raw_body: bytes,
    headers: Headers,
    *,
    path_secret: str | None,
    keys: PublicKeys,
    account_for_secret: Callable[[str], str | None],
) -> Proof:
    """Decides by X-GHL-Signature, else X-WH-Signature, else X-Intake-Secret, else the secret in the path.

    The first one present decides alone. A signature header that says "N/A" counts as absent, as the vendor's own
    checks have it. Signatures cover the body's bytes as they came, with nothing before them.
    `account_for_secret` maps a secret's hash (`hash_secret`) to a location id; what it raises passes through.
    Raises `NotAuthenticated`.
    """
    if signature := _signature(headers, ED25519_HEADER):
        _verify_ed25519(raw_body, signature, keys.ed25519)
        return Proof(Method.ED25519, location_id=None)
    if signature := _signature(headers, RSA_HEADER):
        _verify_rsa(raw_body, signature, keys.rsa)
        return Proof(Method.RSA, location_id=None)
    if secret := (headers.get(INTAKE_HEADER) or "").strip():
        return Proof(Method.INTAKE_HEADER, _account(secret, account_for_secret))
    if path_secret:
        return Proof(Method.INTAKE_PATH, _account(path_secret, account_for_secret))
    raise NotAuthenticated(Reason.CREDENTIALS_MISSING)


def load_keys(texts: Sequence[str] = VENDOR_KEYS) -> PublicKeys:
    r"""Public keys from PEM texts and paths of PEM files, mixed; a text may hold several, one per line or comma.

    Line breaks may be written as `\n`, as environment files need it. Blank texts count for nothing: no text, no keys.
    Raises `ValueError` with a message for the person who configured it, which quotes no key.
    """
    ed25519: list[Ed25519PublicKey] = []
    rsa: list[RSAPublicKey] = []
    for pem in (pem for text in texts for pem in _pem_blocks(text)):
        try:
            key = load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("a webhook public key is not valid PEM") from None
        if isinstance(key, Ed25519PublicKey):
            ed25519.append(key)
        elif isinstance(key, RSAPublicKey) and key.key_size >= _SMALLEST_RSA_BITS:
            rsa.append(key)
        else:
            raise ValueError(f"a webhook public key is neither Ed25519 nor RSA of {_SMALLEST_RSA_BITS} bits or more")
    return PublicKeys(tuple(ed25519), tuple(rsa))


def _pem_blocks(text: str) -> list[str]:
    text = text.replace("\\n", "\n") if "-----" in text else text
    blocks = [match.group() for match in _PEM.finditer(text)]
    for entry in re.split(r"[,\n]", _PEM.sub("\n", text)):
        if path := entry.strip():
            blocks += _pem_blocks_of_file(path)
    return blocks


def _pem_blocks_of_file(path: str) -> list[str]:
    if "-----" in path:
        raise ValueError("a webhook public key is not a whole PEM block of a public key")
    try:
        content = Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        raise ValueError("a webhook public key is neither PEM text nor the path of a readable PEM file") from None
    blocks = [match.group() for match in _PEM.finditer(content)]
    if not blocks:
        raise ValueError("a file given for webhook public keys holds no PEM block of a public key")
    return blocks


def _signature(headers: Headers, name: str) -> str | None:
    value = (headers.get(name) or "").strip()
    return None if value.upper() == "N/A" else value


def _verify_ed25519(raw_body: bytes, signature: str, keys: Sequence[Ed25519PublicKey]) -> None:
    if not keys:
        raise NotAuthenticated(Reason.SIGNATURE_KEYS_NOT_CONFIGURED)
    signature_bytes = _decode(signature, sizes={_ED25519_BYTES})
    for key in keys:
        try:
            return key.verify(signature_bytes, raw_body)
        except InvalidSignature:
            continue
    raise NotAuthenticated(Reason.SIGNATURE_INVALID)


def _verify_rsa(raw_body: bytes, signature: str, keys: Sequence[RSAPublicKey]) -> None:
    if not keys:
        raise NotAuthenticated(Reason.SIGNATURE_KEYS_NOT_CONFIGURED)
    signature_bytes = _decode(signature, sizes={_size(key) for key in keys})
    for key in keys:
        if _size(key) == len(signature_bytes):
            try:
                return key.verify(signature_bytes, raw_body, PKCS1v15(), SHA256())
            except InvalidSignature:
                continue
    raise NotAuthenticated(Reason.SIGNATURE_INVALID)


def _size(key: RSAPublicKey) -> int:
    return (key.key_size + 7) // 8


def _decode(signature: str, *, sizes: set[int]) -> bytes:
    """The signature's bytes, from standard base64 in its one canonical spelling. Anything else is malformed."""
    if len(signature) <= 4 * max(sizes):  # base64 needs a third more than its bytes: long junk is not even decoded
        try:
            decoded = base64.b64decode(signature, validate=True)
        except ValueError:
            decoded = b""
        if len(decoded) in sizes and base64.b64encode(decoded).decode() == signature:
            return decoded
    raise NotAuthenticated(Reason.SIGNATURE_MALFORMED)


def _account(secret: str, account_for_secret: Callable[[str], str | None]) -> str:
    """The location the secret belongs to. Only hashes are compared, so the time taken tells nothing of the secret."""
    if len(secret) <= _LONGEST_SECRET and secret.isascii():
        location_id = account_for_secret(hash_secret(secret))
        if location_id:
            return location_id
    raise NotAuthenticated(Reason.INTAKE_SECRET_UNKNOWN)
