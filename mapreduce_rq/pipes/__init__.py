"""The ancestor as a transport: workers over pipes, and no Redis at all.

This software comes from a C program whose master forked one worker for each term, read each one's answer from a pipe
of its own, and waited by one of four mechanisms. It is here as a second way to carry the same protocol: the verbs
(``broker/jobs.py``, ``broker/tasks.py``), the ledger, the worker and the supervisor are those of every other run, and
what they stand on, the ``Wire``, has a second implementation. The simulation has the third.

    the client's process                                        the supervisor's           a worker's
    master ── HubWire ──> hub ── store                          process                    process
                           │ └──── socketpair ────────────────> LineWire
                           └────── socketpair, one for each worker ──────────────────────> LineWire

The store (store.py)
    The data that would be in Redis, in dictionaries of the client's process, and the steps that change them: the
    commands which the verbs use, and the three scripts. Each step is done as a whole, under one lock. It answers as
    Redis does: ``tests/broker/test_pipes_store.py`` compares it with real servers, step by step.

The hub (hub.py above serving.py, with lead.py, peer.py and idle.py)
    The client's end of each worker's line, and the code that serves them. No thread does only this: it would
    add two switches to each message. **A thread that waits, serves**: a master that waits for replies has the *lead*.
    It waits for all lines at once, does for each worker what it asks for, and returns when there is a reply of its own
    job. Of several masters one has the lead, and wakes the others when there is something for them. If no worker has a
    task then, it leaves the lead to them: an open job that is idle does not stand between a lone call and its answer.
    A master's own steps need no lead, and a task that one of them pushes goes to an idle worker at once.

    A master that computes does not serve, and workers must not wait for it. So while there are jobs a *deputy* looks
    every few milliseconds whether a thread serves, and if not it wakes one that waits, or takes the lead. It gives the
    lead back as soon as a master wants to wait. A job that ends before that never sees it.

The lines (lines.py)
    Frames over a socketpair: a length and msgpack. No other process can reach such a socket, so messages carry no MAC.
    Large bodies go around it, by the shelf, as beside a private server. A line's end is the worker's obituary. The
    supervisor sees the death too, gives back what the worker held, and blames the task in hand.

Waiting (waiting.py)
    ``sequential``, ``select``, ``poll``, ``epoll`` or ``kqueue``: how the lead waits for many lines. No other code
    knows which one it is.

A call that waits for its value leaves nothing in the store: no record and no timeline, because no other process
could ask for them.

When the client ends, everything ends. The supervisor sees the end of its line, kills its workers and removes the
shelf. So a job cannot be resumed or watched from elsewhere.
"""
