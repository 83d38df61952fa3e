# The door: every request comes in here and goes to a web host that says it is ready. A host is taken out by hand with
#   echo 'set server web/web1 state drain' | socat - /run/haproxy/admin.sock      (put back: state ready)
# on each load balancer; what it is doing it may end.
{% from 'haproxy/map.jinja' import haproxy, fallback, fingerprint with context %}

haproxy:
  pkg.installed:
    - pkgs: {{ haproxy.packages | json }}

/usr/local/sbin/check-haproxy-page:
  file.managed:
    - source: salt://haproxy/files/check-haproxy-page
    - mode: "0755"

# Before the configuration that names it.
{{ fallback }}:
  file.managed:
    - source: salt://haproxy/files/status-page.html.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: check-haproxy-page

/etc/haproxy/haproxy.cfg:
  file.managed:
    - source: salt://haproxy/files/haproxy.cfg.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: haproxy -c -f

/usr/local/sbin/save-server-states:
  file.managed:
    - source: salt://haproxy/files/save-server-states.jinja
    - template: jinja
    - mode: "0755"

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
        - {{ fallback }}
    - check: >-
        sh -c "curl --silent --fail --max-time 5 http://127.0.0.1:{{ haproxy.status_port }}/configuration | grep -qx {{ fingerprint }}"
