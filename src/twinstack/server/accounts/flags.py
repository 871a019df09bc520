"""The flags of tokens, with kube-apiserver's names and meanings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from twinstack.api.times import parse_duration
from twinstack.server.accounts.keys import DEFAULT_ISSUER, AccountKeys, make_keys
from twinstack.server.flags import FlagError

_SHORTEST = 3600  # seconds: a bound below would leave no token at all
_LONGEST = 1 << 32


class Terms(NamedTuple):
    """How long tokens count: `longest` in seconds if bounded, and whether those of pods live on for a year."""

    longest: int = 0
    extend: bool = True


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--service-account-signing-key-file", default="", metavar="FILE", help="signs tokens; made in --cert-dir")
    add("--service-account-key-file", action="append", default=[], metavar="FILE", help="whose tokens are believed")
    add("--service-account-issuer", action="append", default=[], metavar="URL", help="of tokens; the first signs")
    add("--service-account-jwks-uri", default="", metavar="URL", help="where others find the keys of tokens")
    add("--service-account-max-token-expiration", default="0", metavar="DURATION", help="longest life of a token")
    _add_boolean(parser, "--service-account-extend-token-expiration", True, "pods' tokens outlive their hour")
    add("--api-audiences", default="", metavar="NAMES", help="for whom tokens are; otherwise the issuers")
    _add_boolean(parser, "--enable-bootstrap-token-auth", False, "Secrets with bootstrap tokens let machines join")


def account_keys(args: argparse.Namespace, address: str) -> AccountKeys:
    """The keys that the flags name, or new ones in `--cert-dir`; `address` is HOST:PORT of this server.

    Raises FlagError, OSError, ValueError.
    """
    issuers = _issuers(args.service_account_issuer)
    keys = AccountKeys(
        issuers=issuers,
        audiences=[each for each in args.api_audiences.split(",") if each] or issuers,
        signing_file=args.service_account_signing_key_file or make_keys(Path(args.cert_dir)),
        files=args.service_account_key_file,
        jwks_uri=args.service_account_jwks_uri,
        address=address,
    )
    keys.check()
    return keys


def terms(args: argparse.Namespace) -> Terms:
    """Raises FlagError."""
    try:
        seconds = int(parse_duration(args.service_account_max_token_expiration))
    except ValueError as error:
        raise FlagError(f"--service-account-max-token-expiration: {error}") from error
    if seconds and not _SHORTEST <= seconds <= _LONGEST:
        raise FlagError("the service-account-max-token-expiration must be between 1 hour and 2^32 seconds")
    return Terms(seconds, args.service_account_extend_token_expiration)


def _issuers(values: Sequence[str]) -> tuple[str, ...]:
    for value in values:
        if ":" in value and not value.startswith("https://"):
            raise FlagError(f"service-account-issuer {value!r} contained a ':' but was not a valid URL")
    return tuple(values) or (DEFAULT_ISSUER,)


def _add_boolean(parser: argparse.ArgumentParser, name: str, default: bool, text: str) -> None:
    parser.add_argument(name, type=_boolean, nargs="?", const=True, default=default, metavar="BOOL", help=text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"
