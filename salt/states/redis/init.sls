# The memory that the hosts share: Redis, for those who know the password, persistent; of several hosts the first is the
# primary and the others replicate it, until Sentinel decides otherwise.
{% from 'redis/map.jinja' import redis, replicated with context %}

redis:
  pkg.installed:
    - pkgs: {{ redis.packages | json }}

/usr/local/sbin/check-redis-config:
  file.managed:
    - source: salt://redis/files/check-redis-config
    - mode: "0755"

/etc/redis/users.acl:
  file.managed:
    - source: salt://redis/files/users.acl.jinja
    - template: jinja
    - user: root
    - group: redis
    - mode: "0640"
    - show_changes: false
    - check_cmd: check-redis-config --aclfile

/etc/redis/redis.conf:
  file.managed:
    - source: salt://redis/files/redis.conf.jinja
    - template: jinja
    - user: root
    - group: redis
    - mode: "0640"
    - check_cmd: check-redis-config

{% if replicated %}
/etc/redis/replication.conf:
  file.managed:
    - source: salt://redis/files/replication.conf.jinja
    - template: jinja
    - user: root
    - group: redis
    - mode: "0640"
    - show_changes: false
    - check_cmd: check-redis-config

/usr/local/sbin/seed-redis:
  file.managed:
    - source: salt://redis/files/seed-redis.jinja
    - template: jinja
    - mode: "0755"

{# Not by `creates`: Salt's first look at one loads each state module that there is, half a second of every apply. #}
{% if not salt['file.file_exists']('/var/lib/redis/state.conf') %}
/var/lib/redis/state.conf:
  cmd.run:
    - name: seed-redis redis /var/lib/redis/state.conf
{% endif %}
{% endif %}

/etc/systemd/system/redis-server.service.d/turnkey.conf:
  file.managed:
    - source: salt://redis/files/unit.conf.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true

redis-server.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/redis-server.service.d/turnkey.conf
        - /etc/redis/redis.conf
        {%- if replicated %}
        - /etc/redis/replication.conf
        {%- endif %}
        - /etc/redis/users.acl
