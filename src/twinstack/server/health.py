"""`/livez`, `/readyz` and `/healthz`, whole and one check at a time."""

from __future__ import annotations

from collections.abc import Callable

from twinstack.server.messages import Request, Response

_TEXT = "text/plain; charset=utf-8"
_HEADERS = [("X-Content-Type-Options", "nosniff")]

Check = Callable[[], bool]


class Health:
    """Named checks, in the order in which they are printed. `ready` ones count for /readyz alone."""

    def __init__(self, live: dict[str, Check], ready: dict[str, Check]) -> None:
        self._checks = {"healthz": live, "livez": live, "readyz": live | ready}

    def paths(self) -> list[str]:
        """All that are answered."""
        return [
            path for name, checks in self._checks.items() for path in (f"/{name}", *(f"/{name}/{c}" for c in checks))
        ]

    def answer(self, request: Request) -> Response | None:
        """The answer for a path below one of the three; None for others."""
        endpoint, _, single = request.path.strip("/").partition("/")
        checks = self._checks.get(endpoint)
        if checks is None:
            return None
        if single:
            return self._one(checks, single)
        return self._all(endpoint, checks, request)

    @staticmethod
    def _one(checks: dict[str, Check], name: str) -> Response | None:
        check = checks.get(name)
        if check is None:
            return None
        if check():
            return _plain(200, "ok")
        return _plain(500, "internal server error: failed\n")

    @staticmethod
    def _all(endpoint: str, checks: dict[str, Check], request: Request) -> Response:
        excluded = set(request.query.get("exclude", ()))
        lines, failed = [], False
        for name, check in checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
            elif check():
                lines.append(f"[+]{name} ok")
            else:
                lines.append(f"[-]{name} failed: reason withheld")
                failed = True
        unknown = [f'"{name}"' for name in request.query.get("exclude", ()) if name not in checks]
        if unknown:
            lines.append(f"warn: some health checks cannot be excluded: no matches for {', '.join(unknown)}")
        if failed:
            return _plain(500, "\n".join([*lines, f"{endpoint} check failed", ""]))
        if "verbose" in request.query:
            return _plain(200, "\n".join([*lines, f"{endpoint} check passed", ""]))
        return _plain(200, "ok")


def _plain(status: int, text: str) -> Response:
    return Response(status=status, body=text.encode(), content_type=_TEXT, headers=list(_HEADERS))
