# shellcheck shell=bash
# What lab/up, lab/down and lab/status share. Reading this changes to the repository's root.

cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." || exit
root=$PWD
# su without a dash leaves the administrator's directories out.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export VAGRANT_CHECKPOINT_DISABLE=1 # no calls home
# On every container and network of a lab, nothing else is touched; and on those of this repository's.
# shellcheck disable=SC2034  # not every script uses every name
readonly LABEL=turnkey.lab OURS=turnkey.root=$root
# shellcheck disable=SC2034
readonly IMAGE=turnkey-lab BASE=turnkey-base REMEMBERED=.vagrant/turnkey.env
readonly LOG=$root/.vagrant/lab.log ENGINE_LOG=/var/log/turnkey-dockerd.log

fail() {
    printf '%s: %s\n' "lab/${0##*/}" "$1" >&2
    exit "${2:-1}"
}

step() {
    printf '%(%H:%M:%S)T  %s\n' -1 "$1"
    [ ! -d .vagrant ] || printf '\n== %(%H:%M:%S)T %s\n' -1 "$1" >>"$LOG"
}

# A command whose output matters only when it fails.
quietly() {
    "$@" >>"$LOG" 2>&1 9>&- && return
    printf '%s\n' "$* failed; the end of $LOG:" >&2
    tail -n 20 "$LOG" | sed 's/^/    /' >&2
    return 1
}

need_root() {
    [ "$(id -u)" = 0 ] || fail 'must run as root (try sudo)'
}

# One run at a time changes labs. What outlives a run (the engine, Vagrant's ssh) must not inherit the lock: 9>&-.
take_lock() {
    exec 9>/run/turnkey-lab.lock
    flock --nonblock 9 && return
    step 'Waiting: another lab/up or lab/down is at work on this machine'
    flock --timeout 1800 9 || fail 'another lab/up or lab/down is at work on this machine, since half an hour'
}

engine_answers() {
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

start_engine() {
    engine_answers && return
    [ -z "${DOCKER_HOST:-}" ] || fail "no engine answers at DOCKER_HOST=$DOCKER_HOST"
    step 'Starting the engine'
    local dockerd=''
    if [ -d /run/systemd/system ]; then
        quietly systemctl enable --now docker.service || return
    else
        # Nobody else starts it here; in a session of its own it outlives this script and its Ctrl-C.
        setsid dockerd >>"$ENGINE_LOG" 2>&1 </dev/null 9>&- &
        dockerd=$!
    fi
    for _ in {1..60}; do
        sleep 1
        engine_answers && return
        [ -z "$dockerd" ] || kill -0 "$dockerd" 2>/dev/null || break
    done
    [ -z "$dockerd" ] || tail -n 20 "$ENGINE_LOG" >&2
    fail "the engine does not answer${dockerd:+; all it said: $ENGINE_LOG}"
}

# One line per host of this repository's lab, or of all that have a label, in the order they were made: host, address, roles,
# OS, topology, repository, container, state.
# shellcheck disable=SC2120  # lab/up and lab/down ask for others
lab_hosts() {
    docker ps --all --filter "label=${1:-$OURS}" --format \
        '{{.Label "turnkey.host"}}|{{.Label "turnkey.address"}}|{{.Label "turnkey.roles"}}|{{.Label "turnkey.os"}}|{{.Label "turnkey.lab"}}|{{.Label "turnkey.root"}}|{{.ID}}|{{.State}}' |
        tac
}

# Where clients come: the virtual address, or else the first host with the role lb.
base_url() {
    local address='' of_host roles port
    address=$(docker ps --all --filter "label=$OURS" --format '{{.Label "turnkey.virtual"}}' | grep -m 1 .) || true
    while IFS='|' read -r _ of_host roles _; do
        case ,$roles, in *,lb,*) address=${address:-$of_host} ;; esac
    done < <(lab_hosts)
    [ -n "$address" ] || return 1
    port=$(sed -n "s/^port: *\([0-9]*\).*/\1/p" salt/states/haproxy/defaults.yaml 2>/dev/null) || true
    [ "${port:=80}" = 80 ] && echo "http://$address" || echo "http://$address:$port"
}
