"""Whether an environment that a deployment gives a service is one that the service takes."""

import importlib
from collections.abc import Mapping
from typing import Any

from services.chassis.settings import load


def settings_of(service: str, environ: Mapping[str, str]) -> Any:
    """The settings that the service would start with. Raises SettingError as its start would."""
    module = importlib.import_module(f"services.{service}.settings")
    settings = load(module.Settings, service, environ)
    if check := getattr(module, "check", None):
        check(settings)
    return settings


def foreign(service: str, environ: Mapping[str, str]) -> set[str]:
    """Variables that are another service's, which would silently mean nothing."""
    others = {"edge", "coordinator", "presence", "notifier"} - {service}
    prefixes = tuple(f"ONWARD_{other.upper()}_" for other in others)
    return {name for name in environ if name.startswith(prefixes)}
