"""Metrics at a port, where Prometheus asks for them."""

from __future__ import annotations

from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from unskew.pipelines.errors import InputError


def expose(registry: CollectorRegistry, port: int, host: str) -> WSGIServer:
    """Answer Prometheus at ``/metrics`` of a port, from a thread of its own.

    Raises
    ------
    InputError
        If the port cannot be had.
    """
    try:
        return start_http_server(port, host, registry)[0]
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no port"
        message = f"metrics cannot be served at `{host}:{port}`: {reason}; choose another --metrics-port"
        raise InputError(message) from error
