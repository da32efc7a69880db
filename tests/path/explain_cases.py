"""Every outcome of a message for a user: how it comes about, and what `explain` tells of it.

`CASES` are played on a suite with `ROUTING` and `SETTINGS`, each by a user of its own
(`explain_stage`) whose external tokens say how the plugin answers (`scripted_plugin`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.path.explain_stage import TOKEN, Stage, fcm
from tests.path.scripted_plugin import DETAIL
from tests.path.stack import QUICK
from tests.waiting import wait_for

DIGEST_S = 3
ROUTING = f"""
categories:
  news: {{title: News}}
routes:
  - {{subject: /tell/NO_ROUTE, channels: [apns]}}
  - {{subject: /tell/PREFERENCE, category: news, priority: high}}
  - {{subject: /tell/QUIET_HOURS, quiet_hours: drop}}
  - {{subject: /tell/escalated/*, channels: [[fcm], [apns]], escalate_s: 1}}
  - {{subject: /tell/collapsed, collapse_s: {DIGEST_S}}}
  - {{subject: /tell/digest/*, digest_s: {DIGEST_S}}}
  - {{subject: /tell/late, digest_s: {DIGEST_S}}}
  - {{subject: /tell/always, policy: always, category: news, priority: urgent}}
  - {{subject: /tell/template, template: broken}}
rates:
  tel: {{at_most: 1, per_s: 86400, then: drop}}
  mailto: {{at_most: 1, per_s: 86400}}
templates:
  broken: {{title: "{{{{ newest.nothing.there }}}}"}}
"""
SETTINGS = QUICK | {
    "ONWARD_PRESENCE_GRACE_S": "0.5",
    "ONWARD_PRESENCE_GRACE_CLEAN_S": "0.5",
    "ONWARD_PRESENCE_HOLD_CHECK_S": "0.1",
    "ONWARD_PRESENCE_AWAY_AFTER_S": "0.5",
    "ONWARD_PRESENCE_COLLAPSE_S": "0",
    "ONWARD_PRESENCE_RETRY_TRIES_MAX": "2",
    "ONWARD_PRESENCE_RETRY_FIRST_S": "0.1",
    # The suite's own notifier serves nothing of what is sent here.
    "ONWARD_NOTIFIER_CONSOLE": "false",
    "ONWARD_SMTP_URL": "smtp://127.0.0.1:9",
    "ONWARD_SMTP_FROM": "chat@onward.example",
}


def quiet_now() -> dict[str, Any]:
    return {"quietHours": {"fromMinute": 0, "toMinute": 0}}


Drive = Callable[[Stage], int]


@dataclass(frozen=True)
class Case:
    """How an outcome comes about, and what is told of it. `words` are in its sentence, `shown` on
    the screen beside."""

    name: str
    state: str
    reason: str
    words: str
    drive: Drive
    subject: str = ""
    shown: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return self.subject or f"/tell/{self.name}"


def plain(words: str, times: int = 1) -> Drive:
    """A user who is away has one external token that is answered so; the last of some messages."""
    return lambda stage: stage.reached(fcm(words, stage)).publish(times)


def first_of(words: str) -> Drive:
    """Likewise, of two messages the first."""

    def drive(stage: Stage) -> int:
        seq = stage.reached(fcm(words, stage)).publish()
        stage.wait(seq, "PENDING", "RETRY")
        stage.publish()
        return seq

    return drive


def reported(*kinds: str) -> Drive:
    def drive(stage: Stage) -> int:
        seq = plain("ACCEPTED")(stage)
        stage.callback(seq, *kinds)
        return seq

    return drive


def live(stage: Stage) -> int:
    socket = stage.connect()
    seq = stage.publish()
    assert socket.receive()["message"]["kind"] == "LIVE"
    stage.acknowledge(socket, seq)
    return seq


def recovered(stage: Stage) -> int:
    stage.connect().drop()
    seq = stage.publish()
    socket = stage.connect(after=0)
    assert socket.receive()["message"]["kind"] == "RECOVERED"
    stage.acknowledge(socket, seq)
    return seq


def answered_for(stage: Stage) -> int:
    stage.connect()
    return stage.publish()


def away(stage: Stage) -> int:
    stage.reached(fcm("ACCEPTED", stage))
    stage.connect().ask(setActivity={"active": False})
    clients = f"/v1/explain?user={stage.user}&subject={stage.subject}"
    wait_for(
        lambda: any(one["away"] for one in stage.suite.get(clients)["clients"]), 10, "it is away"
    )
    return stage.publish()


def held(stage: Stage) -> int:
    """A client comes back, and acknowledges nothing, while the notification waits to be sent."""
    stage.connect(externalTokens=[{"uri": fcm("ACCEPTED", stage)}]).connection.close()
    seq = stage.publish()
    stage.wait(seq, "PENDING")
    stage.connect(after=0)
    return seq


def cancelled(stage: Stage) -> int:
    seq = held(stage)
    stage.wait(seq, "HELD")
    socket = stage.connect(after=0)
    stage.acknowledge(socket, seq)
    wait_for(lambda: "deliveries" not in stage.story(seq) or _is_cancelled(stage, seq), 10)
    return seq


def _is_cancelled(stage: Stage, seq: int) -> bool:
    return all(one["state"] == "cancelled" for one in stage.story(seq)["deliveries"])


def collapsed(stage: Stage) -> int:
    stage.wait(plain("ACCEPTED")(stage), "NOTIFIED")
    return stage.publish(2)


def collapsed_and_sent(stage: Stage) -> int:
    seq = collapsed(stage)
    stage.wait(seq, "NOTIFIED")
    return seq


def quiet(stage: Stage) -> int:
    return stage.profile(**quiet_now()).reached(fcm("ACCEPTED", stage)).publish()


def capped(uri: str) -> Drive:
    def drive(stage: Stage) -> int:
        stage.wait(stage.reached(uri).publish(), "NOTIFIED")
        return stage.publish()

    return drive


def unsubscribed(stage: Stage) -> int:
    socket = stage.connect(externalTokens=[{"uri": fcm("ACCEPTED", stage)}])
    seq = stage.publish()
    assert socket.receive()["message"]["seq"] == str(seq)
    assert "done" in socket.ask(unsubscribe={"subjects": [stage.subject]})
    return seq


def while_it_waits(act: Callable[[Stage, str], object]) -> Drive:
    """Something happens to the endpoint, or the follow, before the digest is sent."""

    def drive(stage: Stage) -> int:
        uri = fcm("ACCEPTED", stage)
        seq = stage.reached(uri).publish()
        stage.wait(seq, "PENDING")
        act(stage, uri)
        return seq

    return drive


def remove_endpoint(stage: Stage, uri: str) -> None:
    stage.ask("DELETE", f"/v1/users/{stage.user}/endpoints", {"uri": uri})


def move_endpoint(stage: Stage, uri: str) -> None:
    stage.ask("POST", "/v1/users/somebody-else/endpoints", {"uri": uri})


def revoke(stage: Stage, _: str) -> None:
    stage.ask("POST", f"/v1/users/{stage.user}/revoke", {"subject": stage.subject})


def mute(stage: Stage, _: str) -> None:
    stage.ask("POST", f"/v1/users/{stage.user}/mutes", {"subject": stage.subject})


def published_by_the_user(stage: Stage) -> int:
    return stage.reached(fcm("ACCEPTED", stage)).publish(user=stage.user)


def expired_when_published(stage: Stage) -> int:
    return stage.reached(fcm("ACCEPTED", stage)).publish(expires_at="2001-01-01T00:00:00Z")


def expires_as_it_waits(stage: Stage) -> int:
    soon = datetime.now(UTC) + timedelta(seconds=DIGEST_S / 2)
    return stage.reached(fcm("ACCEPTED", stage)).publish(expires_at=soon.isoformat())


def muted(stage: Stage) -> int:
    mute(stage, "")
    return plain("ACCEPTED")(stage)


def unwanted(stage: Stage) -> int:
    stage.profile(preferences=[{"category": "news", "allowed": False}])
    return plain("ACCEPTED")(stage)


def escalated(words: str) -> Drive:
    def drive(stage: Stage) -> int:
        return stage.reached(fcm(words, stage), f"apns:ACCEPTED/{TOKEN}").publish()

    return drive


def arrived_before(stage: Stage) -> int:
    seq = escalated("DELIVERED")(stage)
    wait_for(
        lambda: stage.story(seq)["deliveries"][-1]["state"] == "cancelled", 10, "apns is spared"
    )
    return seq


def opted_out_before(stage: Stage) -> int:
    stage.wait(plain("OPTED_OUT")(stage), "FAILED", "OPTED_OUT")
    return stage.publish()


def never_followed(stage: Stage) -> int:
    return stage.publish()


def not_there(stage: Stage) -> int:
    return stage.publish() + 1


def online_and_notified_all_the_same(stage: Stage) -> int:
    stage.reached(fcm("ACCEPTED", stage))
    return live(stage)


def dropped(stage: Stage) -> int:
    seq = plain("RETRY")(stage)
    stage.wait(seq, "FAILED", "TRIES_EXHAUSTED")
    [delivery] = stage.story(seq)["deliveries"]
    stage.suite.command("dead-letters", "drop", delivery["deliveryId"])
    return seq


_OTHERS = [
    Case("live", "ACKNOWLEDGED", "LIVE", "Acknowledged by client tab, received live.", live,
         shown=("tab  online, looked at since", "acknowledged up to 1")),
    Case("recovered", "ACKNOWLEDGED", "RECOVERED", "recovered after it connected at", recovered),
    Case("answered", "ANSWERED_FOR", "", "client tab (online, in the foreground) answers",
         answered_for),
    Case("away", "NOTIFIED", "", "Sent by fcm at", away, shown=("tab  online, away since",)),
    Case("held", "HELD", "", "Held back from fcm, because client tab answers for it.", held,
         "/tell/digest/held", ("pending; due",)),
    Case("cancelled", "ACKNOWLEDGED", "", "Not sent by fcm: acknowledged before.", cancelled,
         "/tell/digest/cancelled", ("cancelled (ACKNOWLEDGED)",)),
    Case("collapsed", "PENDING", "", "with what else comes until then. Told together with 1 other",
         collapsed, "/tell/collapsed", ("pending; due", "expires")),
    Case("together", "NOTIFIED", "", "Told together with 1 other message.", collapsed_and_sent,
         "/tell/collapsed"),
    Case("digest", "PENDING", "", "with what else comes until then.", plain("ACCEPTED"),
         "/tell/digest/waits"),
    Case("quiet", "DEFERRED", "QUIET_HOURS", "by the user's quiet hours; then sent by fcm", quiet,
         shown=("pending (QUIET_HOURS); due",)),
    Case("paced", "DEFERRED", "RATE_CAPPED", "by the cap on how many the user gets there",
         capped("mailto:paced@example.org"), shown=("pending (RATE_CAPPED); due",)),
    Case("unjudged", "DEFERRED", "ENTITLEMENT_UNKNOWN", "entitlement hook, which gave no word",
         plain("ACCEPTED")),
    Case("retrying", "PENDING", "RETRY", "To be tried again by fcm", plain("LATER"),
         shown=("retry; due", "RETRY ", f"({DETAIL})")),
    Case("retried", "NOTIFIED", "", ", after 1 retry.", plain("RETRY.ACCEPTED"),
         shown=(f"({DETAIL}) → ACCEPTED",)),
    Case("ill", "PENDING", "MISCONFIGURED", "To be tried again by https",
         lambda stage: stage.reached("https://hooks.example.org/ill").publish()),
    Case("nobody", "PENDING", "NO_CHANNEL", "no plugin serves apprise",
         lambda stage: stage.reached("apprise:nobody").publish()),
    Case("unknown", "UNKNOWN", "", "unknown whether it was sent by webpush; it is not repeated",
         lambda stage: stage.reached(f"webpush:UNKNOWN/{TOKEN}").publish(),
         shown=("webpush  unknown; UNKNOWN",)),
    Case("repeated", "NOTIFIED", "", ", after 1 retry.", plain("UNKNOWN.ACCEPTED")),
    Case("dead", "FAILED", "TRIES_EXHAUSTED", "Given up by fcm at", plain("RETRY"),
         shown=("dead (TRIES_EXHAUSTED)",)),
    Case("dropped", "FAILED", "DROPPED", "dropped by an operator", dropped),
    Case("template", "FAILED", "TEMPLATE_FAILED", "Given up by fcm at", plain("ACCEPTED"),
         shown=("template broken",)),
    Case("refused", "FAILED", "REJECTED_MESSAGE", "Failed by fcm at", plain("REJECTED_MESSAGE")),
    Case("gone", "FAILED", "ENDPOINT_GONE", "Failed by fcm at", plain("ENDPOINT_GONE")),
    Case("unwilling", "FAILED", "OPTED_OUT", "Failed by fcm at", plain("OPTED_OUT")),
    Case("late", "FAILED", "EXPIRED", "Expired before it could be sent by fcm", expires_as_it_waits,
         "/tell/late", ("fcm  expired",)),
    Case("sent", "NOTIFIED", "", "Sent by fcm at", plain("ACCEPTED"),
         shown=("accepted; ACCEPTED",)),
    Case("delivered", "NOTIFIED", "", "Delivered by fcm at", reported("DELIVERED"),
         shown=("receipts: DELIVERED",)),
    Case("opened", "NOTIFIED", "", "Opened at", reported("DELIVERED", "OPENED"),
         shown=("DELIVERED", "OPENED")),
    Case("bounced", "FAILED", "REPORTED_FAILED", "Failed by fcm at", reported("FAILED"),
         shown=("receipts: FAILED",)),
    Case("escalated", "NOTIFIED", "", "Sent by apns at", escalated("REJECTED_MESSAGE"),
         "/tell/escalated/1", ("failed (REJECTED_MESSAGE)",)),
    Case("always", "NOTIFIED", "", "Sent by fcm at", online_and_notified_all_the_same,
         shown=("category news, priority urgent, policy always",)),
    Case("stranger", "NOT_FOLLOWED", "", "did not follow the subject", never_followed),
    Case("missing", "NOT_FOUND", "", "The log does not have this message.", not_there),
]  # fmt: skip
_SUPPRESSED = [
    Case("PUBLISHER", "", "", "the user published it", published_by_the_user),
    Case("EXPIRED", "", "", "expired before it was decided", expired_when_published),
    Case("MUTED", "", "", "had muted the subject", muted),
    Case("MUTED-later", "", "MUTED", "had muted the subject", while_it_waits(mute),
         "/tell/digest/muted", ("cancelled (MUTED)",)),
    Case("NO_ENDPOINT", "", "", "had no external token", lambda stage: stage.reached().publish()),
    Case("OPTED_OUT", "", "", "none of the user's external tokens takes", opted_out_before),
    Case("NO_ROUTE", "", "", "no external token on a channel that is used", plain("ACCEPTED")),
    Case("PREFERENCE", "", "", "does not want this category", unwanted),
    Case("QUIET_HOURS", "", "", "in the user's quiet hours, and is dropped", quiet),
    Case("RATE_CAPPED", "", "", "as the cap allows", capped("tel:+15550001111"),
         shown=("tel  cancelled (RATE_CAPPED)",)),
    Case("UNSUBSCRIBED", "", "", "had unsubscribed", unsubscribed),
    Case("ENDPOINT_REMOVED", "", "", "token was removed before", while_it_waits(remove_endpoint),
         "/tell/digest/removed", ("fcm  cancelled (ENDPOINT_REMOVED)",)),
    Case("ENDPOINT_MOVED", "", "", "another user registered", while_it_waits(move_endpoint),
         "/tell/digest/moved"),
    Case("ENDPOINT_GONE", "", "", "had reported the external token gone",
         first_of("LATER.ENDPOINT_GONE")),
    Case("denied-NOT_ENTITLED", "", "NOT_ENTITLED", "may not read the subject any more",
         plain("ACCEPTED")),
    Case("REVOKED", "", "", "may not read the subject any more", while_it_waits(revoke),
         "/tell/digest/revoked"),
]  # fmt: skip
CASES = _OTHERS + [
    Case(one.name, "SUPPRESSED", one.reason or one.name, one.words, one.drive, one.place, one.shown)
    for one in _SUPPRESSED
]
