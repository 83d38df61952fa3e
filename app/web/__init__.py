"""The service: the Fibonacci sequence over HTTP. Gunicorn is given ``web:create_app()``."""

from functools import partial

from flask import Flask

from web import health, jobs, later, logs, pages, problems, queue, store, terms
from web.jobstore import Jobs
from web.settings import Settings, from_environment_or_exit

__all__ = ["create_app"]


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI application.

    Without *settings* they are read from the environment; wrong ones end the process (SystemExit) with one line on
    standard error that names the variable and its range.
    """
    settings = settings or from_environment_or_exit()
    logs.configure(settings.log_level)
    shared = store.from_settings(settings)
    long = _jobs(settings)

    app = Flask("web", static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # the contract has GET and HEAD: all else is a 405
    app.url_map.merge_slashes = False  # one URL per resource: no redirect from other spellings
    problems.register(app)
    later.register(app)
    app.register_blueprint(pages.resource(settings, shared, long))
    app.register_blueprint(terms.resource(settings, shared, long))
    app.register_blueprint(jobs.resource(settings, long))
    app.register_blueprint(health.resource(shared))
    logs.register(app)
    return app


def _jobs(settings: Settings) -> Jobs | None:
    return Jobs(settings, partial(queue.tell, queue.make_sender(settings))) if settings.redis_url else None
