"""The command line: `onward …`.

    __main__    the commands of the app, put together
    up          `onward up`: the embedded profile, all services on this machine
    publish     `onward publish`
    subscribe   `onward subscribe`: follows subjects, recovers by itself, also after a kill
    history     `onward history`
    explain     `onward explain`: what became of messages for a user
    follows, endpoints, profile, mute, erase, presence   users, and who is there
    status      `onward status`: how the cluster stands, and what is wrong with it
    conformance `onward conformance`: examines a notifier plugin, rule by rule
    options     the options that commands share
    output      how results are shown: for people, or one JSON object a line
    state_file  what `onward subscribe` keeps between runs
    outcome     runs a command; refusals and faults become sentences and exit codes

All but `up` and `conformance` talk to an edge through the Python SDK, as any program would;
nothing here imports another service.
"""
