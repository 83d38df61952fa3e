# The Salt master: tells each minion whose key was accepted its own pillar, and lets all of them apply at one command.
{% from 'salt_master/map.jinja' import commands with context %}

/etc/salt/master:
  file.managed:
    - source: salt://salt_master/files/master.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: >-
        /opt/salt/bin/python -c
        'import salt.config, sys; salt.config.master_config(sys.argv[1], exit_on_config_errors=True)'

# Which salt/keyring.py may have made, with the master's key.
/etc/salt/pki/master:
  file.directory:
    - mode: "0700"
    - makedirs: true

{% for command in commands %}
/usr/local/bin/{{ command }}:
  file.symlink:
    - target: /opt/salt/bin/{{ command }}
{% endfor %}

/etc/systemd/system/salt-master.service:
  file.managed:
    - source: salt://salt_master/files/salt-master.service.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .service
    - check_cmd: systemd-analyze verify --man=no

salt-master.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/salt-master.service
        - /etc/salt/master
        - /opt/salt/.installed
