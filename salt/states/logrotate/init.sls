# Every log file that the stack writes is rotated, by size and age, and its writer told to reopen it.
{% from 'logrotate/map.jinja' import logrotate, logs, folders with context %}

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

# Of logs that were here and are none of this host's any more.
{% if salt['file.directory_exists']('/etc/logrotate.d') %}
{% for path in salt['file.find']('/etc/logrotate.d', type='f', grep='Managed by Salt, formula logrotate') | sort %}
{% if path.rpartition('/')[2] not in logs %}
{{ path }}:
  file.absent: []
{% endif %}
{% endfor %}
{% endif %}

/etc/tmpfiles.d/turnkey-archive.conf:
{% if folders.ARCHIVE is defined %}
  file.managed:
    - source: salt://logrotate/files/tmpfiles.conf.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .conf
    - check_cmd: systemd-tmpfiles --create
{% else %}
  file.absent: []
{% endif %}

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
