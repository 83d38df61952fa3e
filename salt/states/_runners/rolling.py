"""Change the hosts of the topology one after the other, so that clients notice nothing. salt/states/orch/ calls this.

It tells on stderr, and on the master's event bus, what it does while it does it. At the first thing that is not as it
should be it stops, with all that comes later untouched, and says what to do.
"""

import contextlib
import fcntl
import pathlib
import sys
import time

import salt.client
import yaml

# In which order packages are brought up to date: a host goes with the first of its roles in this list.
ORDER = ("data", "web", "worker", "lb", "logs", "monitor")
# What a host does that must be taken from it before it is changed.
TAKEN = ("data", "lb", "web")
PAUSE = 0.5


class Stopped(Exception):  # noqa: N818  what happened, rather than a mistake
    """Something is not as it should be; the text says what, and what to do."""


def deploy(topology, settings, without=()):
    """Bring the release that the master's files make to every host that runs the app."""
    return _told(topology, settings, without, _deploy)


def rollback(topology, settings, root, release="", without=()):
    """Hold every host that runs the app at the release before, or at *release*."""
    return _told(topology, settings, without, _rollback, root, release)


def maintenance(topology, settings, host="", mode="", without=()):
    """Take *host* out of service (*mode* ``out``), or put it back (``in``)."""
    return _told(topology, settings, without, _maintenance, host, mode)


def failover(topology, settings, without=()):
    """Make another host Redis's primary."""
    return _told(topology, settings, without, _failover)


def upgrade(topology, settings, without=()):
    """Bring the packages of every host up to date."""
    return _told(topology, settings, without, _upgrade)


def _told(topology, settings, without, steps, *asked):
    cluster = Cluster(topology, settings)
    try:
        cluster.leave_aside(without)
        with _alone():
            steps(cluster, *asked)
    except Stopped as stopped:
        begun = "STOPPED" if cluster.touched else "refused, nothing was touched"
        cluster.say(f"{begun}: {stopped}")
        # This word makes a failure of it, for the state that calls.
        return {"Error": f"{begun}: {stopped}", "done": cluster.done}
    cluster.say("done")
    return {"done": cluster.done}


@contextlib.contextmanager
def _alone():
    """One orchestration at a time: two would each take a host away, and together all of them."""
    with open(pathlib.Path(__opts__["cachedir"]) / "rolling.lock", "w", encoding="utf-8") as lock:
        try:
            # The kernel gives it back however this process ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stopped("another orchestration is at work on this master (salt-run jobs.active)") from None
        yield


def _deploy(cluster):
    hosts = cluster.with_role("web", "worker")
    cluster.gather(*hosts, *cluster.with_role("lb"))
    _one_by_one(cluster, dict.fromkeys(hosts), "state.orchestrate orch.deploy again once the release is mended")


def _rollback(cluster, root, release):
    hosts = cluster.with_role("web", "worker")
    cluster.gather(*hosts, *cluster.with_role("lb"))
    targets = _targets(cluster.ask(hosts, "release.kept", root), release)
    for host, target in targets.items():
        cluster.say(f"{host}: goes to {target}")
    _one_by_one(cluster, targets, "state.orchestrate orch.rollback again once that is mended")
    cluster.say("every apply keeps these releases, until orch.deploy (salt/pillar/pins/ on the master)")


def _targets(kept, release):
    """Which release each host goes to; *kept* is what ``release.kept`` says of each."""
    if release:
        missing = [f"{host} keeps {', '.join(has['kept'])}" for host, has in kept.items() if release not in has["kept"]]
        if missing:
            raise Stopped(f"release {release} is not kept everywhere: {'; '.join(missing)}")
        return dict.fromkeys(kept, release)
    if held := {host: name for host in kept if (name := _held_at(host))}:
        told = ", ".join(f"{host} at {name}" for host, name in held.items())
        raise Stopped(f"some hosts were rolled back already ({told}): name the release: pillar='{{release: NAME}}'")
    if len({has["os"] for has in kept.values()}) > 1:
        # Of each system the same code is another release: which of them belong together nobody knows.
        raise Stopped("the hosts have several systems: hold each at its release by hand (docs/runbooks/rollback.rst)")
    if missing := [host for host, has in kept.items() if not has["current"]]:
        raise Stopped(f"{', '.join(missing)} runs no release yet")
    # The one that somebody switched to last; who does not have it yet is kept from it.
    newest = max(kept.values(), key=lambda has: has["switched"])["current"]
    targets = {}
    for host, has in kept.items():
        before = [name for name in has["kept"] if name != newest]
        if has["current"] == newest and not before:
            raise Stopped(f"{host} keeps no release before {newest}")
        targets[host] = has["current"] if has["current"] != newest else before[0]
    return targets


