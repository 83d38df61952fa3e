"""The queue in Redis, by Celery: how a worker is told of a job."""

import logging
import ssl
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import redis
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError

from web import sentinels
from web.connection import is_wrong_type
from web.jobstore import LONG, PRIORITIES
from web.settings import Settings

logger = logging.getLogger(__name__)

KEY_PREFIX = "fibonacci:celery:"
TASK = "calculate"

# Of a worker, in seconds: longer than for a request, as it has nothing better to do.
WORKER_TIMEOUT = 2.0

# What the keys of Celery's transport are; all others are bindings or queues.
KINDS = {"unacked": b"hash", "unacked_index": b"zset", "unacked_mutex": b"string"}


def make(settings: Settings) -> Celery:
    """Return the Celery application, without tasks: what both ends of the queue agree on."""
    url = str(settings.redis_url)
    watched = sentinels.parse(url) if sentinels.is_watched(url) else None
    broker = _watched_broker(watched) if watched else _broker(url)
    app = Celery("fibonacci", broker=broker, set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "global_keyprefix": KEY_PREFIX,
            # By messages: the order of a worker's queues is left to chance, whatever queue_order_strategy says.
            "priority_steps": sorted(PRIORITIES.values()),
            # Longer than any job, lest a message be given out twice while the first one is at work.
            "visibility_timeout": settings.job_time_limit * 2,
        },
        task_queues=[Queue(name) for name in PRIORITIES],
        task_default_queue=LONG,
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        # The result is the job's, in our own keys; see docs/decisions/jobs.rst.
        task_ignore_result=True,
        task_acks_late=True,
        task_soft_time_limit=settings.job_time_limit,
        # A multiplication of millions of digits hears no signal before its end.
        task_time_limit=settings.job_time_limit + 30,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
    )
    if watched:
        app.conf.broker_transport = "web.transport:Transport"
        app.conf.broker_transport_options |= {
            "master_name": watched.name,
            "sentinel_kwargs": sentinels.asking(watched, settings.redis_timeout),
            "socket_timeout": WORKER_TIMEOUT,
            "socket_connect_timeout": WORKER_TIMEOUT,
        }
        if watched.tls:
            options = {name: value for name, value in watched.tls.items() if name != "ssl"}
            app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, **options}
    return app


def _watched_broker(watched: sentinels.Watched) -> str:
    """Return the Sentinels as Celery spells them."""
    login = ":".join(quote(part, safe="") for part in watched.credentials.values())
    login = f"{login}@" if login else ""
    places = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in watched.sentinels)
    return ";".join(f"sentinel://{login}{place}/{watched.database}" for place in places)


def _broker(url: str) -> str:
    """Return *url* as Celery spells it, meaning what it means to redis-py."""
    parts = urlsplit(url)
    scheme, path, query = parts.scheme, parts.path, dict(parse_qsl(parts.query))
    database = query.pop("db", None)
    if scheme == "unix":
        scheme = "redis+socket"
        query |= {"virtual_host": database} if database else {}
    elif database:
        path = f"/{database}"
    if scheme == "rediss":
        # Left out, it would take any certificate.
        query.setdefault("ssl_cert_reqs", "required")
    return f"{scheme}://{parts.netloc}{path}" + (f"?{urlencode(query)}" if query else "")


def mend(client: "redis.Redis") -> None:
    """Remove what has the name of a part of the queue and is none: workers would end of it, each anew.

    Jobs whose message goes with it are told of again by the sweep.
    """
    for key in list(client.scan_iter(f"{KEY_PREFIX}*")):
        name = key.decode("latin-1").removeprefix(KEY_PREFIX)
        expected = b"set" if name.startswith("_kombu.binding.") else KINDS.get(name, b"list")
        if client.type(key) != expected:
            logger.warning("rubbish in the queue in Redis: removing it", extra={"key": KEY_PREFIX + name})
            client.unlink(key)


def make_sender(settings: Settings) -> Celery:
    """Return the application for a process that only sends: it would rather fail than wait."""
    app = make(settings)
    app.conf.broker_transport_options |= {
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "retry_on_timeout": False,
    }
    app.conf.broker_connection_timeout = settings.redis_timeout
    return app


def tell(app: Celery, client: "redis.Redis", id: str, queue: str) -> None:
    """Send the message that job *id* waits in *queue*."""
    try:
        _send(app, client, id, queue)
    except (OperationalError, redis.RedisError) as error:
        # The job is queued all the same: the workers' sweep finds it.
        logger.warning("no worker could be told of the job", extra={"job": id, "error": type(error).__name__})


def _send(app: Celery, client: "redis.Redis", id: str, queue: str) -> None:
    options: dict[str, Any] = {"task_id": id, "queue": queue, "priority": PRIORITIES[queue], "retry": False}
    try:
        app.send_task(TASK, (id,), **options)
    except OperationalError as error:
        if not is_wrong_type(error.__cause__):
            raise
        # Workers that run already do not look: they would go on well, and never hear of a job again.
        mend(client)
        app.send_task(TASK, (id,), **options)
