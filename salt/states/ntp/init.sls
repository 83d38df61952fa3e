# The host's clock, kept by chrony.
{% from 'ntp/map.jinja' import ntp, adjusts_clock with context %}

chrony:
  pkg.installed:
    - pkgs: {{ ntp.packages | json }}

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
        - /etc/default/chrony
        - /etc/systemd/system/chrony.service.d/turnkey.conf
    - check: chronyc -n tracking
