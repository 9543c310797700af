"""Connections of Python's own http.client that are silent before they ask: for a moment, or until all is over."""

import http.client
import random
import sys
import threading
import time

from counted import Counted

CLIENTS = 8
address = sys.argv[1]
counted = Counted(CLIENTS)


def ask(connection, number):
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            raise http.client.HTTPException(f"{response.status}: {text}")
        counted.answered(number, text)
    except (OSError, http.client.HTTPException) as error:
        counted.failed(error)


def connect():
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.connect()
    return connection


def wait_and_ask(number):
    think = random.Random(number)
    while not counted.is_over():
        connection = connect()
        time.sleep(think.uniform(0, 0.1))
        ask(connection, number)
        connection.close()


silent = [connect() for _ in range(CLIENTS)]
clients = [threading.Thread(target=wait_and_ask, args=(number,)) for number in range(CLIENTS)]
for client in clients:
    client.start()
for client in clients:
    client.join()
for number, connection in enumerate(silent):
    ask(connection, number)
counted.tell()
