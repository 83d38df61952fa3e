# One host with every role. Plain YAML: the Vagrantfile and the tests read this file too.
topology:
  name: single
  network: 10.77.1.0/24  # internal: who may see /healthz and /readyz; in the lab, the hosts' private network
  hosts:
    single:
      address: 10.77.1.10
      roles: [lb, web, worker, data, monitor, logs]
