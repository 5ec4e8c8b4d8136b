"""Visitors of the shop: load.py URL [--rate VISITS_PER_SECOND] [--duration SECONDS] [--visits N]

A visit looks at products, puts some into the cart and mostly checks out. It ends by itself: after the duration or the
number of visits, whichever comes first. What the shop answers is counted and said at the end; errors are part of the show.
"""

import argparse
import collections
import concurrent.futures
import random
import time
import urllib.error
import urllib.request

PRODUCTS = ["telescope", "tripod", "eyepiece", "star-map", "red-lamp", "dew-heater"]
WORKERS = 8
MOST_RATE = 50.0


def ask(method: str, url: str) -> str:
    request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError:
        return "none"


def visit(shop: str, number: int) -> list[str]:
    visitor = f"visitor-{number % 500}"
    answers = []
    for product in random.sample(PRODUCTS, random.randint(1, 3)):
        answers.append(ask("GET", f"{shop}/products/{product}"))
        if random.random() < 0.7:
            answers.append(ask("POST", f"{shop}/cart/{visitor}/{product}"))
    if random.random() < 0.8:
        answers.append(ask("POST", f"{shop}/checkout/{visitor}"))
    return answers


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shop")
    parser.add_argument("--rate", type=float, default=5)
    parser.add_argument("--duration", type=float, default=3600)
    parser.add_argument("--visits", type=int, default=10**6)
    options = parser.parse_args()
    pause = 1 / min(max(options.rate, 0.01), MOST_RATE)
    answers: collections.Counter[str] = collections.Counter()
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        running: set[concurrent.futures.Future] = set()
        for number in range(options.visits):
            if time.monotonic() - begun >= options.duration:
                break
            # A slow shop gets fewer visits, not a queue of them.
            if len(running) >= 2 * WORKERS:
                done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for each in done:
                    answers.update(each.result())
            running.add(pool.submit(visit, options.shop.rstrip("/"), number))
            time.sleep(random.uniform(0.5, 1.5) * pause)
        for each in running:
            answers.update(each.result())
    print(f"answers after {time.monotonic() - begun:.0f} s: {dict(sorted(answers.items()))}")


main()
