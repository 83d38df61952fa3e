"""``/healthz`` and ``/readyz``: whether the process lives, and whether what it leans on does."""

import json

from flask import Blueprint, Response

from web.store import Store

LIVENESS, READINESS = "/healthz", "/readyz"


def resource(store: Store) -> Blueprint:
    """Return both resources."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get(LIVENESS)
    def liveness() -> Response:
        # Touches nothing: a broken dependency is no reason to kill the process.
        return fresh({"status": "ok"})

    @blueprint.get(READINESS)
    def readiness() -> Response:
        # Without Redis pages are still served, only calculated each time: degraded, but ready for requests.
        redis = store.health()
        status = "ready" if redis["status"] in ("up", "off") else "degraded"
        return fresh({"status": status, "dependencies": {"redis": redis}})

    return blueprint


def fresh(document: dict[str, object]) -> Response:
    """Return *document* as JSON that nobody keeps."""
    body = json.dumps(document) + "\n"
    return Response(body, content_type="application/json", headers={"Cache-Control": "no-store"})
