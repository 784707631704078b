"""Sending lines to the gatherer: by hand at a menu, or as another program writes them.

``commands/gather`` chooses between ``menu`` and ``following``. From the top:

``menu``        identify, authenticate and send, one step at a time, at a terminal
``following``   builds a follower from the options, and reports the result
``follower``    reads stdin into the spool, and delivers batches until the server has confirmed them
``delivery``    signs in when necessary, and retries with backoff
``session``     the protocol: identify, authenticate, send
``spool``       lines on disk that the server has not confirmed; ``batch_file`` is the format of a file
``batches``     splits a batch into requests
"""