def _one_by_one(cluster, targets, again):
    """Apply each host of *targets*, ``{host: the release it is held at from now on, or None}``, with nothing under way.

    Those that are out of service already come first.
    """
    hosts = cluster.idle_first(targets)
    for number, host in enumerate(hosts):
        cluster.say(f"--- {host}, {number + 1} of {len(hosts)}")
        serves = "web" in cluster.roles(host)
        try:
            if serves:
                cluster.drain(host)
            _apply_held(cluster, host, targets[host])
            if serves:
                cluster.serve_again(host)
        except Stopped as stopped:
            if not cluster.touched:
                raise
            rest = ", ".join(hosts[number + 1 :]) or "none"
            out = serves and cluster.is_out(host)
            raise Stopped(
                f"{host}: {stopped}\n"
                f"{host} is {'out of service' if out else 'as it was: it serves'}; untouched: {rest}.\n"
                f"Next: salt-run {again};"
                " or salt-run state.orchestrate orch.rollback, if the new release is to go;"
                + (
                    f" or, to have {host} back as it is: "
                    f"salt-run state.orchestrate orch.maintenance pillar='{{host: {host}, mode: in}}'"
                    if out
                    else ""
                )
            ) from stopped
        cluster.done.append(host)


def _apply_held(cluster, host, release):
    """Apply *host* held at *release*; what fails leaves it held where it was."""
    held = _held_at(host)
    _hold_at(host, release)
    try:
        cluster.apply(host)
    except Stopped:
        _hold_at(host, held)
        raise


def _maintenance(cluster, host, mode):
    if mode not in ("in", "out"):
        raise Stopped(f"mode is {mode!r}: it must be in or out: pillar='{{host: web1, mode: out}}'")
    if host not in cluster.hosts:
        raise Stopped(f"there is no host {host!r}; there are {', '.join(cluster.hosts)}")
    if host in cluster.aside:
        raise Stopped(f"{host} cannot be the host and be left aside")
    roles = [role for role in TAKEN if role in cluster.roles(host)]
    if not roles:
        raise Stopped(f"{host} ({', '.join(cluster.roles(host))}) has nothing to give away: stop it when you like")
    # A host that is going out need not answer for itself, but where it is the one to be told.
    cluster.gather(*{name for role in roles for name in cluster.with_role(role)}, *cluster.with_role("lb"))
    if mode == "out":
        cluster.take_out(host)
        cluster.say(f"{host} is out of service, and may be stopped")
    else:
        cluster.put_in(host)
        cluster.say(f"{host} is in service")
    cluster.done.append(host)


def _failover(cluster):
    cluster.gather(*cluster.with_role("data"))
    cluster.done.append(cluster.move_primary())


def _upgrade(cluster):
    everyone = cluster.with_role(*ORDER)
    if lonely := [host for role in TAKEN for host in cluster.with_role(role) if not cluster.has_several(role)]:
        raise Stopped(
            f"{', '.join(dict.fromkeys(lonely))} is the last of its role, and has to be without service:"
            " salt HOST pkg.upgrade and state.apply by hand, when that suits"
        )
    cluster.gather(*everyone)
    hosts = sorted(everyone, key=lambda host: min(ORDER.index(role) for role in cluster.roles(host)))
    # Last of their kind, so that each moves once.
    if cluster.has_several("data"):
        hosts = _after_its_kind(hosts, cluster.primary(), cluster.with_role("data"))
    if cluster.has_several("lb"):
        holder = [
            host
            for host, told in cluster.ask(cluster.with_role("lb"), "balancer.state").items()
            if told["holds_address"]
        ]
        hosts = _after_its_kind(hosts, holder[0], cluster.with_role("lb")) if holder else hosts
    wanting = []
    for number, host in enumerate(hosts):
        cluster.say(f"--- {host}, {number + 1} of {len(hosts)}")
        try:
            cluster.take_out(host)
            changed = cluster.change(host, "pkg.upgrade", refresh=True)
            cluster.say(f"{host}: packages changed: {', '.join(sorted(changed)) or 'none'}")
            cluster.apply(host)
            cluster.put_in(host)
            if cluster.ask([host], "file.file_exists", "/run/reboot-required")[host]:
                wanting.append(host)
        except Stopped as stopped:
            if not cluster.touched:
                raise
            rest = ", ".join(hosts[number + 1 :]) or "none"
            raise Stopped(
                f"{host}: {stopped}\nuntouched: {rest}.\n"
                f"Next: mend {host} (salt {host} state.apply), then salt-run state.orchestrate orch.upgrade again,"
                " which puts it back in service when it is well"
            ) from stopped
        cluster.done.append(host)
    if wanting:
        cluster.say(f"a reboot would be well, one at a time between orch.maintenance out and in: {', '.join(wanting)}")


