# The memory that the hosts share: Redis, for those who know the password, persistent.
{% from 'redis/map.jinja' import redis, bind with context %}

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

/etc/systemd/system/redis-server.service.d/turnkey.conf:
  file.managed:
    - source: salt://redis/files/unit.conf
    - mode: "0644"
    - makedirs: true

redis-server.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/redis-server.service.d/turnkey.conf
        - /etc/redis/redis.conf
        - /etc/redis/users.acl
