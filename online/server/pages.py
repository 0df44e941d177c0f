"""All routes but the fast ones, and the description of all of them: FastAPI."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from unskew.online.server.catalogue import Health, Problems, Readiness, Sets, described
from unskew.online.server.description import DESCRIPTION, fast_routes
from unskew.online.server.keys import Caller
from unskew.online.server.refusal import Refusal, error_body
from unskew.online.server.server import FeatureServer

WORDS = {404: "not_found", 405: "method_not_allowed"}


def caller(request: Request) -> Caller:
    """Return who asks."""
    found: Caller = request.scope["caller"](dict(request.scope["headers"]))
    found.admit()
    return found


Asking = Annotated[Caller, Depends(caller)]


def pages(server: FeatureServer) -> FastAPI:
    """Return the application of a server's pages."""
    app = FastAPI(title="unskew feature server", version="1", description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, not_served)
    add_probes(app, server)
    refusals: dict[int | str, dict[str, Any]] = {401: {"model": Problems}, 429: {"model": Problems}}

    @app.get("/v1/sets", response_model=Sets, responses=refusals, summary="Sets with their features", tags=["features"])
    async def sets(asking: Asking) -> Sets:
        return described(each for each in server.plans.values() if asking.may("set", each.name))

    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made()["paths"] |= fast_routes(list(server.plans.values()))
        return made()

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def add_probes(app: FastAPI, server: FeatureServer) -> None:
    """Add what machines ask: they need no key."""

    @app.get("/healthz", summary="Whether the process lives", tags=["operation"])
    async def healthz() -> Health:
        return Health(status="ok")

    @app.get(
        "/readyz",
        response_model=Readiness,
        responses={503: {"model": Readiness}},
        summary="Whether to send requests here",
        tags=["operation"],
    )
    async def readyz() -> JSONResponse:
        status, found = await server.readiness()
        return JSONResponse(found.model_dump(), status)

    @app.get("/metrics", response_class=Response, summary="Metrics for Prometheus", tags=["operation"])
    async def metrics() -> Response:
        return Response(server.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def refused(_: Request, error: Exception) -> Response:
    """Reply with a refusal."""
    if not isinstance(error, Refusal):
        raise error
    found = error.reply()
    headers = {name.decode(): value.decode() for name, value in found.headers}
    return Response(found.body, found.status, headers, found.content_type.decode())


async def not_served(request: Request, error: Exception) -> Response:
    """Reply in the form of all errors where there is no such route or method."""
    if not isinstance(error, HTTPException):
        raise error
    message = f"`{request.method} {request.url.path[:80]}` is not served; see /openapi.json"
    body = error_body(WORDS.get(error.status_code, "not_served"), message)
    return Response(body, error.status_code, dict(error.headers or {}), "application/json")
