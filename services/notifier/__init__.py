"""The notifier: a plugin process that sends, and what another plugin is made of.

    presence ══ Notify ══▶ harness ── Plugin.send ──▶ console          prints
                                                 └──▶ email            speaks SMTP
                                                        ├ email_address    mailto: → address
                                                        ├ email_rendering  delivery → message
                                                        ├ smtp_url         URL → server
                                                        └ smtp_verdicts    reply codes → results

A plugin is one small class; `console` is the one to copy. The harness does the rest: gRPC, one
result per delivery, deadlines, bounds, repeats. `results` builds results; `settings` holds what
an operator sets; `__main__` puts it together. Nothing here decides, retries or records: the
presence service does.
"""
