"""Settings of the edge: limits and times of the client protocol, and how this process is set up."""

import re
from dataclasses import dataclass

from services.chassis.errors import SettingError
from services.chassis.settings import setting
from services.chassis.shared_settings import SharedSettings
from services.edge.http_origin import is_loopback

_ORIGIN = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SharedSettings):
    """Read from `ONWARD_EDGE_…`; see `docs/settings.md` for all of them."""

    # Where
    address: str = setting(
        "127.0.0.1:8080", doc="host:port on which clients connect (HTTP and WebSocket)"
    )
    grpc_address: str = setting(
        "127.0.0.1:0", doc="host:port of health checks and status by gRPC; port 0 draws one"
    )

    workers: int = setting(
        1,
        least=0,
        most=256,
        doc="processes that share the address, each an edge of its own (SO_REUSEPORT); 0: as many "
        "as there are cores. Bounds are for each of them. Ports of gRPC and metrics that are not 0 "
        "are those of the first; each further one has the next",
    )
    shared_address: bool = setting(
        False,
        doc="true lets other edges of this machine have the same address, if they are set so too; "
        "workers are. Then /metrics is not served there, since it would be anybody's",
    )
    metrics_port: int = setting(
        0,
        least=0,
        most=65_535,
        doc="another port of /metrics, for edges that share their address; 0: none",
    )

    # Who
    anonymous: bool = setting(
        False,
        doc="true lets clients in without a token, as whoever they say they are; only for one "
        "machine, on loopback",
    )
    page: bool = setting(
        False, doc="true serves the page at /, which shows the handover between two people"
    )
    jwt_hs256_secret: str = setting(
        "",
        secret=True,
        doc="key of at least 32 bytes that clients' tokens are signed with (HS256); empty: no "
        "token is good",
    )

    # How much
    content_bytes_max: int = setting(
        65_536, least=1, most=262_144, doc="bytes of content in one message; more is refused"
    )
    frame_bytes_max: int = setting(
        524_288,
        least=131_072,
        most=4_194_304,
        doc="bytes of one WebSocket message or request body; a larger one ends the connection "
        "(1009) or is refused (413)",
    )
    headers_bytes_max: int = setting(
        4_096, least=0, most=65_536, doc="bytes of a message's headers, and of a client's info"
    )
    subscriptions_max: int = setting(
        1_000, least=1, most=100_000, doc="subscriptions of one session; further ones are refused"
    )
    publish_rate: int = setting(
        100, least=1, doc="publishes a second of one session, over time; more are refused"
    )
    publish_burst: int = setting(
        200, least=1, doc="publishes of one session at once, before publish_rate is asked"
    )
    http_publish_rate: int = setting(
        1_000,
        least=1,
        doc="publishes a second of one user by HTTP, over time; more are refused. For programs "
        "that publish for many",
    )
    http_publish_burst: int = setting(
        2_000,
        least=1,
        doc="publishes of one user by HTTP at once, before http_publish_rate is asked",
    )
    callback_rate: int = setting(
        500,
        least=1,
        doc="requests a second that providers make at /v1/callbacks from one network address, over "
        "time; more are refused (429). Nobody is asked for a token there",
    )
    callback_burst: int = setting(
        1_000,
        least=1,
        doc="such requests from one network address at once, before callback_rate is asked",
    )
    subscriptions_in_all_max: int = setting(
        1_000_000,
        least=1_000,
        doc="subscriptions of all sessions of this process; beyond it further ones are refused "
        "(OVERLOADED). Each takes about half a KiB",
    )
    external_tokens_max: int = setting(
        16, least=1, most=1_000, doc="external tokens of one connect frame; more are refused"
    )
    recovery_messages_max: int = setting(
        1_000,
        least=1,
        most=1_000,
        doc="messages of a subject that a recovery sends; with more to send it is refused "
        "(recovered: false)",
    )
    recovery_bytes_max: int = setting(
        1_048_576, least=65_536, doc="bytes of content that a recovery of a subject sends, likewise"
    )
    recoveries_bytes_max: int = setting(
        16_777_216,
        least=1_048_576,
        doc="bytes of content that all recoveries of one frame send; beyond it a recovery is "
        "refused (recovered: false)",
    )
    history_max: int = setting(
        1_000, least=1, most=1_000, doc="messages of one page of history, and of `history: n`"
    )
    sockets_max: int = setting(
        15_000,
        least=1,
        doc="WebSockets of this process; further handshakes are refused (503). Keep it below the "
        "limit of file descriptors",
    )
    requests_max: int = setting(
        1_000,
        least=1,
        doc="HTTP connections of this process that are no WebSockets (yet); the first request of a "
        "further one is refused (503)",
    )
    half_open_max: int = setting(
        2_000,
        least=1,
        doc="TCP connections of this process that have not sent a complete request; for a further "
        "one the oldest is closed",
    )
    address_connections_max: int = setting(
        1_000,
        least=0,
        doc="connections of one network address (IPv6: of one /64), WebSockets included; further "
        "ones are refused (429). 0: no limit, as it must be where clients come through a proxy",
    )
    frame_rate: int = setting(
        300,
        least=1,
        doc="WebSocket frames a second of one client, over time; beyond it, its socket is not read "
        "for a while. Never less than twice publish_rate",
    )
    frame_burst: int = setting(
        2_000, least=64, doc="WebSocket frames of one client at once, before frame_rate is asked"
    )
    input_rate_bytes: int = setting(
        2_097_152,
        least=16_384,
        doc="bytes a second of one client, over time; beyond it, its socket is not read for a "
        "while",
    )
    input_burst_bytes: int = setting(
        4_194_304,
        least=131_072,
        doc="bytes of one client at once, before input_rate_bytes is asked",
    )
    unfinished_bytes_max: int = setting(
        134_217_728,
        least=4_194_304,
        doc="bytes of incomplete WebSocket messages that this process keeps for all clients; "
        "beyond it, who has the largest is closed (1008)",
    )
    stories_max: int = setting(
        200,
        least=0,
        doc="story streams of this process (GET /v1/explain as server-sent events); further ones "
        "are refused (OVERLOADED). Each is a connection and a watch at presence",
    )
    write_high_bytes: int = setting(
        262_144,
        least=16_384,
        doc="bytes waiting for a slow client; beyond it nothing queues, and the session is "
        "refilled later",
    )
    write_bytes_max: int = setting(
        2_097_152,
        least=262_144,
        doc="bytes waiting for a slow client in all, answers included; beyond it the connection "
        "closes (4001)",
    )
    send_buffer_bytes: int = setting(
        131_072,
        least=4_096,
        doc="the kernel's send buffer of a connection (SO_SNDBUF); larger costs memory for each "
        "slow client",
    )
    receive_buffer_bytes: int = setting(
        131_072,
        least=4_096,
        doc="the kernel's receive buffer of a connection (SO_RCVBUF); larger lets far clients send "
        "faster, and costs memory for each client that is not read",
    )

    # How long
    connect_s: float = setting(
        15.0, least=0.1, doc="seconds a client has to send `connect`; then it is closed (4501)"
    )
    round_s: float = setting(
        2.0,
        least=0.05,
        doc="seconds between rounds of pings to sessions with unacknowledged messages; quiet ones "
        "are pinged in one round of twelve",
    )
    pong_s: float = setting(
        10.0, least=0.1, doc="seconds a client has to answer a ping; then it is closed (4002)"
    )
    unacknowledged_s: float = setting(
        35.0,
        least=1.0,
        doc="seconds a message may stay unacknowledged; then the session is closed (4002)",
    )
    slow_s: float = setting(
        30.0, least=0.1, doc="seconds a session may lag behind; then it is closed (4001)"
    )
    close_s: float = setting(
        5.0, least=0.1, doc="seconds a close handshake may take; then the connection is cut"
    )
    message_s: float = setting(
        60.0,
        least=0.1,
        doc="seconds a WebSocket message may take to arrive; then the connection is closed (1008)",
    )
    request_s: float = setting(
        15.0,
        least=0.1,
        doc="seconds an HTTP connection may be idle, and a request take to arrive; then it is cut",
    )
    drain_s: float = setting(
        10.0,
        least=0.0,
        doc="seconds that clients are given on SIGTERM, in all; their reconnects are spread over "
        "most of it. Longer is gentler to the edges that stay, and makes a restart take longer",
    )
    drain_rate: int = setting(
        500,
        least=1,
        doc="clients a second that are sent away on SIGTERM, as far as drain_s allows; with few "
        "clients a stop takes less than drain_s",
    )
    tcp_user_timeout_ms: int = setting(
        40_000,
        least=1_000,
        doc="milliseconds until the kernel gives up a peer that acknowledges nothing "
        "(TCP_USER_TIMEOUT), or takes nothing more; with slow_s and close_s above it, slow clients "
        "are cut before they are told why",
    )
    publish_wait_s: float = setting(
        10.0,
        least=0.1,
        doc="seconds a publish waits for an owner to take it; then it is answered UNAVAILABLE",
    )
    dedupe_window_s: int = setting(
        3_600,
        least=1,
        doc="seconds a publicationId is remembered, as told to clients; must be what the "
        "coordinators are set to",
    )
    ring_messages: int = setting(
        256, least=1, doc="recent messages of a subject kept for those that lag or return"
    )
    ring_bytes: int = setting(
        1_048_576, least=65_536, doc="bytes of such messages, for each subject"
    )
    rings_bytes: int = setting(
        268_435_456,
        least=1_048_576,
        doc="bytes of such messages in all; beyond it the subject that moved longest ago keeps "
        "none, and who lags there is closed (4001)",
    )
    backlogs_bytes: int = setting(
        268_435_456,
        least=1_048_576,
        doc="bytes that wait to be recovered by slow clients, in all; beyond it a session that "
        "begins with more is closed (4001), and may return",
    )
    held_publishes_max: int = setting(
        20_000,
        least=1,
        doc="publishes that wait for their owners; further ones are refused (OVERLOADED)",
    )
    held_bytes_max: int = setting(
        67_108_864, least=1_048_576, doc="bytes of such publishes, likewise"
    )