def _after_its_kind(hosts, host, kind):
    if host not in hosts:
        return hosts
    others = [name for name in hosts if name != host]
    last = max((others.index(name) for name in kind if name in others), default=len(others) - 1)
    return [*others[: last + 1], host, *others[last + 1 :]]


class Cluster:
    """The hosts of the topology, as the master's minions."""

    def __init__(self, topology, settings):
        self.hosts, self.settings, self.virtual_address = (
            topology["hosts"],
            settings,
            topology.get("virtual_address"),
        )
        self.aside: set[str] = set()
        self.done: list[str] = []
        # Whether anything has been changed.
        self.touched = False
        self._client = salt.client.get_local_client(__opts__["conf_file"])

    # --- who there is -------------------------------------------------------------------------------------------------

    def roles(self, host):
        return self.hosts[host]["roles"]

    def with_role(self, *roles):
        return [name for name in self.hosts if set(roles) & set(self.roles(name)) and name not in self.aside]

    def has_several(self, role):
        return sum(role in self.roles(name) for name in self.hosts) > 1

    def leave_aside(self, hosts):
        if not isinstance(hosts, (list, tuple)):
            raise Stopped(f"without is {hosts!r}: it must be a list: pillar='{{without: [web1]}}'")
        if unknown := [str(name) for name in hosts if name not in self.hosts]:
            raise Stopped(f"there is no host {', '.join(unknown)}; there are {', '.join(self.hosts)}")
        self.aside = set(hosts)

    def gather(self, *hosts):
        """See that all *hosts* are there, and have the modules that will be asked."""
        self.ask(list(dict.fromkeys(hosts)), "saltutil.sync_modules")

    # --- asking them --------------------------------------------------------------------------------------------------

    def say(self, text):
        for line in text.splitlines():
            print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
        # Salt's own: `salt-run state.event` shows it to whoever else watches.
        __jid_event__.fire_event({"message": text}, "progress")

    def ask(self, hosts, function, *arguments):
        """``{host: its answer}`` to what may be asked twice; a host may be restarting its minion just now."""
        answers: dict[str, object] = {}
        missing = list(hosts)
        until = time.monotonic() + self.settings["answer"]
        while missing:
            got = self._command(missing, function, arguments)
            answers |= {host: answer["ret"] for host, answer in got.items() if not answer.get("retcode")}
            failed = {host: answer["ret"] for host, answer in got.items() if answer.get("retcode")}
            missing = [host for host in missing if host not in answers]
            if not missing:
                break
            if time.monotonic() > until:
                told = [f"{host} says of {function}: {failed[host]}" for host in missing if host in failed]
                silent = [host for host in missing if host not in failed]
                if silent:
                    told.append(
                        f"{', '.join(silent)} does not answer the master;"
                        f" if it is known to be down: pillar='{{without: [{', '.join(silent)}]}}'"
                    )
                raise Stopped("; ".join(told))
            time.sleep(PAUSE)
        return {host: answers[host] for host in hosts}

    def change(self, host, function, *arguments, **named):
        """Have *host* do what is to be done once, however long it takes."""
        self.touched = True
        answer = self._command([host], function, arguments, named).get(host)
        if answer is None:
            raise Stopped(f"no answer to {function}: it may be at it still (salt {host} saltutil.running)")
        if answer.get("retcode") or answer["ret"] is False:
            raise Stopped(_words(function, answer["ret"]))
        return answer["ret"]

    def apply(self, host):
        self.say(f"{host}: applies")
        chunks = self.change(host, "state.apply")
        changed = sum(bool(chunk["changes"]) for chunk in chunks.values())
        self.say(f"{host}: applied, {changed} of {len(chunks)} states changed something")

    def _command(self, hosts, function, arguments, named=None):
        answers = self._client.cmd(hosts, function, arguments, tgt_type="list", full_return=True, kwarg=named or {})
        # Of one that is silent there is nothing, or False.
        return {host: answer for host, answer in answers.items() if isinstance(answer, dict) and "ret" in answer}

    def _until(self, probe, seconds):
        """Whether *probe* comes true within that many seconds."""
        until = time.monotonic() + seconds
        while not (found := probe()):
            if time.monotonic() > until:
                return False
            time.sleep(PAUSE)
        return found

    # --- all that a host does -----------------------------------------------------------------------------------------

    def take_out(self, host):
        for role in TAKEN:
            if role in self.roles(host):
                {"data": self.leave_primary, "lb": self.give_away, "web": self.drain}[role](host)

    def put_in(self, host):
        for role in TAKEN:
            if role in self.roles(host):
                {"data": self.follow, "lb": self.take_part, "web": self.serve_again}[role](host)

    # --- web hosts ----------------------------------------------------------------------------------------------------

    def _servers(self, host):
        """What each load balancer makes of *host* and of the others: ``{balancer: (its own, {other: its own})}``."""
        views = self.ask(self.with_role("lb"), "balancer.servers")
        for balancer, servers in views.items():
            if host not in servers:
                raise Stopped(f"{balancer} does not know {host} yet: salt {balancer} state.apply")
        return {
            balancer: (servers[host], {name: own for name, own in servers.items() if name != host})
            for balancer, servers in views.items()
        }

    def is_out(self, host):
        return all(own["drained"] or not own["up"] for own, _ in self._servers(host).values())

    def idle_first(self, hosts):
        return sorted(hosts, key=lambda host: "web" not in self.roles(host) or not self.is_out(host))

    def drain(self, host):
        for balancer, (own, others) in self._servers(host).items():
            serves = own["up"] and not own["drained"]
            if serves and not any(other["up"] and not other["drained"] for other in others.values()):
                raise Stopped(
                    f"{host} is the last web host that serves, says {balancer}: without it there is no service"
                )
        self.touched = True
        self.ask(self.with_role("lb"), "balancer.drain", host)
        self.say(f"{host}: drained; it gets nothing new")
        before = None

        def nothing_left():
            nonlocal before
            left = sum(own["sessions"] for own, _ in self._servers(host).values())
            if left != before:
                self.say(f"{host}: {left} requests and websockets under way")
            before = left
            return left == 0

        if not self._until(nothing_left, self.settings["drain"]):
            self.say(
                f"{host}: not all ended within {self.settings['drain']} s; what is left is closed by the app, to resume"
            )

    def serve_again(self, host):
        balancers = self.with_role("lb")
        answers = {}

        def is_healthy():
            answers.update(self.ask(balancers, "balancer.probe", host))
            return set(answers.values()) == {"200"} and all(own["up"] for own, _ in self._servers(host).values())

        if not self._until(is_healthy, self.settings["healthy"]):
            told = ", ".join(f"{balancer} got {answer}" for balancer, answer in answers.items())
            raise Stopped(f"not healthy within {self.settings['healthy']} s, asked from outside: {told}")
        self.touched = True
        self.ask(balancers, "balancer.put_back", host)
        self.say(f"{host}: healthy, asked by {', '.join(balancers)}; back in service")

    # --- load balancers -----------------------------------------------------------------------------------------------

    def give_away(self, host):
        others = [name for name in self.with_role("lb") if name != host]
        states = self.ask(others, "balancer.state")
        fit = [name for name, state in states.items() if state["works"] and state["takes_part"]]
        if not fit:
            raise Stopped(f"no load balancer but {host} is fit to hold the address: without it there is no service")
        self.change(host, "service.stop", "keepalived")

        def is_another():
            states = self.ask([host, *fit], "balancer.state")
            return not states[host]["holds_address"] and [name for name in fit if states[name]["holds_address"]]

        if not (holder := self._until(is_another, self.settings["answer"])):
            self.change(host, "service.start", "keepalived")
            raise Stopped(f"nobody took the address {self.virtual_address}; keepalived was started again on {host}")
        self.say(f"{host}: the address {self.virtual_address} is with {holder[0]}")

    def take_part(self, host):
        self.change(host, "service.start", "keepalived")

        def is_fit():
            state = self.ask([host], "balancer.state")[host]
            return state["works"] and state["takes_part"]

        if not self._until(is_fit, self.settings["healthy"]):
            raise Stopped(f"HAProxy or keepalived does not run: salt {host} state.apply")
        self.say(f"{host}: fit to take the address when it is needed")

    # --- data hosts ---------------------------------------------------------------------------------------------------

    def _name_of(self, address):
        return next((name for name, host in self.hosts.items() if host["address"] == address), address)

    def _redis(self, *, leaving=None):
        """The primary's and its replicas' names, as all Sentinels see them; *leaving* need not be asked or be well."""
        asked = [name for name in self.with_role("data") if name != leaving]
        views = self.ask(asked, "primary.view") if asked else {}
        if len({view["primary"] for view in views.values()}) != 1:
            told = ", ".join(f"{name}: {self._name_of(view['primary'])}" for name, view in views.items())
            raise Stopped(f"the Sentinels do not agree on the primary: {told or 'nobody was asked'}")
        primary = self._name_of(next(iter(views.values()))["primary"])
        replicas = set.intersection(*({self._name_of(ip) for ip in view["replicas"]} for view in views.values()))
        return primary, sorted(replicas), all(view["well"] for view in views.values())

    def primary(self):
        return self._redis()[0]

    def move_primary(self):
        if not self.has_several("data"):
            raise Stopped("one host only has the role data: there is no other to go to")
        was, replicas, _ = self._redis()
        able = [name for name in replicas if name != was and name not in self.aside]
        if not able:
            raise Stopped(f"no replica of {was} is up and follows it: there is none to go to")
        self.say(f"{was} is the primary, {', '.join(replicas)} follow")
        # By itself, where it is there at all: it holds writes back meanwhile.
        self.change(able[0] if was in self.aside else was, "primary.move")

        def is_another():
            with contextlib.suppress(Stopped):
                now, following, well = self._redis()
                # The one that was it follows, where it is there at all.
                return now if well and now != was and (was in following or was in self.aside) else None

        if not (now := self._until(is_another, self.settings["healthy"])):
            raise Stopped(
                f"the primary was to leave {was}; {self.settings['healthy']} s later it has not, or does not follow:"
                " salt '*' primary.view says how it stands"
            )
        self.say(f"{now} is the primary, {was} follows")
        return now

    def leave_primary(self, host):
        if not self.has_several("data"):
            raise Stopped(f"{host} is the last host with the role data")
        was, replicas, well = self._redis(leaving=host)
        staying = {name for name in self.hosts if "data" in self.roles(name)} - {host}
        if missing := sorted(staying - {was, *replicas}):
            raise Stopped(f"{', '.join(missing)} is not up and following: without {host} too nothing could be written")
        if was != host and not well:
            raise Stopped(f"the primary, {was}, is not well")
        if was == host:
            self.move_primary()
        else:
            self.say(f"{host}: a replica; {was} is the primary")

    def follow(self, host):
        def is_well():
            with contextlib.suppress(Stopped):
                primary, replicas, well = self._redis()
                return well and host in (primary, *replicas) and primary
            return None

        if not (primary := self._until(is_well, self.settings["healthy"])):
            raise Stopped(
                f"Redis does not follow the primary within {self.settings['healthy']} s: salt {host} state.apply"
            )
        self.say(f"{host}: {'is the primary' if primary == host else f'follows {primary}'}")


