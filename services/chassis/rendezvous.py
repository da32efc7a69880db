"""Which partitions a member should take, and which it should give up. Pure.

Knows names, claims and epochs as the directory shows them; must not know etcd, a store, nor of
which service the members are. Its rules:

- The target of a partition is the live member that ranks highest for it by hash. Everybody
  computes the same one, so there is no leader. A member that joins or leaves moves only the
  partitions that it wins or loses.
- A partition without a claim is taken by its target at once.
- A claim of somebody else stands, whoever the target is. A claim of our own on a partition that
  another should have is given up, so many at a time at most, and the next only when all of the
  former have been taken: nobody waits for an owner behind a queue of claims. So a member has no
  more partitions on their way to others than that, however many it must give up. Nothing is given
  up to a member that has only just appeared: those who would ask it do not reach it yet.
- A claim under our name that we do not hold (its transaction's answer was lost) is taken up,
  unless its epoch is spent: taken up before. Then its key must go first.
- What we hold and the directory no longer shows as ours is lost.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

_REVISION_BITS = (1 << 48) - 1


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known. `revision`: how far the directory has come in etcd's history."""

    me: str
    live: Collection[str]  # names of live members, this one included
    partitions: int
    claims: Mapping[int, tuple[int, str]]  # partition: (epoch, name)
    held: Mapping[int, int]  # partition: epoch, as taken effect in the store
    spent: Mapping[int, int]  # partition: newest epoch whose effect was tried
    waiting: Collection[int]  # partitions not to be claimed for now
    fresh: Collection[str]  # those of `live` that appeared a moment ago
    given: Mapping[int, int]  # partition: epoch of our key that we removed a moment ago
    revision: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Create the owner keys of these partitions, then take them up."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TakeUp:
    """Make the epochs of these claims take effect in the store: (partition, epoch)."""

    claims: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Accept nothing more for these partitions: they are somebody else's, or nobody's."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Finish what is under way for these partitions, then remove their owner keys together."""

    partitions: tuple[int, ...]


Step = Claim | TakeUp | Drop | Release


def decide(scene: Scene, release_max: int = 16) -> list[Step]:
    """The next steps, in order; none: all is as it should be."""
    drop, take_up, claim, release, spent = [], [], [], [], []
    others = any(name != scene.me for name in scene.live)
    under_way = False  # something that we gave up, and nobody has taken
    for p in range(scene.partitions):
        standing = scene.claims.get(p)
        epoch = scene.held.get(p)
        if epoch is not None:
            if standing != (epoch, scene.me):
                # The directory may not have come to our own claim yet.
                if scene.revision >= epoch & _REVISION_BITS:
                    drop.append(p)
            elif others and target(p, scene.live) not in (scene.me, *scene.fresh):
                release.append(p)
        elif standing is None:
            if target(p, scene.live) != scene.me:
                under_way |= p in scene.given
            elif p not in scene.waiting:
                claim.append(p)
        elif standing[1] == scene.me:
            if scene.given.get(p) == standing[0]:
                under_way = True  # The directory has not come to that yet.
            elif standing[0] <= scene.spent.get(p, 0):
                spent.append(p)
            else:
                take_up.append((p, standing[0]))
    if under_way:
        release.clear()
    steps: list[Step] = []
    if drop:
        steps.append(Drop(tuple(drop)))
    if take_up:
        steps.append(TakeUp(tuple(take_up)))
    if claim:
        steps.append(Claim(tuple(claim)))
    if release or spent:
        steps.append(Release((*spent, *release[:release_max])))
    return steps


def has_its_share(scene: Scene) -> bool:
    """Whether everything is held that should be, as far as it may be claimed."""
    return all(
        p in scene.held or p in scene.waiting or target(p, scene.live) != scene.me
        for p in range(scene.partitions)
    )


def target(partition: int, live: Collection[str]) -> str | None:
    """The member that should own the partition; None if there is none."""
    return max(live, key=lambda name: (_rank(partition, name), name), default=None)


# Everything is looked at again with each change of the directory.
@lru_cache(maxsize=1 << 14)
def _rank(partition: int, name: str) -> bytes:
    return blake2b(f"{partition}/{name}".encode(), digest_size=8).digest()
