# The door: every request comes in here and goes to a web host that says it is ready.
{% from 'haproxy/map.jinja' import haproxy with context %}

haproxy:
  pkg.installed:
    - pkgs: {{ haproxy.packages | json }}

/etc/haproxy/haproxy.cfg:
  file.managed:
    - source: salt://haproxy/files/haproxy.cfg.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: haproxy -c -q -f

haproxy.service:
  daemon.running:
    - reload:
        - /etc/haproxy/haproxy.cfg
