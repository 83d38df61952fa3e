# Every line of a log goes to the log host, encrypted, and waits on this host's disk while that one is away: rsyslogd puts
# it into a spool, from which ship-logs sends it. The log host keeps a file for each host and program; turnkey-trace,
# there, tells one request's way through all of them.
{% from 'rsyslog/map.jinja' import rsyslog, receives, spool, flow with context %}

rsyslog:
  pkg.installed:
    - pkgs: {{ rsyslog.packages | json }}

ship-logs user:
  user.present:
    - name: ship-logs
    - usergroup: true
    - home: /nonexistent
    - createhome: false
    - shell: /usr/sbin/nologin
    - system: true

/etc/rsyslog-sender.pem:
  file.managed:
    - source: salt://rsyslog/files/identity.pem.jinja
    - template: jinja
    - group: ship-logs
    - mode: "0640"
    - show_changes: false
    - check_cmd: openssl x509 -noout -checkend 0 -in
    - context:
        identity: identity

{% if receives %}
/etc/rsyslog-receiver.pem:
  file.managed:
    - source: salt://rsyslog/files/identity.pem.jinja
    - template: jinja
    - mode: "0600"
    - show_changes: false
    - check_cmd: openssl x509 -noout -checkend 0 -in
    - context:
        identity: server_identity

/etc/rsyslog-hosts.json:
  file.managed:
    - source: salt://rsyslog/files/hosts.json.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: python3 -m json.tool

{{ rsyslog.archive }}:
  file.directory:
    - user: root
    - group: adm
    - mode: "2750"
    - makedirs: true

/usr/local/bin/turnkey-trace:
  file.managed:
    - source: salt://rsyslog/files/turnkey-trace.jinja
    - template: jinja
    - mode: "0755"
{% else %}
# A host that is the log host no more.
{% for path in ['/etc/rsyslog-receiver.pem', '/etc/rsyslog-hosts.json', '/usr/local/bin/turnkey-trace'] %}
{{ path }}:
  file.absent: []
{% endfor %}
{% endif %}

# rsyslogd writes into it, ship-logs removes what it has sent.
{{ spool }}:
  file.directory:
    - user: root
    - group: ship-logs
    - mode: "2770"

# Where it has read to. The check of the configuration wants it, before there is a service to make it.
/var/lib/rsyslog:
  file.directory:
    - user: root
    - group: root
    - mode: "0700"

/etc/rsyslog.conf:
  file.managed:
    - source: salt://rsyslog/files/rsyslog.conf.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: rsyslogd -N 1 -f

{% for command in ['ship-logs', 'measure-rsyslog'] %}
/usr/local/lib/turnkey/{{ command }}:
  file.managed:
    - source: salt://rsyslog/files/{{ command }}.jinja
    - template: jinja
    - mode: "0755"
    - makedirs: true
{% endfor %}

{% for unit in ['rsyslog', 'ship-logs'] %}
/etc/systemd/system/{{ unit }}.service:
  file.managed:
    - source: salt://rsyslog/files/{{ unit }}.service.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .service
    - check_cmd: systemd-analyze verify --man=no
{% endfor %}

# By this journald would hand lines over. What it did before it was told not to waits in there, and would start rsyslogd
# whenever it is stopped.
syslog.socket:
  service.dead: []

syslog.socket is masked:
  service.masked:
    - name: syslog.socket

rsyslog.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/rsyslog.service
        - /etc/rsyslog.conf
        {%- if receives %}
        - /etc/rsyslog-receiver.pem
    # The table alone is read again, and no connection broken.
    - reload:
        - /etc/rsyslog-hosts.json
        {%- endif %}

ship-logs.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/ship-logs.service
        - /usr/local/lib/turnkey/ship-logs
        - /etc/rsyslog-sender.pem
    # It counts, and so takes lines. (What the log host receives is not counted in the first seconds after it boots.)
    - check: test -s {{ flow }}
