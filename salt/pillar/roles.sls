# The roles of this host, from the topology and never from what the host says of itself.
{% import_yaml 'topology/' ~ opts.turnkey.topology ~ '.sls' as site %}
{% if grains.id not in site.topology.hosts %}
  {{ raise('topology ' ~ site.topology.name ~ ' has no host ' ~ grains.id ~ '; it has: ' ~ site.topology.hosts | join(', ')) }}
{% endif %}
{# Who leads: the master of several hosts. A host alone follows nobody. #}
{% for name, host in site.topology.hosts.items() if 'monitor' in host.roles and site.topology.hosts | length > 1 %}
led_by: {{ name }}
{% endfor %}
roles: {{ site.topology.hosts[grains.id].roles | json }}
