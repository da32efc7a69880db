"""Gives deliveries their words: those of their template, or the usual ones.

Where a delivery's plan names a template, nothing else is sent, since a template may be there to
hide what a message holds: if it fails, or is not in the file any more, the delivery is not sent.
Without templates nothing is started and nothing is asked.

Knows templates and the worker that runs them. Must not know the contract with plugins, nor what
becomes of a delivery that gets no words. To drive it: `use(templates)` whenever the file was read,
then `words(asked)`; `failing()` for the alarm; `close()` in the end.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from services.presence import metrics
from services.presence.render_worker import Failure, Job, Rendered, RenderWorker
from services.presence.templates import NO_TEMPLATES, Templates
from services.presence.wording import Telling, Words, bounded, usual_words

# A template that failed is told of for this long, unless the file changes meanwhile: whether it
# still fails may depend on what messages say.
FAILING_TOLD_S = 600.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A delivery that needs words. `template`: empty for the usual ones."""

    template: str
    channel: str
    telling: Telling


class Rendering:
    """The words of deliveries. `deadline_s`: for a batch; `budget_s`: of the processor's time for
    one delivery. `clock`: seconds that do not jump."""

    def __init__(
        self,
        deadline_s: float = 2.0,
        budget_s: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = RenderWorker(deadline_s, budget_s)
        self._clock = clock
        self._templates = NO_TEMPLATES
        # When each last failed.
        self._failed_at: dict[str, float] = {}

    @property
    def templates(self) -> Templates:
        """Those in use."""
        return self._templates

    def use(self, templates: Templates) -> None:
        """From now on, these are the templates."""
        if templates != self._templates:
            self._templates = templates
            self._failed_at.clear()

    def failing(self) -> list[str]:
        """Names of the templates that failed lately."""
        since = self._clock() - FAILING_TOLD_S
        self._failed_at = {name: at for name, at in self._failed_at.items() if at > since}
        return sorted(self._failed_at)

    async def words(self, asked: Sequence[Asked]) -> list[Words | Failure]:
        """The words of each, in order; a failure for those that must not be sent, or not now."""
        usual = _usual([one.telling for one in asked])
        words: list[Words | Failure] = list(usual)
        jobs: dict[int, Job] = {}
        for place, one in enumerate(asked):
            if not one.template:
                continue
            fields = self._templates.find(one.template, one.channel, one.telling.locale)
            if fields is None:
                words[place] = Failure.TEMPLATE
            else:
                jobs[place] = Job(one.template, fields, _values(one.telling, usual[place]))
        if jobs:
            with metrics.render_seconds.time():
                rendered = await self._worker.render(list(jobs.values()))
            for place, result in zip(jobs, rendered, strict=True):
                words[place] = _words(result, usual[place])
        for one, made in zip(asked, words, strict=True):
            if one.template:
                self._note(one.template, made)
        return words

    async def close(self) -> None:
        """End the process that runs templates, if there is one."""
        await self._worker.close()

    def _note(self, name: str, made: Words | Failure) -> None:
        result = made.value if isinstance(made, Failure) else "rendered"
        metrics.rendered.labels(result).inc()
        if made is Failure.TEMPLATE:
            self._failed_at[name] = self._clock()


def _usual(tellings: Sequence[Telling]) -> list[Words]:
    """The usual words of each; made once for all that tell the same messages."""
    made: dict[tuple[str, int, int], Words] = {}
    words: list[Words] = []
    for one in tellings:
        key = one.subject, one.count, id(one.messages)
        if key not in made:
            made[key] = usual_words(one)
        words.append(made[key])
    return words


def _words(rendered: Rendered, usual: Words) -> Words | Failure:
    if isinstance(rendered, Failure):
        return rendered
    words = bounded(
        Words(
            rendered.get("title", ""),
            rendered.get("body", ""),
            rendered.get("html", ""),
            rendered.get("url", usual.url),
        )
    )
    # Without a title there is nothing to show.
    return words if words.title else Failure.TEMPLATE


def _values(telling: Telling, usual: Words) -> Mapping[str, Any]:
    """What a template is given, fit for JSON; `render_process` makes times of numbers."""
    return {
        **asdict(telling),
        "messages": [asdict(one) | {"text": one.text or ""} for one in telling.messages],
        "title": usual.title,
        "body": usual.body,
        "url": usual.url,
    }
