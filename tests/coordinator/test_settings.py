"""What no single setting shows."""

import pytest

from services.chassis.errors import SettingError
from services.coordinator.settings import Settings, check


def settings(**changed: int) -> Settings:
    return Settings(secret="a secret of the tests", **changed)  # type: ignore[arg-type]


def test_the_defaults_fit_together() -> None:
    check(settings())
    check(settings(retain_min_s=110))


def test_a_message_stays_long_enough_for_an_absent_client() -> None:
    with pytest.raises(SettingError, match="RETAIN_MIN_S is 109; set it to 110 or more"):
        check(settings(retain_min_s=109))
    with pytest.raises(SettingError, match="set it to 720 or more"):
        check(settings(unanswered_s=300, lease_ttl_s=60))


@pytest.mark.parametrize("name", ["retain_s", "subject_ttl_s", "clients_forget_s"])
def test_nothing_goes_by_age_before_it_may_go_at_all(name: str) -> None:
    with pytest.raises(SettingError, match=f"{name.upper()} is 599; set it to 600"):
        check(settings(**{name: 599}))
