"""``doppelgan serve``: a page with the live picture and all that can be turned, and the same over HTTP.

::

    page's camera --socket--> studio (one thread, one pipeline, newest frame only) --> socket --> page
    server's source ------------^                                   |--> /stream.mjpg, /avatar
    controls: page, HTTP interface, presets ---^                    |--> recording, virtual camera

Needs the extra ``serve``; nothing else of the runtime imports this package.
"""
