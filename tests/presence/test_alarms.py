"""What operators are told to be wrong: one sentence for each cause."""

from services.presence.alarms import AWAY_S, NAMES, ExtensionFacts, Facts, PluginFacts, raised


def test_nothing_is_wrong_with_presence_that_works() -> None:
    assert raised(Facts(plugins=[PluginFacts("email", "host:1", 0.0)])) == {}


def test_every_cause_has_its_alarm_and_every_alarm_is_known_to_the_metrics() -> None:
    everything = Facts(
        plugins=[
            PluginFacts("email", "host:1", AWAY_S),
            PluginFacts("push", "host:2", 0.0, ["fcm"], "MISCONFIGURED session 401"),
            PluginFacts("sms", "host:3", 0.0, unwell_s=AWAY_S),
        ],
        unserved=["tel"],
        extensions=[ExtensionFacts("chat", "host:4", AWAY_S, "the connection was lost", 12)],
        dead=3,
        failing_templates=["chat", "digest"],
        entitlement_fault="the call ended with UNAVAILABLE",
        store_full=True,
        refused=range(3),
        blocked=range(7),
        log_replaced=True,
        log_unreadable=True,
        routing="Line 1: no valid YAML.",
        unclaimed=["slack", *"abcde"],
    )
    alarms = raised(everything)
    assert tuple(alarms) == NAMES
    assert "email at host:1" in alarms["PLUGIN_AWAY"]
    assert "push (fcm): MISCONFIGURED session 401" in alarms["PLUGIN_BREAKER_OPEN"]
    assert "chat, digest" in alarms["TEMPLATE_FAILED"]
    assert "UNAVAILABLE" in alarms["ENTITLEMENT_UNREACHABLE"]
    assert "sms at host:3 does not serve" in alarms["PLUGIN_NOT_SERVING"]
    assert "chat at host:4: the connection was lost, 12 behind" in alarms["EXTENSION_FAILS"]
    assert "tel" in alarms["NO_PLUGIN_FOR_CHANNEL"]
    assert "serves: slack, a, b, c, d, …. Register" in alarms["ROUTING_NAMES_NO_PLUGIN"]
    assert "7 partitions (0, 1, 2, 3, 4, …)" in alarms["CURSOR_BLOCKED"]


def test_a_plugin_that_has_just_gone_is_not_told_yet() -> None:
    assert raised(Facts(plugins=[PluginFacts("email", "host:1", AWAY_S / 2)])) == {}
