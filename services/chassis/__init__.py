"""What every process of Onward is built on. It knows gRPC, etcd and the operating system, and
nothing of sessions, messages or notifications.

    process   runs a service: event loop, signals, exit codes
    settings  reads a service's frozen dataclass from the environment
    server    a gRPC server: health, reflection, the shared secret, draining (server_metrics)
    channel   a gRPC channel to such a server
    etcd      a small client: transactions, leases, watches that resume
    cluster   the keys in etcd: members, owners, the directory that follows them
    ownership makes a process the owner of its share of the partitions, by the rules of rendezvous
              (owner_keys: in etcd)
    postgres  a connection to PostgreSQL with a deadline; for those who keep something there
    refusals  builds refusals; their codes stand in refusal.proto
    errors    faults: exceptions that know their gRPC status and whether to retry
    tasks     tells a task that was cancelled from one that ended by itself
    subjects  what a subject may be, and which partition it falls in
    mute_tokens  signed links by which a notification's subject is muted
    logs      structured logs that cannot leak
    metrics   the /metrics port of services without HTTP
"""
