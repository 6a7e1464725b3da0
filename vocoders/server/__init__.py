"""A server that turns mels into audio for many clients at a time: ``vocoders serve``.

From the connection to the model, a request passes through these files:

    cluster.py     the process of a server on a Ray cluster
    deployment.py  its replicas: the application of Ray Serve
    proxy.py       what the proxies of Ray Serve answer for them
    settings.py    what is served: read by the command line, the process and the replicas
    process.py     the process: port, signals, shutting down
    protocol.py    connections: idle ones, size of headers
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
