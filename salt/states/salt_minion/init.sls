# The Salt minion: does what the site's master says, once each knows the other's key (salt/keyring.py).
{% from 'salt_minion/map.jinja' import salt_minion with context %}

/etc/salt/minion.d/turnkey.conf:
  file.managed:
    - source: salt://salt_minion/files/minion.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true
    - check_cmd: >-
        /opt/salt/bin/python -c
        'import salt.config, sys; salt.config.minion_config(sys.argv[1], ignore_config_errors=False)'

/etc/systemd/system/salt-minion.service:
  file.managed:
    - source: salt://salt_minion/files/salt-minion.service.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .service
    - check_cmd: systemd-analyze verify --man=no

salt-minion.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/salt-minion.service
        - /etc/salt/minion
        - /etc/salt/minion.d/turnkey.conf
        - /etc/salt/minion.d/trust.conf
        - /opt/salt/.installed
    - runs_us: true
