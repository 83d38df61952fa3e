# Zabbix's pages and API: PHP under a user of its own, and an nginx of its own, apart from the app's. What Zabbix is to
# watch it is told here, through the API.
{% from 'zabbix_frontend/map.jinja' import zabbix_frontend, bind, user with context %}
# Templates that are not there, planned work that ends before it begins: said before anything is touched.
{% do salt['monitoring.wanted']() %}

# First: of several ways to run PHP, zabbix-frontend-php would bring Apache's. And nothing that is only recommended: that
# is Apache itself, for anybody to come to.
php-fpm:
  pkg.installed:
    - pkgs: [php-fpm]
    - install_recommends: false

zabbix_frontend:
  pkg.installed:
    - pkgs: {{ zabbix_frontend.packages | json }}
    - install_recommends: false

# The language that the pages are in: where the system has it not, each of them, graphs too, is an error.
en_US.UTF-8:
  locale.present: []

# What Debian's packages start by themselves, for anybody to come to.
php{{ zabbix_frontend.php }}-fpm.service:
  daemon.only: []
{% if 'web' not in pillar.roles %}
nginx.service:
  daemon.only: []
{% endif %}

{{ user }}:
  user.present:
    - system: true
    - usergroup: true
    - createhome: false
    - home: /nonexistent
    - shell: /usr/sbin/nologin

/etc/zabbix/zabbix.conf.php:
  file.managed:
    - source: salt://zabbix_frontend/files/zabbix.conf.php.jinja
    - template: jinja
    - user: root
    - group: {{ user }}
    - mode: "0640"
    - check_cmd: php -l

/etc/zabbix/php-fpm.conf:
  file.managed:
    - source: salt://zabbix_frontend/files/php-fpm.conf.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: php-fpm{{ zabbix_frontend.php }} --test --fpm-config

/usr/local/sbin/check-zabbix-web-config:
  file.managed:
    - source: salt://zabbix_frontend/files/check-zabbix-web-config
    - mode: "0755"

/etc/zabbix/nginx.conf:
  file.managed:
    - source: salt://zabbix_frontend/files/nginx.conf.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: check-zabbix-web-config

/etc/systemd/system/zabbix-php.service:
  file.managed:
    - source: salt://zabbix_frontend/files/zabbix-php.service.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .service
    - check_cmd: systemd-analyze verify --man=no

/etc/systemd/system/zabbix-web.service:
  file.managed:
    - source: salt://zabbix_frontend/files/zabbix-web.service
    - mode: "0644"
    - tmp_ext: .service
    - check_cmd: systemd-analyze verify --man=no

zabbix-php.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/zabbix-php.service
        - /etc/zabbix/php-fpm.conf
        - /etc/zabbix/zabbix.conf.php

zabbix-web.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/zabbix-web.service
    - reload:
        - /etc/zabbix/nginx.conf
    - check: curl --silent --fail --max-time 10 --output /dev/null http://{{ bind }}:{{ zabbix_frontend.port }}{{ zabbix_frontend.path }}/index.php

# Hosts, templates, who is told of problems, how long what is kept: as this repository has it, and no other.
Zabbix:
  monitoring.configured:
    - url: http://{{ bind }}:{{ zabbix_frontend.port }}{{ zabbix_frontend.path }}/
