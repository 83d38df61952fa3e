# Every log file that the stack writes is rotated, by size and age, and its writer told to reopen it.
{% from 'logrotate/map.jinja' import logrotate, logs with context %}

logrotate:
  pkg.installed:
    - pkgs: {{ logrotate.packages | json }}

{% for name, log in logs.items() %}
/etc/logrotate.d/{{ name }}:
  file.managed:
    - source: salt://logrotate/files/log.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: logrotate --debug --state /dev/null
    - context:
        log: {{ log | json }}
{% endfor %}

/etc/systemd/system/logrotate.timer.d/turnkey.conf:
  file.managed:
    - source: salt://logrotate/files/timer.conf.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true

logrotate.timer:
  daemon.running:
    - restart:
        - /etc/systemd/system/logrotate.timer.d/turnkey.conf

/etc/systemd/journald.conf.d/turnkey.conf:
  file.managed:
    - source: salt://logrotate/files/journald.conf.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true

systemd-journald.service:
  daemon.running:
    - restart:
        - /etc/systemd/journald.conf.d/turnkey.conf
