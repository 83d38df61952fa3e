"""Another app than Fibonacci: the infra tests put it into the stack by pillar alone."""

import os

import redis
from flask import Flask, Response, jsonify, request
from flask_sock import Sock


def create_app() -> Flask:
    """A greeting that may be cached, a counter that may not, two private answers, one that is soon there, an echo."""
    app = Flask(__name__)
    sock = Sock(app)
    store = redis.Redis.from_url(os.environ["REDIS_URL"])

    @app.get("/")
    def greet() -> Response:
        greeting = f"{os.environ['GREETING']}, {request.args.get('name', 'world')}\n"
        response = Response(greeting * 100, mimetype="text/plain")
        response.cache_control.public = True
        response.cache_control.max_age = 3600
        return response

    @app.get("/count")
    def count() -> Response:
        return jsonify(count=store.incr("hello:count"))

    @app.get("/soon")
    def soon() -> Response:
        response = Response("not yet\n", status=202, mimetype="text/plain")
        # nginx 1.22 heeds whichever of the two comes first.
        response.headers["X-Accel-Expires"] = "1"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/private")
    def private() -> Response:
        response = Response("for you alone\n", mimetype="text/plain")
        response.cache_control.public = True
        response.cache_control.max_age = 3600
        response.vary.add("Cookie")
        return response

    @app.get("/me")
    def me() -> Response:
        # An age for the client's own cache, without a word on others': as many apps have it.
        response = Response(f"{request.headers.get('Authorization')}\n", mimetype="text/plain")
        response.cache_control.max_age = 3600
        return response

    @app.get("/alive")
    def alive() -> Response:
        return jsonify(status="ok")

    @sock.route("/echo")
    def echo(ws) -> None:
        while True:
            ws.send(ws.receive())

    return app
