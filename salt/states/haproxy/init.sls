# The door: every request comes in here and goes to a web host that says it is ready.
{% from 'haproxy/map.jinja' import haproxy, fingerprint with context %}

haproxy:
  pkg.installed:
    - pkgs: {{ haproxy.packages | json }}

/etc/haproxy/haproxy.cfg:
  file.managed:
    - source: salt://haproxy/files/haproxy.cfg.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: haproxy -c -f

/etc/systemd/system/haproxy.service.d/turnkey.conf:
  file.managed:
    - source: salt://haproxy/files/unit.conf
    - mode: "0644"
    - makedirs: true

haproxy.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/haproxy.service.d/turnkey.conf
    - reload:
        - /etc/haproxy/haproxy.cfg
    - check: >-
        sh -c "curl --silent --fail --max-time 5 http://127.0.0.1:{{ haproxy.status_port }}/configuration | grep -qx {{ fingerprint }}"
