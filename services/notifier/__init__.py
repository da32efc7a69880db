"""The notifier: a plugin process that sends, and what another plugin is made of.

    presence ══ Notify ══▶ harness ── Plugin.send ──▶ console        prints
             HandleCallback  │                   ├──▶ email          speaks SMTP
                             │                   ├──▶ fcm, apns      ask Google, Apple
                             │                   ├──▶ webpush        asks browsers' push services
                             │                   ├──▶ sms            asks Twilio
                             │                   └──▶ webhook        posts to users' URLs
                             └── Plugin.callback ───▶ sms            what became of an SMS

Each channel: `…_rendering` makes what is sent, `…_verdicts` results of what is answered, both pure;
`email_address`, `webpush_endpoint` and `smtp_url` read addresses, `google_token`,
`google_credentials` and `vapid` show who sends. Of all: `wording` has the words, `http_call` makes
one request, `public_address` keeps users' URLs off the operator's network. `smtp_data` hands over
mail. `apprise` is a process.

A plugin is one small class; `console` is the one to copy. The harness does the rest: gRPC, one
result per delivery, deadlines, `turns`, repeats. `results` builds results; `…settings` hold what an
operator sets; `__main__` puts it together. Nothing here decides, retries or records: the presence
service does.
"""
