"""What HAProxy of this load balancer makes of the web hosts, and the words that take one out and put it back.

For the orchestrations (salt/states/_runners/rolling.py), which have the master ask every load balancer.
"""

import csv
import http.client
import socket
import time

from salt.exceptions import CommandExecutionError

# Debian's unit has the master process listen there. It leads to the processes that a reload has replaced, too.
MASTER = "/run/haproxy-master.sock"
PATIENCE = 10
# Bits of srv_admin_state, and values of srv_op_state, of HAProxy's "show servers state".
DRAINED, MAINTENANCE = 0x08 | 0x10, 0x01 | 0x02 | 0x04
UP = ("1", "2")


def servers():
    """Return ``{web host: {up, drained, sessions}}``; sessions are requests and websockets that are under way.

    Those of processes that a reload has replaced are counted too: they keep the websockets that they have.

    CLI Example:

    .. code-block:: bash

        salt lb1 balancer.servers
    """
    rows = [line.split() for line in _tell("show servers state web").splitlines() if line.strip()]
    # The first line is the version, the second the heading, which begins with a sign that is not of a column.
    known = [dict(zip(rows[1][1:], row, strict=False)) for row in rows[2:]]
    sessions = _sessions()
    return {
        row["srv_name"]: {
            "up": row["srv_op_state"] in UP and not int(row["srv_admin_state"]) & MAINTENANCE,
            "drained": bool(int(row["srv_admin_state"]) & DRAINED),
            "sessions": sessions.get(row["srv_name"], 0),
        }
        for row in known
    }


def drain(name):
    """Send the web host *name* nothing new; what it is doing it may end.

    CLI Example:

    .. code-block:: bash

        salt 'lb*' balancer.drain web1
    """
    return _set(name, "drain")


def put_back(name):
    """Send the web host *name* its share again.

    CLI Example:

    .. code-block:: bash

        salt 'lb*' balancer.put_back web1
    """
    return _set(name, "ready")


def probe(name):
    """Ask nginx on the web host *name* for the app's health, as HAProxy does: ``200``, or what is wrong.

    CLI Example:

    .. code-block:: bash

        salt 'lb*' balancer.probe web1
    """
    address = __salt__["turnkey.addresses"]("nginx:port").get(name)
    if not address:
        raise CommandExecutionError(f"{name} is no web host")
    port = __salt__["turnkey.settings"]("nginx")["port"]
    return _ask(address, port, __salt__["turnkey.settings"]("app")["health"])


def state():
    """Return whether HAProxy works here, whether keepalived runs, and whether this host holds the virtual address.

    CLI Example:

    .. code-block:: bash

        salt 'lb*' balancer.state
    """
    return {
        "works": _ask("127.0.0.1", __salt__["turnkey.settings"]("haproxy")["status_port"], "/configuration") == "200",
        "takes_part": __salt__["service.status"]("keepalived"),
        "holds_address": _holds(__pillar__["topology"].get("virtual_address")),
    }


def _set(name, state):
    if name not in servers():
        raise CommandExecutionError(f"HAProxy knows no web host {name}")
    # It answers where something is wrong only.
    if answer := _tell(f"set server web/{name} state {state}").strip():
        raise CommandExecutionError(f"HAProxy: {answer}")
    return servers()[name]


def _sessions():
    found: dict[str, int] = {}
    for text in (_tell("show stat"), *(_tell(f"@!{pid} show stat", MASTER) for pid in _replaced())):
        for row in csv.DictReader(text.lstrip("# ").splitlines()):
            if row["svname"] not in ("FRONTEND", "BACKEND"):
                found[row["svname"]] = found.get(row["svname"], 0) + int(row["scur"] or 0)
    return found


def _replaced():
    """The processes that a reload has replaced, and that still have something to end."""
    found, heading = [], ""
    for line in _tell("show proc", MASTER).splitlines():
        if line.startswith("#"):
            heading = line
        elif heading.startswith("# old workers") and line.strip():
            found.append(line.split()[0])
    return found


def _tell(order, path=None):
    path = path or __salt__["turnkey.settings"]("haproxy")["admin_socket"]
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(PATIENCE)
                door.connect(path)
                door.sendall(order.encode() + b"\n")
                # The master process closes only when the one that asks has.
                door.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: door.recv(65536), b"")).decode()
        except OSError as error:
            # For a moment after a reload nobody is there.
            if time.monotonic() > until:
                raise CommandExecutionError(f"HAProxy does not answer on {path}: {error}") from error
        time.sleep(0.1)


def _ask(address, port, path):
    connection = http.client.HTTPConnection(address, port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()


def _holds(address):
    if not address:
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probing:
        try:
            probing.bind((address, 0))
        except OSError:
            return False
    return True
