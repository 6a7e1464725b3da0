"""A server that turns mels into audio for many clients at a time: ``vocoders serve``.

A request passes these files, from the connection to the model:

    process.py     the process: port, signals, shutting down
    app.py         the ASGI application
    middleware.py  metrics of requests; bodies that nobody reads
    routes.py      the routes
    http.py        bodies, disconnects, responses of audio
    websocket.py   streams of frames
    requests.py    limits, bodies to mels, errors
    scheduler.py   which utterance is synthesised next
    utterance.py   the frames and the audio of one request
    registry.py    the models
    schemas.py     what /openapi.json describes
    encoding.py    audio to the bytes of a sound file
    metrics.py     metrics for Prometheus
    page.html      the page for people
"""
