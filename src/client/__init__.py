"""The terminal client: ``python -m src.client``, and ``sealpost`` where it is installed.

It knows the server by its HTTP API alone and imports nothing of it. From the top:

``__main__``        the list of commands, and how the program ends: every `ClientError` is one line on stderr and an
                    exit code, and nothing ever shows a traceback
``manual``          the manual page, made from the help
``commands``        what is typed, a module for each subject
``gathering``       what sends to the gatherer: a menu, and a follower of stdin with its spool
``bot``             the activity bot, a program of its own on `Transport`; its package's docstring names its parts
``blocking_api``      from the options of a command to a connected `Api`
``api``             requests with the right token; ``authentication`` finds it and keeps it good, ``credentials`` is the
                    file
``loopback``        waits on 127.0.0.1 for the code that the browser brings
``transport``       HTTP: timeouts, retries, failures explained; ``tls`` and ``proxies`` configure it, ``responses``
                    parses responses
``policy``          how a request is sent: with a token or without, and after what again
``options``         the options of every command; ``environment``, ``addresses`` and ``durations`` parse input,
                    ``encodings`` decodes files and streams
``envelopes``       what is encrypted before it is sent, and the keys in a link; ``segments`` encrypts files
``files``           the files of secrets: a package for sharing, uploading, downloading and saving them
``prompts``         asks for texts, passwords and phrases
``output``          writes results and messages
``errors``          what can go wrong, and the exit codes

To add a command:

1. Write a function in a module of ``commands``, with `typer.Context` first and its options as keyword-only `Annotated`
   parameters. The docstring is its help. What must not stand in the shell's history or the list of processes (a
   password, a phrase, a token) is asked for with `prompts` or read from a variable of `environment.VARIABLES`.
2. Register it in ``__main__`` with `add`, under one of the panels of the help. `Command` gives it the options that all
   commands have; `shared_of(context)` returns them.
3. A command that sends a few requests, one after the other, uses ``with connect(shared) as server`` and
   ``server.call(...)``, without async. Between calls it may ask with `prompts`. A program that sends many at once runs
   its own event loop on ``async with make_transport(shared, url, keep_alive=True) as transport``; `Transport.send`
   returns refusals as answers too, and `Api` with a `TokenSource` adds tokens. Import ``transport`` and what stands on
   it inside the function: aiohttp takes a third of a second, which ``--help`` and completion need not wait for.
4. Say with ``resend`` after what a request may be sent again. Leave it `Resend.NEVER` where in doubt; `OutcomeUnknown`
   then tells that it may have been carried out. `BlockingApi.once` is for what must not be done twice, and takes the
   words that say how to find out.
5. Read answers by the methods of `JsonObject`: what answers may be anything. Show results with `Output`, as JSON under
   ``--json``; say everything else with `say`, which goes to stderr. Raise a `ClientError` to end with words.
6. Describe command and options in ``docs/client.md``; ``tests/client/test_docs.py`` compares.
"""
