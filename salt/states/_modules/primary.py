"""What this host's Sentinel knows of Redis's primary and its replicas, and the word that makes another the primary.

For the orchestrations (salt/states/_runners/rolling.py), which have the master ask every host with the role data.
"""

import json
import subprocess

from salt.exceptions import CommandExecutionError

ASK = "ask-sentinel"


def view():
    """Return ``{primary, well, replicas, sentinels}``: addresses, and how many Sentinels there are, this one included.

    *well* says whether this Sentinel reaches the primary; *replicas* are those that follow it and are up.

    CLI Example:

    .. code-block:: bash

        salt 'data*' primary.view
    """
    name = __salt__["turnkey.settings"]("sentinel")["name"]
    # In the midst of a failover this answer is the first to tell of the new one.
    address, _ = _ask("GET-MASTER-ADDR-BY-NAME", name)
    primary = _pairs(_ask("MASTER", name))
    replicas = map(_pairs, _ask("REPLICAS", name))
    return {
        "primary": address,
        "well": primary["flags"] == "master",
        "replicas": sorted(
            replica["ip"]
            for replica in replicas
            if replica["flags"] == "slave"
            and replica["master-link-status"] == "ok"
            and replica["master-host"] == address
        ),
        "sentinels": int(primary["num-other-sentinels"]) + 1,
    }


def move():
    """Have Sentinel make the best replica the primary. It happens after this has returned: ask `view`.

    On the primary's own host no write is lost by it: whoever writes has to wait, until a replica is the primary.

    CLI Example:

    .. code-block:: bash

        salt data1 primary.move
    """
    sentinel = __salt__["turnkey.settings"]("sentinel")
    if view()["primary"] == __pillar__["topology"]["hosts"][__grains__["id"]]["address"]:
        # The one that was it hears of it last. Until then the other replica would still follow it, and so make writes
        # look kept that are lost. Sentinel's own words to it wait, too: it must be heard again before it is missed.
        port = str(__salt__["turnkey.settings"]("redis")["port"])
        _run("-p", port, "CLIENT", "PAUSE", str(sentinel["down_after"] * 4 // 5), "WRITE")
    return _ask("FAILOVER", sentinel["name"])


def _ask(*words):
    return _run("SENTINEL", *words)


def _run(*words):
    command = [ASK, "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise CommandExecutionError(f"Sentinel: {(done.stderr or done.stdout).strip()}")
    return json.loads(done.stdout)


def _pairs(answer):
    """A mapping; as a list of names and values in turn where the protocol knows no mappings."""
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
