"""The members of one service and the partitions that they claim, kept up to date key by key. Pure.

Knows which partitions a key touches, so that a change costs what it changes and not what there is:
with 256 partitions of two services, to look at every claim whenever one moves would be felt. Must
not know key names, nor what an owner does.

Drive it: `clear`, `put_member`, `put_claim` and so on, as etcd's keys tell; then `changed`, once.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a partition: it is called at `address`, and its term is `epoch`."""

    epoch: int
    name: str
    address: str


Claim = tuple[int, str]  # epoch, name


class Claimants:
    """Read `members`, `claims` and `owners` at any time; they change in place."""

    def __init__(self) -> None:
        self.members: dict[str, str] = {}  # name → address
        self.claims: dict[int, Claim] = {}  # also of a name whose address is not known
        self.owners: dict[int, Owner] = {}  # those of them that can be reached
        # What was touched since the last `changed`, as it was before.
        self._claims_before: dict[int, tuple[Claim | None, Owner | None]] = {}
        self._members_before: dict[str, str | None] = {}

    def clear(self) -> None:
        """Nobody is there; what follows says who is."""
        for partition in list(self.claims):
            self.delete_claim(partition)
        for name in list(self.members):
            self.delete_member(name)

    def put_member(self, name: str, address: str) -> None:
        """The member is there, at `address`."""
        self._members_before.setdefault(name, self.members.get(name))
        self.members[name] = address
        self._settle_those_of(name)

    def delete_member(self, name: str) -> None:
        """The member is there no longer. What it claims goes by itself."""
        self._members_before.setdefault(name, self.members.get(name))
        self.members.pop(name, None)
        self._settle_those_of(name)

    def put_claim(self, partition: int, epoch: int, name: str) -> None:
        """The partition is claimed by `name`."""
        self._touch(partition)
        self.claims[partition] = (epoch, name)
        self._settle(partition)

    def delete_claim(self, partition: int) -> None:
        """Nobody claims the partition."""
        self._touch(partition)
        self.claims.pop(partition, None)
        self._settle(partition)

    def changed(self) -> tuple[frozenset[int], bool]:
        """Partitions whose claim or owner is another than at the last call, and whether members
        are."""
        partitions = frozenset(
            partition
            for partition, before in self._claims_before.items()
            if before != (self.claims.get(partition), self.owners.get(partition))
        )
        members = any(
            before != self.members.get(name) for name, before in self._members_before.items()
        )
        self._claims_before.clear()
        self._members_before.clear()
        return partitions, members

    def _settle_those_of(self, name: str) -> None:
        for partition, (_, claimant) in self.claims.items():
            if claimant == name:
                self._touch(partition)
                self._settle(partition)

    def _touch(self, partition: int) -> None:
        if partition not in self._claims_before:
            self._claims_before[partition] = (
                self.claims.get(partition),
                self.owners.get(partition),
            )

    def _settle(self, partition: int) -> None:
        """Says anew who owns the partition, by its claim."""
        epoch, name = self.claims.get(partition, (0, ""))
        if name in self.members:
            self.owners[partition] = Owner(epoch, name, self.members[name])
        else:
            self.owners.pop(partition, None)
