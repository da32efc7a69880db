"""What a web page received and never read: a browser answers pings for it, and it is notified."""

import signal
import urllib.request

from tests.browser.chromium import Browser, Page
from tests.path.mailbox import Mailbox
from tests.path.stack import Suite, kill
from tests.processes import alive
from tests.waiting import wait_for

# The smallest client: it acknowledges each message when its script has handled it.
CLIENT = """
new Promise((connected) => {
  window.texts = [];
  const socket = window.socket = new WebSocket("/v1/connect?user=USER", "onward.v1.json");
  const send = (frame) => socket.send(JSON.stringify(frame));
  socket.onopen = () => send({id: "1", connect: {
    clientId: "CLIENT", acknowledges: "EXPLICIT",
    externalTokens: [{uri: "mailto:USER@example.org"}],
    subscriptions: {list: [{subject: "SUBJECT"}]}}});
  socket.onmessage = ({data}) => {
    const {connected: begun, message} = JSON.parse(data);
    if (begun) { connected(true); }
    if (message) {
      texts.push(message.text);
      send({ack: {positions: [{subject: message.subject, seq: message.seq}]}});
    }
  };
})
"""


def client_page(browser: Browser, suite: Suite, user: str, client: str, subject: str) -> Page:
    """A page of this server's with a client whose session is open."""
    page = browser.page()
    page.open(f"{suite.url}/healthz")
    script = CLIENT.replace("USER", user).replace("CLIENT", client).replace("SUBJECT", subject)
    assert page.run(script)
    return page


def measured(suite: Suite, name: str) -> float:
    """A number that the edge shows without labels."""
    with urllib.request.urlopen(f"{suite.url}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    raise AssertionError(f"the edge shows no {name}")


def mails_to(mailbox: Mailbox, user: str) -> list[str]:
    """The text of every mail to a user of these pages."""
    to = f"{user}@example.org"
    return [str(mail.get_content()) for mail in mailbox.mails if mail["X-Rcpt-To"] == to]


def standing(suite: Suite, user: str, subject: str) -> str:
    """How the user's one client stands, as presence says."""
    [client] = suite.get(f"/v1/explain?user={user}&subject={subject}")["clients"]
    return str(client["state"])


def test_what_a_hanging_page_was_sent_is_in_the_mail_once_it_is_killed(
    browser: Browser, suite: Suite, mailbox: Mailbox
) -> None:
    page = client_page(browser, suite, "ann", "hangs", "/hangs/1")
    hanging = page.start("console.error('hangs now'); for (;;) {}")
    wait_for(lambda: page.has_ended(hanging) or page.problems, 20, "it hangs")
    seq = suite.publish("/hangs/1", "said to a page that hangs")["seq"]

    # The edge pings it again and again, and the browser answers for the page.
    ponged = measured(suite, "onward_edge_pongs_total")
    wait_for(lambda: measured(suite, "onward_edge_pongs_total") >= ponged + 3, 20, "three pongs")
    assert not page.has_ended(hanging)
    assert suite.explain("ann", "/hangs/1", int(seq))["state"] == "ANSWERED_FOR"
    assert standing(suite, "ann", "/hangs/1") == "online"
    assert mails_to(mailbox, "ann") == []

    pids = browser.renderers()
    for pid in pids:
        kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(alive, pids)), 10, "the page is dead")
    wait_for(lambda: mails_to(mailbox, "ann"), 20, "the mail")
    [mail] = mails_to(mailbox, "ann")
    assert "said to a page that hangs" in mail
    wait_for(
        lambda: suite.explain("ann", "/hangs/1", int(seq))["state"] == "NOTIFIED", 10, "the record"
    )


def test_what_a_page_has_read_and_acknowledged_is_in_no_mail(
    browser: Browser, suite: Suite, mailbox: Mailbox
) -> None:
    page = client_page(browser, suite, "eve", "reads", "/reads/1")
    seq = suite.publish("/reads/1", "said to a page that reads")["seq"]
    page.wait("texts.length === 1 && socket.bufferedAmount === 0")
    page.run("socket.close(1000)")
    wait_for(lambda: standing(suite, "eve", "/reads/1") == "offline", 20, "the grace has ended")
    # Whatever was due to her is decided now; a later message shows that mail goes out.
    assert suite.explain("eve", "/reads/1", int(seq))["state"] == "ACKNOWLEDGED"
    suite.publish("/reads/1", "said after she left")
    wait_for(lambda: mails_to(mailbox, "eve"), 20, "the mail of the later message")
    [mail] = mails_to(mailbox, "eve")
    assert "said after she left" in mail
    assert "said to a page that reads" not in mail
