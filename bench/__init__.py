"""What Onward costs and how fast it is, measured through the real suite: `make bench`.

`__main__`      which figures, and where the results go
`fanout`        1 → 1,000: server CPU per delivery and latency, beside the floor; saturated rates
`publishing`    durable publishes a second, over uplinks and over WebSocket
`idle`          memory and CPU of connections that only wait
`handoff`       from a publish to a notifier's call, and to an e-mail server
`suite`         `onward up`, in a directory of its own
`programs`      the load programs in C: built at run time, driven by lines of text
`uplink_load`   publishes of an edge without sockets, straight to the coordinator
`inbox`         the two receivers of notifications: a plugin, and an SMTP server
`machine`       CPU time, memory and load, as the kernel tells them
`report`        figures, their targets, the table and the plot

`subscribe.c`, `publish.c`, `floor.c` and `wire.h` are the load programs. docs/benchmarks.md says
how to read the numbers.
"""
