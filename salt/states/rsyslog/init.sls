# Every line of a log goes to the log host, encrypted, and waits on this host's disk while that one is away. The log host
# keeps a file for each host and program; turnkey-trace, there, tells one request's way through all of them.
{% from 'rsyslog/map.jinja' import rsyslog, receives with context %}

rsyslog:
  pkg.installed:
    - pkgs: {{ rsyslog.packages | json }}

/etc/rsyslog-sender.pem:
  file.managed:
    - source: salt://rsyslog/files/identity.pem.jinja
    - template: jinja
    - mode: "0600"
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

# Its queues. The check of the configuration wants it, before there is a service to make it.
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

/etc/systemd/system/rsyslog.service:
  file.managed:
    - source: salt://rsyslog/files/rsyslog.service.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .service
    - check_cmd: systemd-analyze verify --man=no

# By this journald would hand lines over. What it did before it was told not to waits in there, and would start rsyslogd
# whenever it is stopped.
syslog.socket:
  service.dead: []

syslog.socket is masked:
  service.masked:
    - name: syslog.socket

/usr/local/lib/turnkey/measure-rsyslog:
  file.managed:
    - source: salt://rsyslog/files/measure-rsyslog.jinja
    - template: jinja
    - mode: "0755"
    - makedirs: true

rsyslog.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/rsyslog.service
        - /etc/rsyslog.conf
        - /etc/rsyslog-sender.pem
        {%- if receives %}
        - /etc/rsyslog-receiver.pem
        - /etc/rsyslog-hosts.json
        {%- endif %}
    # It counts, and so takes lines.
    - check: /usr/local/lib/turnkey/measure-rsyslog
