"""A signed repository with a *stand-in* for Logstash: a package of that name that only does as if.

Logstash is in no repository that tests can reach. What is proved with this one is all around it: repository, key, pin,
version, package, service, files, and that lines come in where the configuration says and go out where it says. What
Logstash itself makes of its configuration it cannot show.
"""

import os
import pathlib
import subprocess
import tempfile

SUITE, COMPONENT, VERSION, NEWER = "stable", "main", "1:9.1.3-1", "1:9.9.9-1"

# Told to test a configuration it looks for what Logstash would look for first; else it copies lines, as its
# configuration says from where and to where.
PROGRAM = r'''#!/usr/bin/python3 -IB
"""A stand-in for Logstash; not Elastic's."""

import argparse, collections, datetime, glob, http.server, json, os, pathlib, pwd, re, signal, sys, threading, time

assert pwd.getpwuid(os.getuid()).pw_name == "logstash", "not as the user logstash"
parser = argparse.ArgumentParser()
for name in ("settings", "data", "logs", "config"):
    parser.add_argument(f"--path.{name}", dest=name, type=pathlib.Path)
parser.add_argument("--config.test_and_exit", dest="test", action="store_true")
options = parser.parse_args()
settings = dict(re.findall(r"^([a-z_.]+): (.+)$", (options.settings / "logstash.yml").read_text(), re.MULTILINE))
told = [f"--path.config {options.config}"] if options.config else []
if not told:
    told = re.findall(r"path\.config: (.+)", (options.settings / "pipelines.yml").read_text())
text = pathlib.Path(told[0].split()[-1]).read_text()

if options.test:
    (options.data / "written").write_text("")
    if "opensearch {" in text:
        sys.exit("Couldn't find any output plugin named 'opensearch'. Are you sure this is correct?")
    if text.count("{") != text.count("}") or not re.search(r"^input \{", text, re.MULTILINE):
        sys.exit("Expected one of [ ,{,} at line 1")
    sys.exit(print("Configuration OK (says a stand-in)"))

(paths,) = re.findall(r"^ +path => \[(.*?)\]", text, re.MULTILINE)
paths = re.findall(r'"(.*?)"', paths)
(excluded,) = re.findall(r"^ +exclude => \[(.*?)\]", text, re.MULTILINE)
(target,) = re.findall(r'^output \{\n +file \{\n +path => "(.*?)/%', text, re.MULTILINE)


class Told(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"host": "a stand-in", "pipelines": {"turnkey": {"workers": 1}}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


place = settings["api.http.host"], int(settings["api.http.port"])
server = http.server.ThreadingHTTPServer(place, Told)
threading.Thread(target=server.serve_forever, daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
pathlib.Path(settings["path.logs"], "logstash-plain.log").write_text("a stand-in\n")
read_to = collections.Counter()
while True:
    found = False
    for name in sorted({name for path in paths for name in glob.glob(path)}):
        path = pathlib.Path(name)
        if f'"{path.name}"' in excluded:
            continue
        with path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            file.seek(read_to[inode])
            lines = file.read(1 << 20).rpartition(b"\n")[0]
        if lines:
            found = True
            read_to[inode] += len(lines) + 1
            folder = pathlib.Path(target, f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}")
            folder.mkdir(exist_ok=True)
            with (folder / f"{path.parent.name}.json").open("a") as out:
                for line in lines.decode(errors="replace").split("\n"):
                    out.write(json.dumps({"event": {"original": line}, "log": {"file": {"path": name}}}) + "\n")
    if not found:
        time.sleep(0.2)
'''
# As far as it matters here, what Elastic's package has.
UNIT = """\
[Unit]
Description=A stand-in for Logstash

[Service]
Type=simple
User=logstash
Group=logstash
ExecStart=/usr/share/logstash/bin/logstash --path.settings /etc/logstash
Restart=always
WorkingDirectory=/
Nice=19
LimitNOFILE=16384
TimeoutStopSec=infinity

[Install]
WantedBy=multi-user.target
"""
POSTINST = """\
#!/bin/sh
set -e
getent passwd logstash >/dev/null || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin logstash
install -d -o logstash -g logstash /var/lib/logstash /var/log/logstash
"""
POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    rm -rf /var/lib/logstash /var/log/logstash /etc/logstash
    userdel logstash 2>/dev/null || true