_SECRET_BYTES_MIN = 16
_JWT_SECRET_BYTES_MIN = 32  # RFC 7518, section 3.2: as long as the hash


def check(settings: Settings) -> None:
    """Raises SettingError for what no single setting shows."""
    if 0 < len(settings.secret.encode()) < _SECRET_BYTES_MIN:
        raise SettingError(
            f"ONWARD_SECRET is too short; set it to {_SECRET_BYTES_MIN} characters or more"
        )
    if 0 < len(settings.jwt_hs256_secret.encode()) < _JWT_SECRET_BYTES_MIN:
        raise SettingError(
            "ONWARD_EDGE_JWT_HS256_SECRET is too short; set it to a key of at least "
            f"{_JWT_SECRET_BYTES_MIN} bytes"
        )
    if settings.anonymous and not is_loopback(settings.address.rpartition(":")[0].strip("[]")):
        raise SettingError(
            f"ONWARD_EDGE_ANONYMOUS is true and ONWARD_EDGE_ADDRESS {settings.address} can be "
            "reached from other machines; set the first to false, or the second to 127.0.0.1:port"
        )
    if settings.public_url and not _ORIGIN.fullmatch(settings.public_url):
        raise SettingError(
            f"ONWARD_PUBLIC_URL is {settings.public_url}, which is no https://host[:port]; "
            "write it so, without a path"
        )
    if settings.write_bytes_max < settings.write_high_bytes:
        raise SettingError(
            "ONWARD_EDGE_WRITE_BYTES_MAX is below ONWARD_EDGE_WRITE_HIGH_BYTES; raise it"
        )
