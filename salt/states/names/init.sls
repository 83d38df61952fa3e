# What the hosts are called, on each of them.
{% from 'names/map.jinja' import names with context %}

{% if names.hosts_file %}
/usr/local/sbin/put-names:
  file.managed:
    - source: salt://names/files/put-names.jinja
    - template: jinja
    - mode: "0755"

/etc/systemd/system/names.service:
  file.managed:
    - source: salt://names/files/names.service
    - mode: "0644"
    - tmp_ext: .service
    - check_cmd: systemd-analyze verify --man=no

names.service:
  daemon.running:
    - reload:
        - /usr/local/sbin/put-names
        - /etc/systemd/system/names.service
    - check: put-names --check
{% else %}
# There may have been some: they go when it stops.
names.service:
  daemon.only: []

{% for path in ['/etc/systemd/system/names.service', '/usr/local/sbin/put-names'] %}
{{ path }}:
  file.absent: []
{% endfor %}
{% endif %}
