"""The intake secret of an account: how a new one is made, and its hash, the only form in which it is stored."""

import hashlib
import secrets


def new_secret() -> str:
    """A fresh secret: 32 random bytes, as 43 characters that a URL and a header carry unchanged."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """SHA-256 of the secret as 64 hex digits.

    Unsalted and fast on purpose: it is looked up by its hash, and 256 random bits need no slow hash to protect them.
    """
    return hashlib.sha256(secret.encode()).hexdigest()