def _words(function, answer):
    """What a host says went wrong, short."""
    if not isinstance(answer, dict):
        return f"{function}: {answer if isinstance(answer, str) else '; '.join(map(str, answer or ['it failed']))}"
    failed = []
    for chunk in answer.values():
        if isinstance(chunk, dict) and chunk.get("result") is False:
            changes = chunk["changes"] if isinstance(chunk["changes"], dict) else {}
            last = "\n".join(str(changes.get("stderr", "")).splitlines()[-10:])
            failed.append(f"{chunk.get('__id__', chunk.get('name'))}: {chunk['comment']}\n{last}".strip())
    return f"{function} failed: " + "\n".join(failed or [str(answer)])


def _pin(host):
    return pathlib.Path(__opts__["pillar_roots"]["base"][0]) / "pins" / f"{host}.sls"


def _held_at(host):
    """The release that pillar holds *host* at, if it does."""
    if not _pin(host).exists():
        return None
    return yaml.safe_load(_pin(host).read_text(encoding="utf-8"))["app"]["pinned"]


def _hold_at(host, release):
    path = _pin(host)
    if release is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(
        f"# Written by orch.rollback: each apply keeps {host} at this release. orch.deploy takes this file away.\n"
        + yaml.safe_dump({"app": {"pinned": release}}),
        encoding="utf-8",
    )
    draft.replace(path)
