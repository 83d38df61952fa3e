"""The service: the Fibonacci sequence over HTTP. Gunicorn is given ``web:create_app()``."""

from flask import Flask

from web import explorer, health, logs, pages, problems, store, terms
from web.settings import Settings, from_environment_or_exit

__all__ = ["create_app"]


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI application.

    Without *settings* they are read from the environment; wrong ones end the process (SystemExit) with one line on
    standard error that names the variable and its range.
    """
    settings = settings or from_environment_or_exit()
    logs.configure(settings.log_level)
    bodies = store.from_settings(settings)

    app = Flask("web", static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # the contract has GET and HEAD: all else is a 405
    app.url_map.merge_slashes = False  # one URL per resource: no redirect from other spellings
    problems.register(app)
    app.register_blueprint(pages.resource(settings, bodies))
    app.register_blueprint(terms.resource(settings, bodies))
    app.register_blueprint(explorer.resource())
    app.register_blueprint(health.resource(bodies))
    logs.register(app)
    return app
