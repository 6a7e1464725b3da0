"""A server that turns mels into audio for many clients at a time: ``vocoders serve``.

From the connection to the model, a request passes through these files:

    process.py     the process: port, signals, shutting down
    app.py         the ASGI application
    middleware.py  metrics of requests; unread bodies
    routes.py      the routes
    http.py        bodies, disconnects, responses of audio
    websocket.py   streams of frames
    requests.py    limits, decoding of bodies, errors
    scheduler.py   which utterance is synthesised next
    utterance.py   the frames and the audio of one request
    registry.py    the models
    schemas.py     what /openapi.json describes
    encoding.py    encoding of audio as a sound file
    metrics.py     metrics for Prometheus
    page.html      the web page
"""
