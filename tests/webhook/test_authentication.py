"""Who may tell us of a call: signatures over the raw bytes, intake secrets, and nobody else."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from models.accounts.intake_secrets import hash_secret, new_secret
from models.intake.reasons import Reason
from webhook.authentication import Method, NotAuthenticated, Proof, PublicKeys, load_keys, verify

BODY = b'{"type":"VoiceAiCallEnd","id":"6a25186f17a921dd841b287b","summary":"\xc2\xbfQui\xc3\xa9n?","duration":1.0}'
ED25519, NEXT_ED25519, FOREIGN_ED25519 = (Ed25519PrivateKey.generate() for _ in range(3))
RSA = rsa.generate_private_key(public_exponent=65537, key_size=4096)
SMALLER_RSA, FOREIGN_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
KEYS = PublicKeys(
    ed25519=(ED25519.public_key(), NEXT_ED25519.public_key()), rsa=(RSA.public_key(), SMALLER_RSA.public_key())
)
SECRET = new_secret()
WRONG_SECRET = new_secret()


def pem(key: Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def base64_of(signature: bytes) -> str:
    return base64.b64encode(signature).decode()


def ed25519_signature(body: bytes = BODY, *, key: Ed25519PrivateKey = ED25519) -> str:
    return base64_of(key.sign(body))


def rsa_signature(body: bytes = BODY, *, key: rsa.RSAPrivateKey = RSA) -> str:
    return base64_of(key.sign(body, PKCS1v15(), SHA256()))


def account_for_secret(secret_hash: str) -> str | None:
    return {hash_secret(SECRET): "LOC_1"}.get(secret_hash)


def no_look_up(_secret_hash: str) -> str | None:
    raise AssertionError("the secret was looked at")


def proof_of(
    headers: dict[str, str] | None = None,
    *,
    body: bytes = BODY,
    path_secret: str | None = None,
    keys: PublicKeys = KEYS,
    look_up: Callable[[str], str | None] = account_for_secret,
) -> Proof:
    return verify(body, Headers(headers or {}), path_secret=path_secret, keys=keys, account_for_secret=look_up)


def refusal_of(
    headers: dict[str, str] | None = None,
    *,
    body: bytes = BODY,
    path_secret: str | None = None,
    keys: PublicKeys = KEYS,
    look_up: Callable[[str], str | None] = account_for_secret,
) -> Reason:
    with pytest.raises(NotAuthenticated) as refused:
        proof_of(headers, body=body, path_secret=path_secret, keys=keys, look_up=look_up)
    return refused.value.reason


# Signatures


@pytest.mark.parametrize("key", [ED25519, NEXT_ED25519])
def test_an_ed25519_signature_by_any_configured_key_proves_that_leadway_sent_it(key: Ed25519PrivateKey) -> None:
    assert proof_of({"x-ghl-signature": ed25519_signature(key=key)}) == Proof(Method.ED25519, None)


@pytest.mark.parametrize("key", [RSA, SMALLER_RSA])
def test_a_legacy_rsa_signature_by_any_configured_key_proves_it_too(key: rsa.RSAPrivateKey) -> None:
    assert proof_of({"x-wh-signature": rsa_signature(key=key)}) == Proof(Method.RSA, None)


def test_a_forged_signature_is_refused() -> None:
    assert refusal_of({"X-GHL-Signature": ed25519_signature(key=FOREIGN_ED25519)}) is Reason.SIGNATURE_INVALID
    assert refusal_of({"X-WH-Signature": rsa_signature(key=FOREIGN_RSA)}) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "changed",
    [BODY + b" ", BODY.replace(b":", b": "), BODY.replace(b"1.0", b"1"), b"", BODY.replace(b"\xc2\xbf", b"\\u00bf")],
)
def test_a_signature_covers_the_bytes_as_they_came_not_what_they_mean(changed: bytes) -> None:
    assert refusal_of({"X-GHL-Signature": ed25519_signature()}, body=changed) is Reason.SIGNATURE_INVALID
    assert refusal_of({"X-WH-Signature": rsa_signature()}, body=changed) is Reason.SIGNATURE_INVALID


def test_an_rsa_signature_with_another_padding_is_refused() -> None:
    signature = RSA.sign(BODY, PSS(mgf=MGF1(SHA256()), salt_length=32), SHA256())
    assert refusal_of({"X-WH-Signature": base64_of(signature)}) is Reason.SIGNATURE_INVALID


def test_an_hmac_under_the_signatures_name_is_refused() -> None:
    assert refusal_of({"X-GHL-Signature": hashlib.sha256(BODY).hexdigest()}) is Reason.SIGNATURE_MALFORMED


MALFORMED = [
    "!",
    "sha256=abc",
    base64_of(b"x" * 63),
    base64_of(b"x" * 65),
    base64_of(b"x" * 64).rstrip("="),
    base64_of(b"x" * 64) + "=",
    base64_of(b"x" * 63 + b"\x00")[:-4] + "AB==",  # bits that count for nothing are set
    base64_of(b"\xff" * 64).replace("/", "_"),  # the alphabet of URLs
    base64_of(b"x" * 64)[:40] + " " + base64_of(b"x" * 64)[40:],
    f"{ed25519_signature()}, {ed25519_signature()}",  # what a header sent twice becomes
    "ñ" * 88,
    "\udcff" * 88,
    "A" * 1_000_000,
]


@pytest.mark.parametrize("value", MALFORMED, ids=map(str, range(len(MALFORMED))))
@pytest.mark.parametrize("name", ["X-GHL-Signature", "X-WH-Signature"])
def test_a_header_that_is_no_signature_is_refused_by_its_form(name: str, value: str) -> None:
    assert refusal_of({name: value}) is Reason.SIGNATURE_MALFORMED


# Which credential decides


@pytest.mark.parametrize("bad", [ed25519_signature(key=FOREIGN_ED25519), "junk"], ids=["foreign", "junk"])
def test_a_bad_ed25519_signature_is_not_outvoted_by_a_good_rsa_one_or_a_good_secret(bad: str) -> None:
    headers = {"X-GHL-Signature": bad, "X-WH-Signature": rsa_signature(), "X-Intake-Secret": SECRET}
    reason = refusal_of(headers, path_secret=SECRET, look_up=no_look_up)
    assert reason in (Reason.SIGNATURE_INVALID, Reason.SIGNATURE_MALFORMED)


def test_a_bad_rsa_signature_is_not_outvoted_by_a_good_secret() -> None:
    headers = {"X-WH-Signature": rsa_signature(key=FOREIGN_RSA), "X-Intake-Secret": SECRET}
    assert refusal_of(headers, path_secret=SECRET, look_up=no_look_up) is Reason.SIGNATURE_INVALID


def test_a_good_signature_decides_over_a_wrong_secret_in_the_path() -> None:
    proof = proof_of({"X-GHL-Signature": ed25519_signature()}, path_secret=WRONG_SECRET, look_up=no_look_up)
    assert proof == Proof(Method.ED25519, None)


@pytest.mark.parametrize("absent", ["N/A", " n/a ", "", "  "])
def test_a_signature_header_that_says_nothing_counts_as_absent(absent: str) -> None:
    with_rsa = {"X-GHL-Signature": absent, "X-WH-Signature": rsa_signature()}
    assert proof_of(with_rsa) == Proof(Method.RSA, None)
    none = {"X-GHL-Signature": absent, "X-WH-Signature": absent, "X-Intake-Secret": ""}
    assert proof_of(none, path_secret=SECRET) == Proof(Method.INTAKE_PATH, "LOC_1")
    assert refusal_of(none) is Reason.CREDENTIALS_MISSING


# Intake secrets


def test_an_intake_secret_proves_its_account_by_header_or_by_path() -> None:
    assert proof_of({"x-intake-secret": SECRET}) == Proof(Method.INTAKE_HEADER, "LOC_1")
    assert proof_of(path_secret=SECRET) == Proof(Method.INTAKE_PATH, "LOC_1")


def test_a_wrong_secret_in_the_header_is_not_outvoted_by_a_right_one_in_the_path() -> None:
    assert refusal_of({"X-Intake-Secret": WRONG_SECRET}, path_secret=SECRET) is Reason.INTAKE_SECRET_UNKNOWN


@pytest.mark.parametrize(
    "secret", [WRONG_SECRET, SECRET[:-1], SECRET + "A", hash_secret(SECRET)], ids=["other", "shorter", "longer", "hash"]
)
def test_a_secret_that_is_nearly_right_is_refused(secret: str) -> None:
    assert refusal_of({"X-Intake-Secret": secret}) is Reason.INTAKE_SECRET_UNKNOWN
    assert refusal_of(path_secret=secret) is Reason.INTAKE_SECRET_UNKNOWN


@pytest.mark.parametrize(
    "secret", ["ñ" * 43, "\udcff", "x" * 1_000_000], ids=["foreign letters", "surrogate", "too long"]
)
def test_a_secret_that_none_of_ours_can_be_is_not_even_looked_up(secret: str) -> None:
    assert refusal_of({"X-Intake-Secret": secret}, look_up=no_look_up) is Reason.INTAKE_SECRET_UNKNOWN
    assert refusal_of(path_secret=secret, look_up=no_look_up) is Reason.INTAKE_SECRET_UNKNOWN


def test_a_request_with_nothing_is_refused() -> None:
    assert refusal_of() is Reason.CREDENTIALS_MISSING


def test_a_failing_look_up_is_not_mistaken_for_a_wrong_secret() -> None:
    def database_away(_secret_hash: str) -> str | None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        proof_of(path_secret=SECRET, look_up=database_away)


def test_only_a_secrets_hash_is_looked_up_and_a_refusal_does_not_tell_it() -> None:
    seen: list[str] = []
    with pytest.raises(NotAuthenticated) as refused:
        proof_of(path_secret=SECRET, look_up=lambda secret_hash: seen.append(secret_hash))
    assert seen == [hashlib.sha256(SECRET.encode()).hexdigest()]
    assert SECRET not in repr(refused.value) + str(refused.value)


def test_new_secrets_differ_and_fit_into_a_url() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(len(secret) == 43 and secret.replace("-", "").replace("_", "").isalnum() for secret in secrets)


# Keys


def test_the_vendors_current_key_is_built_in_exactly_and_its_legacy_key_is_not() -> None:
    keys = load_keys()
    (current,) = keys.ed25519
    raw = current.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert raw.hex() == "8b61d1d6cacbe28d7c3bc0516bb815258ec6edbba96cddc7f40c09ac708388e8"
    assert keys.rsa == ()


def test_without_an_rsa_key_a_legacy_signature_opens_nothing_and_hides_no_secret() -> None:
    keys = load_keys([pem(ED25519)])
    headers = {"X-WH-Signature": rsa_signature()}
    assert refusal_of(headers, keys=keys) is Reason.SIGNATURE_KEYS_NOT_CONFIGURED
    assert proof_of(headers, keys=keys, path_secret=SECRET).method is Method.INTAKE_PATH


@pytest.mark.parametrize("texts", [[], [""], [" \n"]])
def test_an_empty_configuration_closes_the_door_to_every_signature(texts: list[str]) -> None:
    keys = load_keys(texts)
    for headers in ({"X-GHL-Signature": ed25519_signature()}, {"X-WH-Signature": rsa_signature()}):
        assert refusal_of(headers, keys=keys) is Reason.SIGNATURE_KEYS_NOT_CONFIGURED
    assert proof_of(path_secret=SECRET, keys=keys).location_id == "LOC_1"


def test_a_key_of_one_kind_leaves_the_other_door_closed() -> None:
    keys = load_keys([pem(RSA)])
    headers = {"X-GHL-Signature": ed25519_signature(), "X-WH-Signature": rsa_signature()}
    assert refusal_of(headers, keys=keys) is Reason.SIGNATURE_KEYS_NOT_CONFIGURED
    assert proof_of({"X-WH-Signature": rsa_signature()}, keys=keys).method is Method.RSA


def test_keys_are_read_from_pem_texts_and_files_in_any_mixture(tmp_path: Path) -> None:
    file = tmp_path / "keys of mine.pem"
    file.write_text("the next two\n" + pem(NEXT_ED25519) + pem(RSA))
    mixtures = [
        [pem(ED25519), str(file)],
        [f"{pem(ED25519)},{file}"],
        [f"{file}\n{pem(ED25519)}"],
        [pem(ED25519).replace("\n", "\\n"), str(file)],
        [pem(ED25519) + pem(NEXT_ED25519) + pem(RSA)],
    ]
    for texts in mixtures:
        keys = load_keys(texts)
        assert (len(keys.ed25519), len(keys.rsa)) == (2, 1), texts
        assert proof_of({"X-GHL-Signature": ed25519_signature(key=NEXT_ED25519)}, keys=keys)
        assert proof_of({"X-GHL-Signature": ed25519_signature()}, keys=keys)


def test_what_is_no_usable_public_key_is_named_at_start_without_quoting_it(tmp_path: Path) -> None:
    private = ED25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    unusable = [
        private,
        pem(ED25519)[:60],
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
        str(empty),
        str(tmp_path / "missing.pem"),
        str(tmp_path),
        "nul\x00",
        "x" * 5000,
    ]
    for text in unusable:
        with pytest.raises(ValueError, match="webhook public key") as refused:
            load_keys([text])
        assert text.splitlines()[-1] not in str(refused.value)
        assert private.splitlines()[1] not in str(refused.value)


def test_keys_under_which_anybody_can_sign_are_refused() -> None:
    points = {_point_with(y) for y in range(2, 40)} - {None}
    small = {_written(multiple) for point in points for multiple in _multiples(_times(_ORDER, point))}
    assert len(small) == 8, "the curve has eight points of small order"
    beyond = {(_P + extra | sign << 255).to_bytes(32, "little") for extra in range(19) for sign in (0, 1)}
    mirrored = {_with_sign_turned(raw) for raw in small}  # x = 0 has no other sign: no point, and taken by some
    for raw in small | beyond | mirrored:
        with pytest.raises(ValueError, match="point of small order"):
            load_keys([_pem_of(raw)])
    load_keys([pem(ED25519), pem(NEXT_ED25519)])


def _pem_of(raw: bytes) -> str:
    public = Ed25519PublicKey.from_public_bytes(raw)
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


# Edwards' curve 25519, by the formulas of RFC 8032: only for the points above.

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
Point = tuple[int, int]


def _point_with(y: int) -> Point | None:
    """A point with this y, of whatever order; None: there is none."""
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    return None if (x * x - square) % _P else (x, y)


def _sum(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    product = _D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, _P) % _P
    return x, (y1 * y2 + x1 * x2) * pow(1 - product, -1, _P) % _P


def _times(number: int, point: Point | None) -> Point:
    assert point is not None
    result = (0, 1)
    while number:
        result = _sum(result, point) if number & 1 else result
        point, number = _sum(point, point), number >> 1
    return result


def _multiples(point: Point) -> list[Point]:
    return [_times(number, point) for number in range(8)]


def _written(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def _with_sign_turned(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 0x80])


# Anything at all


headers_of_any_kind = st.dictionaries(
    st.sampled_from(["X-GHL-Signature", "X-WH-Signature", "X-Intake-Secret"]),
    st.text(st.characters(blacklist_characters="\r\n"), max_size=100)
    | st.binary(max_size=70).map(base64_of)
    | st.sampled_from([base64_of(b"x" * 64), base64_of(b"x" * 512), base64_of(b"\xff" * 256), "N/A"]),
)


@settings(deadline=None)
@given(body=st.binary(max_size=200), headers=headers_of_any_kind, path_secret=st.none() | st.text(max_size=300))
def test_whatever_is_sent_is_refused_and_nothing_else_is_raised(
    body: bytes, headers: dict[str, str], path_secret: str | None
) -> None:
    assert refusal_of(headers, body=body, path_secret=path_secret).http_status == 401


@settings(deadline=None)
@given(body=st.binary(max_size=2000))
def test_whatever_leadway_signs_is_let_in(body: bytes) -> None:
    assert proof_of({"X-GHL-Signature": ed25519_signature(body)}, body=body) == Proof(Method.ED25519, None)
