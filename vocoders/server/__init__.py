"""A server that turns mels into audio for many clients at a time: ``vocoders serve``.

app.py        the routes                             page.html   what a browser sees
websocket.py  live streams                           run.py      the process: port, signals
exchange.py   bodies, clients, answers piece by piece
protocol.py   mels in, audio out, reasons to refuse
scheduler.py  whose turn it is                       voices.py   the models
metrics.py    figures for Prometheus
"""
