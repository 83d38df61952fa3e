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

/usr/local/lib/turnkey/tell-errors:
  file.managed:
    - source: salt://nginx/files/tell-errors
    - mode: "0755"
    - makedirs: true

{% for kind in ['service', 'socket'] %}
/etc/systemd/system/nginx-error.{{ kind }}:
  file.managed:
    - source: salt://nginx/files/nginx-error.{{ kind }}
    - mode: "0644"
    - tmp_ext: .{{ kind }}
    - check_cmd: systemd-analyze verify --man=no
{% endfor %}

nginx-error.socket:
  daemon.running:
    - restart:
        - /etc/systemd/system/nginx-error.socket

nginx-error.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/nginx-error.service
        - /usr/local/lib/turnkey/tell-errors

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
