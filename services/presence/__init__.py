"""Presence: who is there, who must be notified, and why (not).

    coordinators ══Report══▶ servicer ─▶ processing ─▶ events, handover   (cores: a user's rows)
                                │             └─▶ outbox ─▶ decision, notifications   (cores)
                                ▼ one transaction: cursor and effects
                     store ◀─ transaction (…_rows) ◀─ sqlite_store, postgres_store
                                ▲
          timers, handovers, fanouts, upkeep: what comes due later; each a loop on the store
                                │
      plugins ◀══Notify══ dispatch ─▶ claims ─▶ sending   (core: the check at send)
                              └─▶ calls ─▶ rendering ─▶ render_worker ══▶ render_process
   extensions ◀══════════ tellers ─▶ telling ─▶ happenings, written by recording

state, change, cover    rows of a user and questions about them
plugins, registry       who is called for which channel; breaker: when
answers, receipts       what plugins say, at once and later; dead_letters: what was given up
entitlement             the hook that is asked before content leaves
templates, wording      what a notification says (sandbox: the language of templates)
log_reader, contents    the log through a coordinator; what a notification is about
explain, audience       the story of each message, in sentences; who is there
users, wishes, backend  what backends and users change (backend: a core)
owner, succession       partitions under a lease, a term and its fence; what a former term left
"""
