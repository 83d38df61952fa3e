# The address that clients come to: on the first load balancer that is well, and within seconds on another when it is not.
{% from 'keepalived/map.jinja' import keepalived with context %}

keepalived:
  pkg.installed:
    - pkgs: {{ keepalived.packages | json }}

keepalived_script:
  user.present:
    - home: /nonexistent
    - createhome: false
    - shell: /usr/sbin/nologin
    - system: true
    - usergroup: true

/usr/local/libexec/check-haproxy:
  file.managed:
    - source: salt://keepalived/files/check-haproxy.jinja
    - template: jinja
    - mode: "0755"
    - makedirs: true

/etc/keepalived/keepalived.conf:
  file.managed:
    - source: salt://keepalived/files/keepalived.conf.jinja
    - template: jinja
    - mode: "0644"
    # As the first of a world of processes: keepalived 2.2 ends its own test when it has another parent (fixed in 2.3).
    - check_cmd: unshare --pid --fork keepalived --config-test -f

/etc/systemd/system/keepalived.service.d/turnkey.conf:
  file.managed:
    - source: salt://keepalived/files/unit.conf
    - mode: "0644"
    - makedirs: true

keepalived.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/keepalived.service.d/turnkey.conf
    - reload:
        - /etc/keepalived/keepalived.conf
