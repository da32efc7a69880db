"""Onward's services: four processes and a command line, which meet on the wire only.

    clients ─ edge ═ coordinator ═ presence ═ notifier plugins

    edge         holds the clients' sockets; no durable state
    coordinator  owns partitions, orders and stores messages and presence events
    presence     knows who is offline, decides who is notified, sends through plugins
    notifier     the built-in plugins (console, e-mail) and the harness to write one
    cli          the `onward` command; `onward up` runs all of the above on one machine
    chassis      what every process needs and no domain: gRPC, etcd, settings, logs, metrics

The import rule: a service imports `services.chassis` and the stubs in `gen/onward`, and never
another service; the chassis imports no service. `tests/rules` keeps it so.
"""
