"""Plans as they stand in the store."""

from services.presence.plan import DEFAULT_PLAN, Plan, Policy, Priority, Quiet, decode, encode

WHOLE = Plan(
    policy=Policy.ENDPOINT,
    category="news",
    free=True,
    template="letter",
    priority=Priority.HIGH,
    quiet=Quiet.DROP,
    steps=(("fcm", "apns"), ("tel",)),
    escalate_s=60.0,
    collapse_s=0.0,
    digest_s=3600.0,
    expiry_s=60.0,
    expires_at=1_000.0,
    allowed=False,
    silent=("tel",),
)


def test_the_default_plan_takes_no_room():
    assert encode(DEFAULT_PLAN) == ""
    assert decode("") == DEFAULT_PLAN


def test_a_plan_comes_back_as_it_was():
    assert decode(encode(WHOLE)) == WHOLE


def test_what_a_newer_version_wrote_is_passed_over():
    assert decode('{"category":"news","colour":"red"}') == Plan(category="news")


def test_a_channel_is_used_in_its_step_or_not_at_all():
    assert [WHOLE.step_of(channel) for channel in ("apns", "tel", "mailto")] == [0, 1, None]
    assert DEFAULT_PLAN.step_of("mailto") == 0


def test_categories_that_publishers_made_up_are_told_together_unless_the_user_names_one():
    news, talk = Plan(category="news", free=True), Plan(category="talk", free=True)
    assert news.is_told_with(talk, ())
    assert news.is_told_with(talk, {"other"})
    assert not news.is_told_with(talk, {"talk"})
    assert not news.is_told_with(talk, {"news"})
    assert news.is_told_with(news, {"news"})


def test_plans_that_differ_in_more_or_in_a_category_of_the_file_are_told_apart():
    free = Plan(category="news", free=True)
    assert not free.is_told_with(Plan(category="talk", free=True, digest_s=5.0), ())
    assert not Plan(category="news").is_told_with(Plan(category="talk"), ())
    assert not free.is_told_with(DEFAULT_PLAN, ())
    assert not free.is_told_with(Plan(category="news"), ())
