"""The activity bot: signs up users who post, react and share secrets, and checks the server's behavior.

From the top:

``run``         the phases of a run, its interruption, and the cleanup
``feed``        checks that the server lists every post
``posts``, ``secrets``   publish, react and share, and check each result
``accounts``    register and delete users; ``workers`` runs many jobs at once until the run has to stop
``calls``       requests: timed, counted and retried
``report``      the results for people and programs, and the progress bars
``plan``        who does what, in which order, drawn from a seed
``tally``       counts of requests and of checks
"""
