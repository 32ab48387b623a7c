"""`seed-hf serve`: seeing, drawing and talking over HTTP, in the shapes of OpenAI's API.

    from seed_hf.serving.app import build_app
    from seed_hf.serving.limits import Limits
    from seed_hf.serving.served import ServedModel

    app = build_app(ServedModel.load("seed-tiny"), Limits())  # for uvicorn, or any other ASGI server

A request passes the gate (key, size, time, places), is read and prepared in helper threads, and becomes jobs: one
image to encode, one row to write, one image to draw. One thread owns the model and takes jobs of a kind in batches.
"""
