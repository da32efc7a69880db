"""Random and mutated frames through codec and session core: no crash, no hang, always an answer."""

import json
import random
from typing import Any

import orjson
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from onward.client.v1 import client_pb2

from services.edge import codec
from services.edge.effects import AppendPresence, AskGone, Begin, ReadClient, ReadHistory, Watch
from services.edge.recovery import Read
from tests.edge.making import NOW, Script, entries

SUBJECTS = ["/a", "/b", "/c/d", "/secret", "", "/", "a", "/a//b", "/é"]
subjects = st.sampled_from(SUBJECTS)
words = st.text(max_size=4)
numbers = st.one_of(st.integers(-1, 30), st.integers(0, 2**65), st.integers(0, 30).map(str))
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(words, inner, max_size=2)),
    max_leaves=4,
)


def loosely(**fields: Any) -> Any:
    """An object of these fields, each of which may be absent or anything else."""
    made = {name: st.one_of(value, value, value, junk) for name, value in fields.items()}
    return st.fixed_dictionaries({}, optional=made)


subscription = st.one_of(
    loosely(subject=subjects),
    loosely(subject=subjects, afterSeq=numbers),
    loosely(subject=subjects, history=numbers, snapshot=st.booleans()),
)
tokens = st.sampled_from(["fcm:1", "mailto:ann@example.org", "mailto:eve@example.org", "x", ""])
listed = st.fixed_dictionaries({"list": st.lists(subscription, max_size=3)})
KINDS = {
    "connect": loosely(
        token=st.sampled_from(["", "bad", "old", "less", "bob"]),
        clientId=words,
        lastGeneration=numbers,
        logId=st.sampled_from(["", "L", "M"]),
        externalTokens=st.lists(loosely(uri=tokens), max_size=2),
        info=st.dictionaries(words, words, max_size=2),
        acknowledges=st.sampled_from(["EXPLICIT", "PONG", "NONE", "", 7]),
        subscriptions=listed,
    ),
    "subscribe": loosely(subscriptions=st.lists(subscription, max_size=3)),
    "unsubscribe": loosely(subjects=st.lists(subjects, max_size=3)),
    "publish": loosely(
        subject=subjects,
        text=words,
        data=words,
        publicationId=words,
        headers=st.dictionaries(words, words, max_size=2),
        retain=st.booleans(),
        transient=st.booleans(),
    ),
    "setExternalToken": loosely(uri=tokens, replaces=tokens),
    "removeExternalToken": loosely(uri=tokens),
    "setActivity": loosely(active=st.booleans()),
    "refresh": loosely(token=st.sampled_from(["", "bad", "less", "bob"])),
    "logout": loosely(),
}
ack = loosely(positions=st.lists(loosely(subject=subjects, seq=numbers), max_size=3))
frame = st.one_of(
    *(st.fixed_dictionaries({kind: body}, optional={"id": words, "ack": ack})
      for kind, body in KINDS.items()),
    st.fixed_dictionaries({"ack": ack}, optional={"id": words, "nonsense": junk}),
    junk,
)  # fmt: skip


class Shell:
    """Answers what a session asks for, sooner or later, in an order of chance."""

    def __init__(self, chance: random.Random) -> None:
        self.script = Script()
        self.chance = chance
        self.open: list[Any] = []

    def take(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, AppendPresence | AskGone | ReadClient | ReadHistory | Watch):
                self.open.append(effect)
            elif isinstance(effect, Begin):
                self.script.begun(effect.subject)

    def answer_one(self) -> None:
        script, session = self.script, self.script.session
        effect = self.open.pop(self.chance.randrange(len(self.open)))
        if isinstance(effect, Watch):
            self.take(script.watched(effect.subject, self.chance.randrange(20), 2))
        elif isinstance(effect, AskGone):
            self.take(session.on_gone([]))
        elif isinstance(effect, ReadClient):
            self.take(session.on_client(["/a", "/secret", "/b"]))
        elif isinstance(effect, ReadHistory):
            read = Read(entries(effect.subject, effect.after_seq + 1, effect.up_to), 20, 0)
            self.take(session.on_history(effect.subject, self.chance.choice([read, None])))
        else:
            number = effect.event.number
            if self.chance.random() < 0.2:
                refusal = client_pb2.ServerFrame().error
                refusal.code = self.chance.choice([9, 23, 26])
                self.take(session.on_refused(number, refusal, effect.event))
            else:
                self.take(session.on_recorded(number, 5))


def feed(shell: Shell, text: bytes) -> None:
    decoded = codec.decode(text)
    if isinstance(decoded, client_pb2.ServerFrame):
        assert decoded.HasField("error")
        codec.encode(decoded)
        return
    shell.take(shell.script.session.on_frame(decoded, NOW))


@seed(1)
@given(st.lists(st.tuples(frame, st.integers(0, 3)), max_size=8), st.integers(), st.booleans())
@settings(max_examples=900, deadline=None)
def test_sessions_of_random_frames_and_answers_end_well(
    frames: list[tuple[Any, int]], chance: int, connects: bool
) -> None:
    shell = Shell(random.Random(chance))
    if connects:
        feed(shell, b'{"id":"c","connect":{"clientId":"c"}}')
        while shell.open:
            shell.answer_one()
    session = shell.script.session
    for number, (value, answers) in enumerate(frames):
        feed(shell, json.dumps(value).encode())
        for _ in range(min(answers, len(shell.open))):
            shell.answer_one()
        shell.take(session.on_sweep(NOW + number, 0, number, number % 3 == 0))
    shell.take(session.on_closed(bool(chance % 2)))
    for _ in range(200):
        if not shell.open:
            break
        shell.answer_one()
    assert not session.subscriptions_left


VALID = [
    b'{"id":"1","connect":{"token":"t","clientId":"c-7","lastGeneration":"0","logId":"L",'
    b'"acknowledges":"EXPLICIT","subscriptions":{"list":[{"subject":"/a","afterSeq":"17"}]}}}',
    b'{"id":"2","subscribe":{"subscriptions":[{"subject":"/b","history":10}]}}',
    b'{"id":"4","publish":{"subject":"/a","text":"hi","headers":{"title":"Ann"}}}',
    b'{"id":"7","ack":{"positions":[{"subject":"/a","seq":"19"}]}}',
    b'{"id":"5","setExternalToken":{"uri":"fcm:abc","replaces":"fcm:old"}}',
]


def test_mutated_frames_are_frames_or_refused() -> None:
    chance = random.Random(20)
    for _ in range(8000):
        text = bytearray(chance.choice(VALID))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text))
            how = chance.randrange(4)
            if how == 0:
                text[at] = chance.randrange(256)
            elif how == 1:
                del text[at : at + chance.randint(1, 8)]
            elif how == 2:
                text[at:at] = text[at : at + chance.randint(1, 30)]
            else:
                text[at:at] = chance.choice([b"{", b"}", b'"', b"[", b"null", b"-1", b"1e999"])
            if not text:
                break
        shell = Shell(chance)
        feed(shell, bytes(text))


def test_a_frame_of_the_largest_size_is_decoded_in_no_time() -> None:
    positions = [{"subject": f"/{n}", "seq": str(n)} for n in range(15_000)]
    text = orjson.dumps({"ack": {"positions": positions}})
    assert len(text) < 524_288
    assert isinstance(codec.decode(text), client_pb2.ClientFrame)
