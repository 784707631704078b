"""The activity bot: makes users who write, react and share, and checks what the server made of it.

From the top:

``run``         the phases, how a run is stopped, and what is cleaned up
``feed``        whether the server lists every post
``people``, ``wall``, ``sharing``   what is done: accounts, posts with their reactions, secrets; each checks its own
``crew``        many jobs at once, and no more of them once the run has to end
``calls``       requests: measured, counted, and sent again where that harms nobody
``plan``        who does what, in which order, by a seed; ``words`` are the names and texts
``tally``, ``findings``   what the requests came to, and what the checks found
``report``      both for the one who reads them; ``progress`` shows the bars meanwhile
"""
