# The cache in front of the app: what was calculated once is served from here.
{% from 'nginx/map.jinja' import nginx, fingerprint with context %}

nginx:
  pkg.installed:
    - pkgs: {{ nginx.packages | json }}

{{ nginx.cache.path }}:
  file.directory:
    - user: www-data
    - group: root
    - mode: "0700"
    - makedirs: true

/etc/nginx/nginx.conf:
  file.managed:
    - source: salt://nginx/files/nginx.conf.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: nginx -t -q -c

/etc/systemd/system/nginx.service.d/turnkey.conf:
  file.managed:
    - source: salt://nginx/files/unit.conf
    - mode: "0644"
    - makedirs: true

nginx.service:
  daemon.running:
    - reload:
        - /etc/nginx/nginx.conf
        - /etc/systemd/system/nginx.service.d/turnkey.conf
    - check: >-
        sh -c "curl --silent --fail --max-time 5 http://127.0.0.1:{{ nginx.status_port }}/configuration | grep -qx {{ fingerprint }}"
