# Zabbix: knows how each host is. What it watches is told it through the API of its frontend (formula zabbix_frontend).
{% from 'zabbix_server/map.jinja' import zabbix_server with context %}

zabbix_server:
  pkg.installed:
    - pkgs: {{ zabbix_server.packages | json }}
    # An SNMP daemon would be.
    - install_recommends: false

/usr/local/sbin/load-zabbix-schema:
  file.managed:
    - source: salt://zabbix_server/files/load-zabbix-schema
    - mode: "0755"

# In one transaction: cut off, nothing of it is there.
schema of Zabbix:
  cmd.run:
    - name: load-zabbix-schema
    - unless: load-zabbix-schema --done

/usr/local/lib/turnkey/set-zabbix-password.php:
  file.managed:
    - source: salt://zabbix_server/files/set-zabbix-password.php
    - mode: "0644"
    - makedirs: true
    - check_cmd: php -l

# Before there is a frontend that the password in Debian's package could be used at.
Admin:
  monitoring.password: []

/usr/local/sbin/check-zabbix-server-config:
  file.managed:
    - source: salt://zabbix_server/files/check-zabbix-server-config
    - mode: "0755"

/etc/zabbix/zabbix_server.conf:
  file.managed:
    - source: salt://zabbix_server/files/zabbix_server.conf.jinja
    - template: jinja
    - user: root
    - group: zabbix
    - mode: "0640"
    - check_cmd: check-zabbix-server-config

/etc/systemd/system/zabbix-server.service.d/turnkey.conf:
  file.managed:
    - source: salt://zabbix_server/files/unit.conf.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true

zabbix-server.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/zabbix-server.service.d/turnkey.conf
        - /etc/zabbix/zabbix_server.conf
    - check: bash -c "exec 3<>/dev/tcp/127.0.0.1/{{ zabbix_server.port }}"

{{ zabbix_server.backup.path }}:
  file.directory:
    - user: zabbix
    - group: zabbix
    - mode: "0700"
    - makedirs: true

{% for command in ['backup-zabbix', 'restore-zabbix'] %}
/usr/local/sbin/{{ command }}:
  file.managed:
    - source: salt://zabbix_server/files/{{ command }}.jinja
    - template: jinja
    - mode: "0755"
{% endfor %}

{% for kind in ['service', 'timer'] %}
/etc/systemd/system/backup-zabbix.{{ kind }}:
  file.managed:
    - source: salt://zabbix_server/files/backup-zabbix.{{ kind }}.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .{{ kind }}
    - check_cmd: systemd-analyze verify --man=no
{% endfor %}

{% if zabbix_server.backup.enabled %}
backup-zabbix.timer:
  daemon.running:
    - restart:
        - /etc/systemd/system/backup-zabbix.timer
        - /etc/systemd/system/backup-zabbix.service
{% else %}
backup-zabbix.timer:
  daemon.only: []
{% endif %}
