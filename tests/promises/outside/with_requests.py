"""Sessions of requests, each with one connection, and time to think between two requests."""

import random
import sys
import threading
import time

from counted import Counted

try:
    import requests
except ImportError as error:
    sys.exit(f"{error}: install Debian's python3-requests")

CLIENTS = 8
url = sys.argv[1]
counted = Counted(CLIENTS)


def ask(number):
    think = random.Random(number)
    with requests.Session() as session:
        session.trust_env = False
        session.verify = False
        while not counted.is_over():
            try:
                response = session.get(url, timeout=60)
                response.raise_for_status()
                counted.answered(number, response.text)
            except requests.RequestException as error:
                counted.failed(error)
            time.sleep(think.uniform(0, 0.02))


clients = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
for client in clients:
    client.start()
for client in clients:
    client.join()
counted.tell()
