"""Takes payments, and now and then fails: some cards are refused, and sometimes the bank does not answer."""

import logging
import os
import random
import time

import flask

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("payment")
app = flask.Flask("payment")
REFUSED = float(os.environ.get("REFUSED_RATIO", "0.05"))
BROKEN = float(os.environ.get("BROKEN_RATIO", "0.05"))


class BankAway(Exception):
    """Becomes a 500, with the exception in the span and in the log."""


@app.get("/healthz")
def healthz():
    return "ok\n"


@app.post("/payments")
def pay():
    order = flask.request.get_json()
    time.sleep(random.uniform(0.005, 0.05))
    chance = random.random()
    if chance < BROKEN:
        raise BankAway(f"the bank did not answer for {order['visitor']}")
    if chance < BROKEN + REFUSED:
        log.warning("the card of %s was refused", order["visitor"])
        return {"error": "the card was refused"}, 402
    log.info("%s has paid %.2f", order["visitor"], order["total"])
    return {"paid": order["total"]}, 201
