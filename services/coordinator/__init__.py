"""The coordinator: orders and stores messages and presence events, one owner per partition.

    edge ═ servicer ── uplinks ── committer ── partition, registers (cores)
                          ▲            │
                          │            ▼
                          │        store ── sqlite_store, or postgres_store in a cluster
                          │            │
                          └── reporter ┘═══ presence service
           ownership ── chassis.ownership (shell) ── chassis.rendezvous (core) ── etcd

A request comes by a stream of `servicer`, waits in the committer's queue (before that, as one of
the `early_requests`, for a claim under way), and is decided by the cores (`bounds`: what is let in)
inside one commit of all partitions. Only then are its effects carried out: answers and deliveries
go into the outboxes of `uplinks`, entries to the `reporter`, which hands them to presence from
presence's own cursor. `ownership` makes each claim of a partition in etcd take effect in the store,
and gives up what is lost; `tail_copies` keeps in etcd how far each log has come. `retention`
removes what is no longer kept; `status` tells how all stand. `settings`: the limits; `__main__`
wires everything.
"""
