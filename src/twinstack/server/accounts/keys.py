"""The keys of service-account tokens: read when the first token is signed or seen, told to whoever wants to verify.

`/openid/v1/jwks` and `/.well-known/openid-configuration` are those of OpenID Connect Discovery 1.0 (KEP-1393).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from twinstack.server.messages import Request, Response

if TYPE_CHECKING:
    from twinstack.pki.signatures import KeySet, Signer

JSON = dict[str, Any]

CONFIGURATION_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/openid/v1/jwks"
DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"
_HEADERS = [("Cache-Control", "public, max-age=3600")]


class AccountKeys:
    """`issuers`: the first signs, all are believed. `files` hold keys that are believed, `signing_file` the one that
    signs. `address`: HOST:PORT of this server, for the default of `jwks_uri`.

    `cryptography` costs 60 ms and 14 MB: a server without tokens does without it.
    """

    def __init__(
        self,
        *,
        issuers: Sequence[str],
        audiences: Sequence[str],
        signing_file: str,
        files: Sequence[str] = (),
        jwks_uri: str = "",
        address: str = "",
    ) -> None:
        self.issuers = tuple(issuers)
        self.audiences = tuple(audiences)
        self._signing_file = signing_file
        self._files = tuple(files)
        self._jwks_uri = jwks_uri or f"https://{address}{KEYS_PATH}"

    @property
    def issuer(self) -> str:
        return self.issuers[0]

    @cached_property
    def signer(self) -> Signer:
        """Raises OSError, ValueError."""
        from twinstack.pki.signatures import Signer

        return Signer.load(self._signing_file)

    @cached_property
    def verifiers(self) -> KeySet:
        """Every key that is believed. Raises OSError, ValueError."""
        from twinstack.pki.signatures import KeySet, load_public

        return KeySet([key for file in self._files or (self._signing_file,) for key in load_public(file)])

    def check(self) -> None:
        """Whether the files are there and hold PEM; more is read when it is needed. Raises OSError, ValueError."""
        for file in (self._signing_file, *self._files):
            if b"-----BEGIN " not in Path(file).read_bytes():
                raise ValueError(f"{file}: not a key in PEM")

    def answer(self, request: Request) -> Response | None:
        """The documents for those who verify tokens themselves; None for other paths."""
        if request.path == KEYS_PATH:
            body = msgspec.json.encode({"keys": [key.as_jwk() for key in self.verifiers.keys]})
            return Response(status=200, body=body, content_type="application/jwk-set+json", headers=_HEADERS)
        if request.path == CONFIGURATION_PATH:
            document = {
                "issuer": self.issuer,
                "jwks_uri": self._jwks_uri,
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": sorted({key.algorithm for key in self.verifiers.keys}),
            }
            return Response(status=200, body=msgspec.json.encode(document), headers=_HEADERS)
        return None


def make_keys(directory: Path) -> str:
    """`sa.key` and `sa.pub` in `directory`, made if absent, for a server that was given none; the key's path."""
    key, public = directory / "sa.key", directory / "sa.pub"
    if not key.exists():
        from twinstack.pki.files import write_secret
        from twinstack.pki.signatures import new_key, public_pem

        pem = new_key()
        write_secret(public, public_pem(pem), 0o644)
        write_secret(key, pem)
    return str(key)
