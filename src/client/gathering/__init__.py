"""Sending lines to the gatherer: by hand at a menu, or as they come from another program.

``commands/gather`` chooses between the two:

``menu``      identify, authenticate, send, one after the other, as somebody at a terminal says
``follower``  reads lines, spools them, and sends them until the server has confirmed them; of it are ``standard_input``
              and ``patience`` (how long to wait, and what is said meanwhile)
``session``   the steps of the protocol, and how far a sender has come
``spool``     lines on disk that the server has not confirmed yet; ``records`` tells what a crash has torn, ``batches``
              what goes into one request
"""