fi
"""
CONFFILES = {
    "etc/logstash/logstash.yml": "path.data: /var/lib/logstash\npath.logs: /var/log/logstash\n",
    "etc/logstash/pipelines.yml": '- pipeline.id: main\n  path.config: "/etc/logstash/conf.d/*.conf"\n',
}


def control(name: str, version: str) -> str:
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
        f"Description: stand-in, not Elastic's\n A stand-in for {name}, for tests of what is around it.\n"
    )


def package(folder: pathlib.Path, version: str = VERSION, name: str = "logstash") -> pathlib.Path:
    """Build the stand-in of this *version* in *folder*; one of another *name* is empty."""
    with tempfile.TemporaryDirectory() as built:
        tree = pathlib.Path(built, "tree")
        files = {"DEBIAN/control": control(name, version)}
        if name == "logstash":
            files |= {
                "usr/share/logstash/bin/logstash": PROGRAM,
                "usr/share/logstash/Gemfile": 'gem "logstash-output-elasticsearch"\n',
                "usr/lib/systemd/system/logstash.service": UNIT,
                "DEBIAN/postinst": POSTINST,
                "DEBIAN/postrm": POSTRM,
                "DEBIAN/conffiles": "".join(f"/{path}\n" for path in CONFFILES),
                **CONFFILES,
            }
        for path, text in files.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755 if text.startswith("#!") else 0o644)
        for file in (tree, *tree.rglob("*")):
            if file.is_dir():
                file.chmod(0o755)
        made = folder / f"{name}_{version.replace(':', '-')}_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True, capture_output=True)
    return made


def gpg(keyring: pathlib.Path, *arguments: str) -> str:
    """Return what gpg says, with the keys in *keyring*."""
    # The way to its agent's socket must be short.
    with tempfile.TemporaryDirectory(prefix="gpg-") as short:
        link = pathlib.Path(short, "home")
        link.symlink_to(keyring)
        environment = os.environ | {"GNUPGHOME": str(link)}
        command = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        try:
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True, env=environment)
        return done.stdout


def key(keyring: pathlib.Path) -> str:
    """Make a key in a new *keyring*; return the public one, armoured."""
    keyring.mkdir(mode=0o700, parents=True)
    gpg(keyring, "--quick-generate-key", "repository@example.org", "rsa2048", "sign", "never")
    return gpg(keyring, "--armor", "--export").strip()


def repository(folder: pathlib.Path, keyring: pathlib.Path, **more: str) -> None:
    """Make a repository, signed by the key in *keyring*: of the stand-in in two versions, and of something else.

    *more* is what its InRelease says besides, such as ``Origin``.
    """
    folder.mkdir(parents=True)
    for version in (VERSION, NEWER):
        package(folder, version)
    # That the repository should have of all hosts' curl a newer one than Debian must not matter.
    package(folder, "99:1-1", name="curl")
    suite = folder / "dists" / SUITE
    index = suite / COMPONENT / "binary-all"
    index.mkdir(parents=True)
    (index / "Packages").write_text(told("apt-ftparchive", "packages", ".", folder=folder))
    facts = {"Suite": SUITE, "Codename": SUITE, "Components": COMPONENT, "Architectures": "all amd64 arm64", **more}
    options = [f"-oAPT::FTPArchive::Release::{name}={value}" for name, value in facts.items()]
    (suite / "Release").write_text(told("apt-ftparchive", *options, "release", ".", folder=suite))
    gpg(keyring, "--clearsign", "--output", str(suite / "InRelease"), str(suite / "Release"))


def told(*command: str, folder: pathlib.Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
