"""The edge: holds the clients' connections.

    client ── gateway (HTTP, handshake) ── socket_protocol ── websocket (RFC 6455 core)
                 │                              │ socket (the seam)
              http_api                      connection ── codec (JSON) ── session (core)
                 │ backend (the seam)           │
                 └──────────── uplink ──────────┴── hub (subject → sessions, ring)
                                 ║
                            coordinators

Up: a frame goes from the socket through the codec to the session core, whose effects the
connection carries out: appends by the uplink, answers by the socket. Down: a delivery comes by
the uplink to the hub, becomes one immutable frame, and is written to every subscriber's socket.
`sweep` looks at all connections once a round; `entitlement`, `external_token` and `tokens` say
who may do what; `settings` holds the limits; `__main__` puts it together.
"""
