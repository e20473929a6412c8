"""The double's own key pairs: signs notification bodies as the vendor does, and gives away the public halves."""

import base64
import functools

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signer:
    """Fresh Ed25519 keys per double; the slow RSA key (4096 bit, as the vendor's) is made once per process."""

    def __init__(self) -> None:
        self._ed25519 = Ed25519PrivateKey.generate()
        self._stranger = Ed25519PrivateKey.generate()

    def ed25519(self, body: bytes) -> str:
        """The value of `X-GHL-Signature`."""
        return base64.b64encode(self._ed25519.sign(body)).decode()

    def forged(self, body: bytes) -> str:
        """A well-formed signature by a key that nobody knows."""
        return base64.b64encode(self._stranger.sign(body)).decode()

    def rsa(self, body: bytes) -> str:
        """The value of the legacy `X-WH-Signature`."""
        return base64.b64encode(_rsa_key().sign(body, padding.PKCS1v15(), hashes.SHA256())).decode()

    @property
    def ed25519_public_pem(self) -> str:
        return _public_pem(self._ed25519)

    @property
    def rsa_public_pem(self) -> str:
        return _public_pem(_rsa_key())


@functools.cache
def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)


def _public_pem(key: rsa.RSAPrivateKey | Ed25519PrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
