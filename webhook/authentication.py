"""Proves that a notification came from Leadway: by its signature, or by an account's intake secret.

Exactly one credential decides: the strongest one present. A request with an invalid Ed25519 signature is rejected even
when its RSA signature or the secret in its path is valid; otherwise an attacker could choose which lock to pick.
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
from models.intake.reasons import Reason

VENDOR_KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAi2HR1srL4o18O8BRa7gVJY7G7bupbN3H9AwJrHCDiOg=
-----END PUBLIC KEY-----
"""
"""The vendor's Ed25519 key, as its webhook guide publishes it. Its legacy RSA key signs nothing any more: whoever still
needs that one names it in LEADWAY_WEBHOOK_PUBLIC_KEYS."""

ED25519_HEADER = "X-GHL-Signature"
RSA_HEADER = "X-WH-Signature"
INTAKE_HEADER = "X-Intake-Secret"

_ED25519_BYTES = 64
_SMALLEST_RSA_BITS = 2048
_LONGEST_SECRET = 256
_FIELD = 2**255 - 19
_Y_OF_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
"""Of four points of order 8; the other four points of small order have y = 0, 1 and -1 (RFC 7748, 8032)."""
_PEM = re.compile(r"-----BEGIN ((?:RSA )?PUBLIC KEY)-----.*?-----END \1-----", re.DOTALL)


class Method(StrEnum):
    """Which credential proved where a notification comes from."""

    ED25519 = "ed25519"
    RSA = "rsa"
    INTAKE_HEADER = "intake_header"
    INTAKE_PATH = "intake_path"


@dataclass(frozen=True)
class Proof:
    """Proof that a notification is genuine.

    `location_id`: the account whose intake secret it carried. None for a signature, which only proves that Leadway sent
    the notification.
    """

    method: Method
    location_id: str | None

    @property
    def is_signature(self) -> bool:
        return self.location_id is None


@dataclass(frozen=True)
class PublicKeys:
    """The public keys that a signature may match: several while one is being replaced.

    Without a key of a kind, every signature of that kind is rejected.
    """

    ed25519: tuple[Ed25519PublicKey, ...] = ()
    rsa: tuple[RSAPublicKey, ...] = ()


class NotAuthenticated(Exception):
    """Nothing proves that Leadway sent the notification; `reason` says why not. Carries nothing of the request."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Headers(Protocol):
    """The request's headers; lookups ignore case."""

    def get(self, key: str, /) -> str | None: ...


def verify(
    raw_body: bytes,
    headers: Headers,
    *,
    path_secret: str | None,
    keys: PublicKeys,
    account_for_secret: Callable[[str], str | None],
) -> Proof:
    """Proves who sent a notification: by X-GHL-Signature, else X-WH-Signature, else X-Intake-Secret, else the path.

    The first credential present decides alone. A signature header with the value "N/A" counts as absent, as in the
    vendor's own checks; so does the legacy X-WH-Signature where no RSA key is configured. A signature covers the raw
    bytes of the body and nothing else.
    `account_for_secret` maps the hash of a secret (`hash_secret`) to a location id, or None.

    Raises NotAuthenticated, and what `account_for_secret` raises.
    """
    if signature := _signature(headers, ED25519_HEADER):
        _verify_ed25519(raw_body, signature, keys.ed25519)
        return Proof(Method.ED25519, location_id=None)
    legacy_signature = _signature(headers, RSA_HEADER)
    if legacy_signature and keys.rsa:
        _verify_rsa(raw_body, legacy_signature, keys.rsa)
        return Proof(Method.RSA, location_id=None)
    if secret := (headers.get(INTAKE_HEADER) or "").strip():
        return Proof(Method.INTAKE_HEADER, _account(secret, account_for_secret))
    if path_secret:
        return Proof(Method.INTAKE_PATH, _account(path_secret, account_for_secret))
    raise NotAuthenticated(Reason.SIGNATURE_KEYS_NOT_CONFIGURED if legacy_signature else Reason.CREDENTIALS_MISSING)


def load_keys(texts: Sequence[str] = (VENDOR_KEY,)) -> PublicKeys:
    r"""Reads public keys. A text holds PEM blocks, paths of PEM files, or both, separated by line breaks or commas.

    Line breaks within a PEM block may be written as `\n`, which environment files need. Blank texts give no keys.

    Raises ValueError; its message is for the person who configured the keys and quotes none of them.
    """
    ed25519: list[Ed25519PublicKey] = []
    rsa: list[RSAPublicKey] = []
    for pem in (pem for text in texts for pem in _pem_blocks(text)):
        try:
            key = load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("a webhook public key is not valid PEM") from None
        if isinstance(key, Ed25519PublicKey):
            if _has_small_order(key):
                raise ValueError("a webhook public key is a point of small order, under which anybody can sign")
            ed25519.append(key)
        elif isinstance(key, RSAPublicKey) and key.key_size >= _SMALLEST_RSA_BITS:
            rsa.append(key)
        else:
            raise ValueError(f"a webhook public key is neither Ed25519 nor RSA of {_SMALLEST_RSA_BITS} bits or more")
    return PublicKeys(tuple(ed25519), tuple(rsa))


def _has_small_order(key: Ed25519PublicKey) -> bool:
    """Whether it is one of the curve's eight points of small order, or written as no point is (y beyond the field)."""
    y = int.from_bytes(key.public_bytes_raw(), "little") & ((1 << 255) - 1)  # without the sign of x
    return y >= _FIELD or min(y, _FIELD - y) in (0, 1, _Y_OF_ORDER_8)


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
    """Decodes canonical standard base64 of one of `sizes` bytes. Raises NotAuthenticated for anything else."""
    if len(signature) <= 4 * max(sizes):  # base64 needs 4 characters for 3 bytes: long junk is not decoded at all
        try:
            decoded = base64.b64decode(signature, validate=True)
        except ValueError:
            decoded = b""
        if len(decoded) in sizes and base64.b64encode(decoded).decode() == signature:
            return decoded
    raise NotAuthenticated(Reason.SIGNATURE_MALFORMED)


def _account(secret: str, account_for_secret: Callable[[str], str | None]) -> str:
    """The location id that the secret belongs to. Raises NotAuthenticated.

    Only hashes are compared, so the time taken reveals nothing about the secret.
    """
    if len(secret) <= _LONGEST_SECRET and secret.isascii():
        location_id = account_for_secret(hash_secret(secret))
        if location_id:
            return location_id
    raise NotAuthenticated(Reason.INTAKE_SECRET_UNKNOWN)
