# The walls of each host: closed, but for what the topology says that others need.
{% from 'firewall/map.jinja' import firewall, fingerprint with context %}

{% if firewall.enabled %}
firewall:
  pkg.installed:
    - pkgs: {{ firewall.packages | json }}

/usr/local/sbin/check-firewall:
  file.managed:
    - source: salt://firewall/files/check-firewall.jinja
    - template: jinja
    - mode: "0755"

/etc/nftables/turnkey.nft:
  file.managed:
    - source: salt://firewall/files/firewall.nft.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true
    - check_cmd: check-firewall

/etc/systemd/system/firewall.service:
  file.managed:
    - source: salt://firewall/files/firewall.service
    - mode: "0644"
    - tmp_ext: .service
    - check_cmd: systemd-analyze verify --man=no

# Loaded anew in one step, never stopped and started: between the two all would be open.
firewall.service:
  daemon.running:
    - reload:
        - /etc/systemd/system/firewall.service
        - /etc/nftables/turnkey.nft
    - check: sh -c "nft list table inet turnkey | grep -q {{ fingerprint }}"
{% else %}
# There may have been one: its rules go when it stops.
firewall.service:
  daemon.only: []

{% for path in ['/etc/systemd/system/firewall.service', '/etc/nftables/turnkey.nft'] %}
{{ path }}:
  file.absent: []
{% endfor %}
{% endif %}
