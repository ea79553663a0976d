"""An OpenID Connect provider for tests: signs in whoever its form names, with an RS256 key of its own."""

from __future__ import annotations

import secrets
import time
import uuid
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.routing import Route


class Provider:
    """Serves at ``url`` once `run` is called; ``verified`` is the email_verified claim of every account."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"}, private=True)
        self.codes: dict[str, dict[str, str]] = {}
        app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.metadata),
                Route("/authorize", self.authorize),
                Route("/token", self.token, methods=["POST"]),
                Route("/keys", self.keys),
            ]
        )
        self.server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error"))

    async def metadata(self, _: Request) -> JSONResponse:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def keys(self, _: Request) -> JSONResponse:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def authorize(self, request: Request) -> HTMLResponse | RedirectResponse:
        parameters = dict(request.query_params)
        if "email" not in parameters:
            hidden = "".join(
                f'<input type="hidden" name="{name}" value="{value}">' for name, value in parameters.items()
            )
            return HTMLResponse(f'<form><input name="email">{hidden}<button>Sign in</button></form>')
        code = secrets.token_hex(8)
        self.codes[code] = parameters
        return RedirectResponse(
            f"{parameters['redirect_uri']}?{urlencode({'code': code, 'state': parameters['state']})}", 302
        )

    async def token(self, request: Request) -> JSONResponse:
        form = await request.form()
        parameters = self.codes.pop(str(form["code"]))
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self.url,
            "sub": parameters["email"],
            "aud": parameters["client_id"],
            "iat": now,
            "exp": now + 600,
            "email": parameters["email"],
            "email_verified": not parameters["email"].startswith("unverified"),
        }
        if parameters["email"].startswith("member"):  # as many groups as Entra names
            claims["groups"] = [str(uuid.UUID(bytes=secrets.token_bytes(16))) for _ in range(200)]
        if "nonce" in parameters:
            claims["nonce"] = parameters["nonce"]
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": signed, "expires_in": 600})
