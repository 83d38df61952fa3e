"""The service: the Fibonacci sequence over HTTP and websockets.

Gunicorn is given ``web:create_app()``, and another one, with a thread for each client, ``web:create_stream_app()``.
"""

from functools import partial
from typing import TYPE_CHECKING

from flask import Flask

from web import cors, explorer, health, jobs, later, logs, openapi, pages, problems, queue, store, stream, terms
from web.connection import connect
from web.contract import Contract
from web.jobstore import Jobs
from web.settings import Settings, from_environment_or_exit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["create_app", "create_development_app", "create_stream_app"]


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI application.

    Without *settings* they are read from the environment; wrong ones end the process (SystemExit) with one line on
    standard error that names the variable and its range.
    """
    settings = settings or from_environment_or_exit()
    shared = store.from_settings(settings)
    long = _jobs(settings)
    contract = Contract(settings, has_jobs=long is not None)
    app = _application(settings)
    later.register(app)
    app.register_blueprint(pages.resource(contract, shared, long))
    app.register_blueprint(terms.resource(contract, shared, long))
    app.register_blueprint(jobs.resource(contract, long))
    app.register_blueprint(openapi.resource(contract))
    app.register_blueprint(explorer.resource())
    app.register_blueprint(health.resource(shared))
    return app


def create_stream_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI application of the websocket, with *settings* as in ``create_app``."""
    settings = settings or from_environment_or_exit()
    app = _application(settings)
    app.config["SOCK_SERVER_OPTIONS"] = stream.SERVER_OPTIONS
    app.register_blueprint(stream.resource(settings))
    return app


def create_development_app() -> "WSGIApplication":
    """Return both in one, as nginx puts them together in production: for ``python -m web``."""
    settings = from_environment_or_exit()
    service, streams = create_app(settings), create_stream_app(settings)

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        return (streams if environ["PATH_INFO"] == stream.PATH else service)(environ, start_response)

    return application


def _application(settings: Settings) -> Flask:
    logs.configure(settings.log_level)
    app = Flask("web", static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # the contract has GET and HEAD: all else is a 405
    app.url_map.merge_slashes = False  # one URL per resource: no redirect from other spellings
    problems.register(app)
    cors.register(app, settings)
    logs.register(app)
    return app


def _jobs(settings: Settings) -> Jobs | None:
    if settings.redis_url is None:
        return None
    return Jobs(settings, partial(queue.tell, queue.make_sender(settings), connect(settings)))
