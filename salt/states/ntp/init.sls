# The host's clock, kept by chrony.
{% from 'ntp/map.jinja' import ntp, adjusts_clock with context %}

chrony:
  pkg.installed:
    - pkgs: {{ ntp.packages | json }}

/etc/chrony/chrony.keys:
  file.managed:
    - source: salt://ntp/files/chrony.keys.jinja
    - template: jinja
    - user: root
    - group: root
    - mode: "0640"
    - show_changes: false
    # chronyd would only log that a line is none of its keys.
    - check_cmd: >-
        sh -c '! grep -Evq "^(#.*|1 SHA256 ASCII:[A-Za-z0-9_-]{20,})$" "$0"'

/etc/chrony/authorities.pem:
  file.managed:
    - source: salt://ntp/files/authorities.pem.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: openssl storeutl -noout -certs

/etc/chrony/chrony.conf:
  file.managed:
    - source: salt://ntp/files/chrony.conf.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: chronyd -p -f

/etc/default/chrony:
  file.managed:
    - source: salt://ntp/files/default.jinja
    - template: jinja
    - mode: "0644"

/etc/systemd/system/chrony.service.d/turnkey.conf:
  file.managed:
    - source: salt://ntp/files/unit.conf.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true

chrony.service:
  daemon.running:
    - restart:
        - /etc/chrony/chrony.conf
        - /etc/chrony/chrony.keys
        - /etc/chrony/authorities.pem
        - /etc/default/chrony
        - /etc/systemd/system/chrony.service.d/turnkey.conf
    - check: chronyc -n tracking
