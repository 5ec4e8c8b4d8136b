"""Carts, in memory. One lookup in some is slow, for there to be something to find."""

import collections
import logging
import os
import random
import time

import flask

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("cart")
app = flask.Flask("cart")
SLOW = float(os.environ.get("SLOW_RATIO", "0.05"))
# Visitors who never come back must not fill the memory.
MOST = 1000
carts: collections.OrderedDict[str, list[str]] = collections.OrderedDict()


@app.get("/healthz")
def healthz():
    return "ok\n"


@app.get("/carts/<visitor>")
def show(visitor: str):
    if random.random() < SLOW:
        log.warning("the cart of %s was not in the cache", visitor)
        time.sleep(0.4)
    return {"products": carts.get(visitor, [])}


@app.post("/carts/<visitor>")
def add(visitor: str):
    product = flask.request.get_json()["product"]
    carts.setdefault(visitor, []).append(product)
    while len(carts) > MOST:
        carts.popitem(last=False)
    log.info("%s was put into the cart of %s", product, visitor)
    return {"products": len(carts.get(visitor, []))}


@app.delete("/carts/<visitor>")
def clear(visitor: str):
    carts.pop(visitor, None)
    return "", 204
