"""Reads and writes what users want, and the pace of their notifications: `store.ProfileRows`."""

from collections.abc import Mapping, Sequence

from services.presence.profile import NO_PROFILE, Profile, decode, encode
from services.presence.rows import Rows
from services.presence.sql import listed


class ProfileTables(Rows):
    """Profiles and paces of users."""

    def profiles(self, users: Sequence[str]) -> Mapping[str, Profile]:
        rows = self.db.rows(
            "SELECT p.user, p.profile FROM each_text(?) CROSS JOIN profiles AS p ON p.user = value",
            (listed(users),),
        )
        return {row[0]: decode(row[1]) for row in rows}

    def put_profile(self, user: str, profile: Profile) -> None:
        self.touch([user])
        if profile == NO_PROFILE:
            self.db.execute("DELETE FROM profiles WHERE user = ?", (user,))
            return
        self.db.execute(
            "INSERT INTO profiles (user, profile) VALUES (?, ?)"
            " ON CONFLICT (user) DO UPDATE SET profile = excluded.profile",
            (user, encode(profile)),
        )

    def paces(self, users: Sequence[str]) -> Mapping[tuple[str, str], float]:
        rows = self.db.rows(
            "SELECT p.user, p.channel, p.at FROM each_text(?) CROSS JOIN paces AS p"
            " ON p.user = value",
            (listed(users),),
        )
        return {(row[0], row[1]): row[2] for row in rows}

    def put_paces(self, paces: Mapping[tuple[str, str], float]) -> None:
        self.touch({user for user, _ in paces})
        self.db.insert_all(
            "paces",
            "user, channel, at",
            [(user, channel, at) for (user, channel), at in paces.items()],
            "ON CONFLICT (user, channel) DO UPDATE SET at = excluded.at",
        )
