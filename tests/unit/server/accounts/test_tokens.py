"""Tokens of service accounts: asked for, shown, refused."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.api_client import CONFIG

from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource, resource
from twinstack.pki.signatures import KeySet, Signer, TokenError, load_public, new_key, public_pem
from twinstack.server.accounts.authenticating import AccountTokens
from twinstack.server.accounts.claims import LEGACY_ISSUER
from twinstack.server.accounts.flags import Terms
from twinstack.server.accounts.issuing import TokenRequests
from twinstack.server.accounts.keys import AccountKeys, make_keys
from twinstack.server.authentication import ANONYMOUS, Authenticator, InvalidToken
from twinstack.server.messages import Request, Response, Route, UserInfo
from twinstack.server.registry import SYSTEM, Registry
from twinstack.server.tokenreview import TokenReviews
from twinstack.store.sqlite import SQLiteStore

JSON = dict[str, Any]

ACCOUNTS, PODS, SECRETS = (resource("", plural) for plural in ("serviceaccounts", "pods", "secrets"))
ISSUER = "https://issuer.example"
_TERMS = Terms()
TOKEN_ROUTE = Route(ACCOUNTS, "default", "bot", "token")


class Bench:
    """A registry with an account, and what makes and reads tokens."""

    def __init__(self, registry: Registry, directory: Path, terms: Terms = _TERMS) -> None:
        self.registry = registry
        self.keys = AccountKeys(
            issuers=[ISSUER], audiences=[ISSUER], signing_file=make_keys(directory), address="10.0.0.1:6443"
        )
        self.requests = TokenRequests(registry, self.keys, terms)
        self.authenticator = Authenticator({}, [AccountTokens(self.keys, registry.cache)], self.keys.audiences)

    async def make(self, row: Resource, obj: JSON) -> str:
        """The uid of a new object in the namespace `default`."""
        written = await self.registry.create(Route(row, "default"), obj, SYSTEM)
        return str(written.object["metadata"]["uid"])

    async def remove(self, row: Resource, name: str) -> None:
        await self.registry.delete(Route(row, "default", name), SYSTEM, {"gracePeriodSeconds": 0})

    def ask(self, user: UserInfo = SYSTEM, **spec: Any) -> JSON:
        return self.requests.issue(TOKEN_ROUTE, {"spec": spec}, user)[0]

    def token(self, **spec: Any) -> str:
        return str(self.ask(**spec)["status"]["token"])

    def user(self, token: str, *audiences: str) -> UserInfo:
        return self.authenticator.token_user(token, audiences).user

    def refusal(self, token: str, *audiences: str) -> str:
        with pytest.raises(InvalidToken) as caught:
            self.user(token, *audiences)
        return str(caught.value)


def claims_of(token: str) -> JSON:
    payload = token.split(".")[1]
    claims: JSON = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def pod(name: str, account: str = "bot") -> JSON:
    spec = {"serviceAccountName": account, "nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}
    return {"metadata": {"name": name}, "spec": spec}


@asynccontextmanager
async def bench(directory: Path, terms: Terms = _TERMS) -> AsyncIterator[Bench]:
    registry = Registry(SQLiteStore(str(directory / "db")), CONFIG)
    await registry.open()
    try:
        made = Bench(registry, directory, terms)
        await made.make(ACCOUNTS, {"metadata": {"name": "bot"}})
        yield made
    finally:
        await registry.close()


Work = Callable[[Bench], Coroutine[Any, Any, None]]


def run(directory: Path, work: Work, terms: Terms = _TERMS) -> None:
    async def main() -> None:
        async with bench(directory, terms) as made:
            await work(made)

    asyncio.run(main())


def test_a_token_says_who_asked_and_is_believed(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        answer = made.ask()
        claims = claims_of(answer["status"]["token"])
        assert answer["spec"] == {"audiences": [ISSUER], "expirationSeconds": 3600, "boundObjectRef": None}
        assert claims["exp"] - claims["iat"] == 3600
        assert (claims["iss"], claims["aud"], claims["nbf"]) == (ISSUER, [ISSUER], claims["iat"])
        assert claims["sub"] == "system:serviceaccount:default:bot"
        uid = claims["kubernetes.io"]["serviceaccount"]["uid"]
        assert made.user(answer["status"]["token"]) == UserInfo(
            name="system:serviceaccount:default:bot",
            groups=("system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"),
            uid=uid,
            extra=(("authentication.kubernetes.io/credential-id", (f"JTI={claims['jti']}",)),),
        )

    run(tmp_path, work)


def test_a_pods_token_ends_with_the_pod(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        uid = await made.make(PODS, pod("p"))
        ref = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
        answer = made.ask(boundObjectRef=ref, expirationSeconds=3607)
        token = answer["status"]["token"]
        claims = claims_of(token)
        assert claims["exp"] - claims["iat"] == 365 * 24 * 3600  # it may be used after its hour, with a warning
        assert claims["kubernetes.io"]["warnafter"] - claims["iat"] == 3607
        assert claims["kubernetes.io"]["node"] == {"name": "n1"}
        extra = dict(made.user(token).extra)
        assert extra["authentication.kubernetes.io/pod-name"] == ("p",)
        assert extra["authentication.kubernetes.io/pod-uid"] == (uid,)
        assert extra["authentication.kubernetes.io/node-name"] == ("n1",)
        await made.remove(PODS, "p")
        invalidated = "[invalid bearer token, service account token has been invalidated]"
        assert made.refusal(token) == invalidated
        again = await made.make(PODS, pod("p"))
        mismatch = f"pod UID ({again}) does not match service account pod ref claim ({uid})"
        assert made.refusal(token) == f"[invalid bearer token, {mismatch}]"

    run(tmp_path, work)


def test_an_account_made_anew_is_another(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        token = made.token()
        made.user(token)
        await made.remove(ACCOUNTS, "bot")
        assert made.refusal(token) == '[invalid bearer token, serviceaccounts "bot" not found]'
        await made.make(ACCOUNTS, {"metadata": {"name": "bot"}})
        assert "service account UID (" in made.refusal(token)

    run(tmp_path, work)


def test_audiences(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        token = made.token(audiences=["vault"])
        problem = f'token audiences ["vault"] is invalid for the target audiences ["{ISSUER}"]'
        assert made.refusal(token) == f"[invalid bearer token, {problem}]"
        assert made.authenticator.token_user(token, ["vault", "other"]).audiences == ("vault",)

    run(tmp_path, work)


def test_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(made: Bench) -> None:
        token, now = made.token(expirationSeconds=600), time.time()
        for offset, problem in (
            (600 + 59, ""),
            (600 + 62, "service account token has expired"),
            (-62, "service account token is not valid yet"),
        ):
            monkeypatch.setattr(time, "time", lambda at=now + offset: at)
            fresh = Authenticator({}, [AccountTokens(made.keys, made.registry.cache)])
            if problem:
                with pytest.raises(InvalidToken, match=problem):
                    fresh.token_user(token)
            else:
                fresh.token_user(token)
        monkeypatch.undo()

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ({"expirationSeconds": 599}, 422, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": (1 << 32) + 1}, 422, "may not specify a duration larger than 2^32 seconds"),
        ({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "x"}}, 404, 'pods "x" not found'),
        (
            {"boundObjectRef": {"kind": "Service", "apiVersion": "v1", "name": "x"}},
            400,
            "cannot bind token to object of type /v1, Kind=Service",
        ),
        (
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "other"}},
            400,
            'cannot bind token for serviceaccount "bot" to pod running with different serviceaccount name.',
        ),
        (
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u"}},
            409,
            'Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (u) does not match',
        ),
    ],
)
def test_what_is_not_given(tmp_path: Path, spec: JSON, code: int, message: str) -> None:
    async def work(made: Bench) -> None:
        await made.make(PODS, pod("p"))
        await made.make(PODS, pod("other", "another"))
        with pytest.raises(StatusError) as caught:
            made.ask(**spec)
        assert caught.value.code == code
        assert message in caught.value.message

    run(tmp_path, work)


def test_a_bound_on_lifetimes_shortens_with_a_warning(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        answer, warnings = made.requests.issue(TOKEN_ROUTE, {"spec": {"expirationSeconds": 7200}}, SYSTEM)
        assert answer["spec"]["expirationSeconds"] == 3600
        assert warnings == ["requested expiration of 7200 seconds shortened to 3600 seconds"]

    run(tmp_path, work, Terms(longest=3600))


def test_tokens_of_others(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        (tmp_path / "other").write_bytes(new_key())
        stranger = Signer.load(tmp_path / "other")
        claims = claims_of(made.token())
        assert made.refusal(stranger.sign(claims)) == "[invalid bearer token, no known key has signed it]"
        assert made.refusal(stranger.sign(claims | {"iss": "https://else"})) == "invalid bearer token"
        assert made.refusal("a.b.c") == "invalid bearer token"
        header, body, signature = made.token().split(".")
        for bad in (f"{header}.{body}.", f"{header}.{body}.{signature[:-4]}AAAA", f"e30.{body}.{signature}"):
            assert "invalid bearer token" in made.refusal(bad)

    run(tmp_path, work)


def test_tokens_in_secrets_count_while_the_secret_holds_them(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        uid = claims_of(made.token())["kubernetes.io"]["serviceaccount"]["uid"]
        prefix = "kubernetes.io/serviceaccount"
        token = made.keys.signer.sign(
            {
                "iss": LEGACY_ISSUER,
                f"{prefix}/namespace": "default",
                f"{prefix}/secret.name": "s",
                f"{prefix}/service-account.name": "bot",
                f"{prefix}/service-account.uid": uid,
                "sub": "system:serviceaccount:default:bot",
            }
        )
        assert "invalidated" in made.refusal(token)
        await made.make(SECRETS, {"metadata": {"name": "s"}, "stringData": {"token": token}})
        assert made.user(token).uid == uid
        await made.remove(SECRETS, "s")
        assert "invalidated" in made.refusal(token)

    run(tmp_path, work)


def test_reviews(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        reviews = TokenReviews(made.authenticator)

        async def review(spec: JSON) -> JSON:
            body = json.dumps({"spec": spec}).encode()
            row = resource("authentication.k8s.io", "tokenreviews")
            answer = await reviews.handle(Request("POST", row.path(), {}, {}, body, SYSTEM), Route(row))
            assert isinstance(answer, Response)
            body = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
            return json.loads(body)["status"]  # type: ignore[no-any-return]

        good = await review({"token": made.token()})
        assert good["authenticated"]
        assert good["user"]["username"] == "system:serviceaccount:default:bot"
        assert good["audiences"] == [ISSUER]
        assert await review({"token": "nonsense"}) == {"user": {}, "error": "invalid bearer token"}
        with pytest.raises(StatusError, match="token is required for TokenReview in authentication"):
            await review({})

    run(tmp_path, work)


def test_the_keys_are_told(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        def page(path: str) -> JSON:
            answer = made.keys.answer(Request("GET", path, {}, {}, b"", ANONYMOUS))
            assert answer is not None
            assert isinstance(answer.body, bytes)
            return json.loads(answer.body)  # type: ignore[no-any-return]

        configuration = page("/.well-known/openid-configuration")
        assert configuration["issuer"] == ISSUER
        assert configuration["jwks_uri"] == "https://10.0.0.1:6443/openid/v1/jwks"
        (key,) = page("/openid/v1/jwks")["keys"]
        header = json.loads(base64.urlsafe_b64decode(made.token().split(".")[0] + "=="))
        assert (header["alg"], header["kid"]) == (key["alg"], key["kid"]) == ("ES256", key["kid"])
        assert made.keys.answer(Request("GET", "/openid", {}, {}, b"", ANONYMOUS)) is None

    run(tmp_path, work)


def test_keys_of_either_kind(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    rsa_key = rsa.generate_private_key(65537, 2048).private_bytes(pem, serialization.PrivateFormat.PKCS8, none)
    for name, data, algorithm in (("rsa", rsa_key, "RS256"), ("ec", new_key(), "ES256")):
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"{name}.pub").write_bytes(public_pem(data))
        signer = Signer.load(tmp_path / name)
        token = signer.sign({"sub": "ü"})
        for file in (name, f"{name}.pub"):
            (public,) = load_public(tmp_path / file)
            assert public.algorithm == algorithm
            assert KeySet([public]).verify(token) == {"sub": "ü"}
        with pytest.raises(TokenError):
            KeySet([public]).verify(token[:-8] + "AAAAAAAA")
    both = (tmp_path / "rsa.pub").read_bytes() + (tmp_path / "ec.pub").read_bytes()
    (tmp_path / "both").write_bytes(both)
    assert [key.algorithm for key in load_public(tmp_path / "both")] == ["RS256", "ES256"]


def test_made_keys_are_for_the_owner_alone(tmp_path: Path) -> None:
    path = Path(make_keys(tmp_path))
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    assert make_keys(tmp_path) == str(path)
    assert path.read_bytes() == before
