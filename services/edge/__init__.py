"""The edge: holds the clients' connections.

    client ── gateway (doorstep, handshake, handoff) ── socket_protocol ── websocket (RFC 6455 core)
                 │                                │ socket (the seam)   └─ intake, meter
              http_api                        connection ── codec (JSON) ── session (core)
                 │ backend (the seam)             │
                 └────────────────────────── exchange ── hub (channels; holes, rings, fan_outs)
                                               │   ├── marks (what is acknowledged or owed)
                                               │   └── lookups ── readers ══ other services
                                             outbox ── uplink ══ coordinators

Up: a frame goes from the socket through the codec to the session core, whose effects the
connection carries out: appends through the exchange and outbox, answers by the socket. Down: a
delivery comes by the uplink to the hub, becomes one immutable frame, and is written to every
subscriber's socket. `sweep` looks at all connections once a round; `term` holds the edge's lease;
`departures` says when each client of an edge that stops leaves; `entitlement`, `external_token` and
`tokens` who may do what; `status` and `servicer` how the edge stands, `members` and
`cluster_status` how everybody does; of `http_api`, `http_users` and `http_presence` serve users'
data and who is there, `http_delivery` what operators do, `http_callbacks` providers, `http_mute`
links that mute, `http_story` streams, `http_page` `page/`;
`limits` and `settings` hold the bounds; `__main__` joins it; `crew` runs several of it.
"""
