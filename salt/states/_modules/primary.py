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

    CLI Example:

    .. code-block:: bash

        salt data1 primary.move
    """
    return _ask("FAILOVER", __salt__["turnkey.settings"]("sentinel")["name"])


def _ask(*words):
    command = [ASK, "--json", "SENTINEL", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise CommandExecutionError(f"Sentinel: {(done.stderr or done.stdout).strip()}")
    return json.loads(done.stdout)


def _pairs(answer):
    """A mapping; as a list of names and values in turn where the protocol knows no mappings."""
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
