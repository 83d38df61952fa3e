# Who watches over Redis where there are several: a Sentinel beside each. Most of them together may make another the primary.
{% from 'redis/map.jinja' import replicated with context %}
{% from 'sentinel/map.jinja' import sentinel, quorum with context %}

{% if replicated %}
sentinel:
  pkg.installed:
    - pkgs: {{ sentinel.packages | json }}

/usr/local/sbin/check-sentinel-config:
  file.managed:
    - source: salt://sentinel/files/check-sentinel-config.jinja
    - template: jinja
    - mode: "0755"

/usr/local/sbin/ask-sentinel:
  file.managed:
    - source: salt://sentinel/files/ask-sentinel.jinja
    - template: jinja
    - mode: "0755"

/etc/redis/sentinel.acl:
  file.managed:
    - source: salt://sentinel/files/sentinel.acl.jinja
    - template: jinja
    - user: root
    - group: redis
    - mode: "0640"
    - show_changes: false
    - check_cmd: check-sentinel-config --aclfile

# Not Debian's own /etc/redis/sentinel.conf: the Sentinel that the package starts at once rewrites that.
/etc/redis/turnkey-sentinel.conf:
  file.managed:
    - source: salt://sentinel/files/sentinel.conf.jinja
    - template: jinja
    - user: root
    - group: redis
    - mode: "0640"
    - show_changes: false
    - check_cmd: check-sentinel-config

{% if not salt['file.file_exists']('/var/lib/redis/sentinel.conf') %}
/var/lib/redis/sentinel.conf:
  cmd.run:
    - name: seed-redis sentinel /var/lib/redis/sentinel.conf
{% endif %}

/etc/systemd/system/redis-sentinel.service.d/turnkey.conf:
  file.managed:
    - source: salt://sentinel/files/unit.conf
    - mode: "0644"
    - makedirs: true

redis-sentinel.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/redis-sentinel.service.d/turnkey.conf
        - /etc/redis/turnkey-sentinel.conf
        - /etc/redis/sentinel.acl
    - check: ask-sentinel SENTINEL GET-MASTER-ADDR-BY-NAME {{ sentinel.name }}

# The one setting that only Sentinel's own file can hold, and that changes with the topology.
{% set told = "timeout 10 ask-sentinel SENTINEL MASTER " ~ sentinel.name ~ " | grep -A1 '^quorum$' | grep -qx " ~ quorum %}
{% if salt['cmd.retcode'](told, python_shell=true, ignore_retcode=true) %}
ask-sentinel SENTINEL SET {{ sentinel.name }} quorum {{ quorum }}:
  cmd.run: []
{% endif %}
{% endif %}
