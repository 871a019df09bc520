"""JSON Web Tokens (RFC 7519) as Kubernetes signs them: RS256 or ES256, the key named by a hash of itself.

Importing this module loads `cryptography` (60 ms, 14 MB), so import it where a token is signed or first seen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

JSON = dict[str, Any]
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_CURVE_BYTES = 32  # of a coordinate of P-256
_BEGIN, _END = b"-----BEGIN ", b"-----END "


class TokenError(ValueError):
    """A token that is none, or whose signature nobody made whom we know."""


class Signer:
    """Signs claims with one private key."""

    def __init__(self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = Verifier(key.public_key())

    @classmethod
    def load(cls, path: Path | str) -> Signer:
        """Read a PEM private key. Raises OSError, ValueError."""
        try:
            key = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from None
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path}: neither an RSA nor an elliptic-curve key")
        return cls(key)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The compact form of a token with these claims."""
        header = {"alg": self.public.algorithm, "kid": self.public.key_id}
        signed = f"{_part(header)}.{_part(claims)}"
        if isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
            signature = r.to_bytes(_CURVE_BYTES, "big") + s.to_bytes(_CURVE_BYTES, "big")
        return f"{signed}.{_base64(signature)}"


class Verifier:
    """One public key: RSA, or elliptic-curve on P-256. Raises ValueError for others."""

    def __init__(self, key: object) -> None:
        if isinstance(key, rsa.RSAPublicKey):
            self.algorithm = "RS256"
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            self.algorithm = "ES256"
        else:
            raise ValueError("a key for tokens must be RSA, or elliptic-curve on P-256")
        self._key: PublicKey = key
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        self.key_id = _base64(hashlib.sha256(key.public_bytes(encoding, form)).digest())

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        try:
            if isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            elif len(signature) == 2 * _CURVE_BYTES:
                r, s = (int.from_bytes(half, "big") for half in (signature[:_CURVE_BYTES], signature[_CURVE_BYTES:]))
                self._key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
            else:
                return False
        except InvalidSignature:
            return False
        return True

    def as_jwk(self) -> JSON:
        """The key as a JSON Web Key (RFC 7517)."""
        named = {"use": "sig", "kid": self.key_id, "alg": self.algorithm}
        if isinstance(self._key, rsa.RSAPublicKey):
            numbers = self._key.public_numbers()
            return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)} | named
        point = self._key.public_numbers()
        coordinates = {name: _number(value, _CURVE_BYTES) for name, value in (("x", point.x), ("y", point.y))}
        return {"kty": "EC", "crv": "P-256"} | coordinates | named


class KeySet:
    """The keys whose signatures count."""

    def __init__(self, keys: Iterable[Verifier]) -> None:
        self.keys = list({key.key_id: key for key in keys}.values())

    def verify(self, token: str) -> JSON:
        """The claims of a token that one of the keys has signed. Raises TokenError."""
        signed, _, tail = token.rpartition(".")
        header, signature = _object(signed.partition(".")[0]), _bytes(tail)
        named = [key for key in self.keys if key.key_id == header.get("kid")]
        for key in named or self.keys:
            if header.get("alg") == key.algorithm and key.verifies(signed.encode(), signature):
                return _object(signed.partition(".")[2])
        raise TokenError("no known key has signed it")


def load_public(path: Path | str) -> list[Verifier]:
    """Every key of a PEM file: public keys, private ones, certificates. Raises OSError, ValueError."""
    data = Path(path).read_bytes()
    blocks = [_BEGIN + block.partition(_END)[0] + _END + _label(block) for block in data.split(_BEGIN)[1:]]
    if not blocks:
        raise ValueError(f"{path}: data does not contain any valid RSA or ECDSA public keys")
    try:
        return [Verifier(_public_key(block)) for block in blocks if b"PARAMETERS" not in block]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def new_key() -> bytes:
    """A new elliptic-curve key on P-256, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(private_pem: bytes) -> bytes:
    """The public half of a private key. Raises ValueError."""
    key = serialization.load_pem_private_key(private_pem, password=None)
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _label(block: bytes) -> bytes:
    return block.partition(b"-----")[0] + b"-----\n"


def _public_key(pem: bytes) -> object:
    if b"PRIVATE KEY" in pem:
        return serialization.load_pem_private_key(pem, password=None).public_key()
    if b"BEGIN CERTIFICATE" in pem:
        return x509.load_pem_x509_certificate(pem).public_key()
    return serialization.load_pem_public_key(pem)


def _part(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int, length: int = 0) -> str:
    return _base64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenError("not base64") from None


def _object(text: str) -> JSON:
    try:
        value = json.loads(_bytes(text))
    except (ValueError, RecursionError):
        raise TokenError("not a JSON Web Token") from None
    if not isinstance(value, dict):
        raise TokenError("not a JSON Web Token")
    return value
