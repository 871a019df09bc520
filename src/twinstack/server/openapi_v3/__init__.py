"""OpenAPI v3: what the API looks like, for `kubectl explain`, completion and patches, made from the tables.

`schemas` describes types, `paths` requests, `documents` puts them together and answers. Nothing of it is loaded or
built before the first request.
"""

from twinstack.server.openapi_v3.documents import answer

__all__ = ["answer"]
