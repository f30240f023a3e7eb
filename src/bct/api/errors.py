"""Errors as HTTP says them: one JSON object ``{"error", "text", "exit_code"}``, never a traceback."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from bct import errors
from bct.errors import BctError, ConfigError

_STATUS: dict[type[BctError], int] = {
    errors.ConfigError: 400,
    errors.AuthError: 401,
    errors.FundsError: 402,
    errors.MediaError: 422,
    errors.WalletLockedError: 423,
    errors.ChainError: 502,
    errors.RemoteProtocolError: 502,
    errors.TemporaryError: 503,
    errors.StoreError: 507,
}


def response(error: BctError) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    return _json(status, error.word(), str(error), error.exit_code)


def install(app: FastAPI) -> None:
    """Every error an endpoint can end with leaves in the one form."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, BctError)
        return response(error)

    async def unreadable(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return response(ConfigError(f"the request cannot be read: {place}: {first['msg']}"))

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return _json(error.status_code, "http", str(error.detail), 1)

    async def bug(_: Request, error: Exception) -> JSONResponse:
        return _json(500, "bug", f"bct made a mistake ({type(error).__name__}); its log says where", 1)

    app.add_exception_handler(BctError, ours)
    app.add_exception_handler(RequestValidationError, unreadable)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, bug)


def not_found(text: str) -> HTTPException:
    return HTTPException(404, text)


def _json(status: int, error: str, text: str, exit_code: int) -> JSONResponse:
    return JSONResponse({"error": error, "text": text, "exit_code": exit_code}, status)
