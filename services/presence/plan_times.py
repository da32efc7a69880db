"""Which times of a plan contradict one another: what would expire before it could be sent. Pure.

Knows plans. Must not know files. To drive it: `contradiction(plan, expiry_s)` for each plan that a
file gives.
"""

from services.presence.plan import Plan, Priority


def contradiction(plan: Plan, expiry_s: float) -> tuple[str, str] | None:
    """Which key of a route stands against its expiry, and a sentence with the remedy; None: none.

    `expiry_s`: the expiry of a plan that says none. What is urgent waits neither for a digest nor
    for others, so those times do not count for it.
    """
    expires = expiry_s if plan.expiry_s is None else plan.expiry_s
    waits = plan.priority is not Priority.URGENT
    after = f"expires after {expires:g} s"
    remedy = "raise `expiry_s`, or lower `{}`."
    if waits and plan.digest_s >= expires:
        said = f"a digest of {plan.digest_s:g} s is never sent, since it {after}"
        return "digest_s", f"{said}; {remedy.format('digest_s')}"
    # Without a word of the file it is the setting's, which suits usual expiries.
    if waits and plan.collapse_s is not None and plan.collapse_s >= expires:
        said = f"what waits {plan.collapse_s:g} s for others is never sent, since it {after}"
        return "collapse_s", f"{said}; {remedy.format('collapse_s')}"
    last_s = (plan.digest_s if waits else 0.0) + plan.escalate_s * (len(plan.steps) - 1)
    if len(plan.steps) > 1 and last_s >= expires:
        said = f"the last list of `channels` is used after {last_s:g} s, but it {after}"
        return "escalate_s", f"{said}; {remedy.format('escalate_s')}"
    return None
