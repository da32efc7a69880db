"""The notifier: a plugin process that sends, and what another plugin is made of.

    presence ══ Notify ══▶ harness ── Plugin.send ──▶ console        prints
             HandleCallback  │                   ├──▶ email          speaks SMTP
                             │                   ├──▶ apns           asks Apple
                             │                   ├──▶ sms            asks Twilio
                             │                   └──▶ webhook        posts to users' URLs
                             └── Plugin.callback ───▶ sms            what became of an SMS

Each channel: `…_rendering` makes what is sent, `…_verdicts` results of what is answered, both pure;
`email_address` and `smtp_url` read addresses. Of all: `wording` has the words, `http_answers` reads
HTTP, `public_address` keeps users' URLs out of the operator's network. `apprise` is a process of
its own, for everything else.

A plugin is one small class; `console` is the one to copy. The harness does the rest: gRPC, one
result per delivery, deadlines, bounds, repeats. `results` builds results; what an operator sets is
in `…settings`; `__main__` puts it together. Nothing here decides, retries or records: the presence
service does.
"""
