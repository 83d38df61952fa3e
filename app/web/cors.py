"""Which web sites' scripts may read the API (the Fetch standard's CORS protocol): those of all, or none."""

from flask import Flask, Response, request

from web.settings import Settings

# Only what anybody could read anyway is opened: no credentials, and nothing that changes something.
PREFIX, METHODS = "/api/", ("GET", "HEAD")

# What a script sees besides the few headers that it always does.
EXPOSED = "ETag, Link, Location, Retry-After, X-Request-ID"


def register(app: Flask, settings: Settings) -> None:
    """Let scripts of the origins that *settings* name read what *app* answers.

    The header is the same for every client, or a cache could not give one client's answer to another.
    """
    if settings.cors_origins == "none":
        return

    @app.after_request
    def allow(response: Response) -> Response:
        if request.path.startswith(PREFIX) and request.method in METHODS:
            response.headers["Access-Control-Allow-Origin"] = settings.cors_origins
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
        return response
