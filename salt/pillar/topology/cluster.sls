# Any one host may be lost. A further host is a further block. Plain YAML: the Vagrantfile and the tests read this too.
topology:
  name: cluster
  network: 10.77.2.0/24  # internal: who may see /healthz and /readyz; in the lab, the hosts' private network
  virtual_address: 10.77.2.5  # where clients come: one of the load balancers holds it, another takes it over
  hosts:
    lb1:
      address: 10.77.2.11
      roles: [lb]
    lb2:
      address: 10.77.2.12
      roles: [lb]
    web1:
      address: 10.77.2.21
      roles: [web, worker]
    web2:
      address: 10.77.2.22
      roles: [web, worker]
    data1:
      address: 10.77.2.31
      roles: [data]
    data2:
      address: 10.77.2.32
      roles: [data]
    data3:
      address: 10.77.2.33
      roles: [data]
    monitor:
      address: 10.77.2.40
      roles: [monitor, logs]
