"""The shop's pages. What it needs it asks of the cart and of payment, so that a visit is one trace over three services."""

import logging
import os

import flask
import requests

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("frontend")
app = flask.Flask("frontend")
CART = os.environ.get("CART_URL", "http://127.0.0.1:8081")
PAYMENT = os.environ.get("PAYMENT_URL", "http://127.0.0.1:8082")


@app.get("/healthz")
def healthz():
    return "ok\n"


@app.get("/products/<product>")
def product(product: str):
    log.info("product %s was looked at", product)
    return {"product": product, "price": 9.5 + len(product)}


@app.post("/cart/<visitor>/<product>")
def add(visitor: str, product: str):
    answer = requests.post(f"{CART}/carts/{visitor}", json={"product": product}, timeout=5)
    return answer.json(), answer.status_code


@app.post("/checkout/<visitor>")
def checkout(visitor: str):
    cart = requests.get(f"{CART}/carts/{visitor}", timeout=5).json()
    if not cart["products"]:
        log.warning("visitor %s checks out an empty cart", visitor)
        return {"error": "the cart is empty"}, 409
    total = sum(9.5 + len(product) for product in cart["products"])
    paid = requests.post(f"{PAYMENT}/payments", json={"visitor": visitor, "total": total}, timeout=5)
    if not paid.ok:
        log.error("the order of visitor %s over %.2f was not paid: %s", visitor, total, paid.status_code)
        return {"error": "payment failed"}, 502
    requests.delete(f"{CART}/carts/{visitor}", timeout=5)
    log.info("visitor %s has ordered for %.2f", visitor, total, extra={"order.total": total})
    return {"total": total}, 201
