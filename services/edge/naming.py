"""Which member of the cluster an operator means. Pure.

Knows the directory's facts, as sequences; must not know how a member is asked for anything. A
member is meant by its name as `GET /v1/status` shows it, by the address of its gRPC server, and an
edge also by the address that clients connect to, if it has that for itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.refusals import Code, Refusal, refuse


@dataclass(frozen=True, slots=True)
class Named:
    """A live member."""

    service: str  # coordinator, presence, edge
    name: str
    address: str  # of its gRPC server; empty: it has told none
    client_address: str = ""  # of an edge

    def answers_to(self, text: str) -> bool:
        """Whether `text` means this member."""
        return bool(text) and text in (self.name, self.address, self.client_address)


def the_one(text: str, members: Sequence[Named]) -> Named | Refusal:
    """The member that is meant; refused if there is none, or more than one."""
    meant = [member for member in members if member.answers_to(text)]
    if not meant:
        return refuse(
            Code.ARGUMENT_INVALID,
            "No live member is named so; `GET /v1/status` names them all.",
        )
    if len(meant) > 1:
        addresses = ", ".join(f"{one.service} {one.address or one.name}" for one in meant)
        return refuse(
            Code.ARGUMENT_INVALID,
            f"Several members are named so; name one by its address: {addresses}.",
        )
    if not meant[0].address:
        return refuse(Code.UNAVAILABLE, "That member has not told where it can be asked.", 1_000)
    return meant[0]
