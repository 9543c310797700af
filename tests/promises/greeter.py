"""Calls the service of examples/tonic with gRPC's own client until standard input ends.

Prints a line for each new generation that has answered, `<pid> <generation>`, and at the end what it has counted.

The messages are written by hand: they are short, and python3-protobuf is not needed.
"""

import json
import sys
import threading

import grpc

over = threading.Event()
lock = threading.Lock()
counted = {"unary": 0, "streams": 0, "failed": []}
newest = 0


def numbers(identity):
    """The fields of an Identity, both being varints."""
    numbers = []
    at = 0
    while at < len(identity):
        at += 1
        number = shift = 0
        while True:
            byte = identity[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        numbers.append(number)
    return numbers


def count(what, identities):
    global newest
    with lock:
        counted[what] += 1
        for pid, generation in map(numbers, identities):
            if generation > newest:
                newest = generation
                print(pid, generation, flush=True)


def fail(what, error):
    with lock:
        counted["failed"].append(f"{what}: {error.code()}: {error.details()}")


def ask(channel):
    who = channel.unary_unary("/greeter.Greeter/Who")
    while not over.is_set():
        try:
            count("unary", [who(b"")])
        except grpc.RpcError as error:
            fail("unary", error)


def follow(channel):
    follow = channel.unary_stream("/greeter.Greeter/Follow")
    ten_in_twenty_milliseconds = b"\x08\x0a\x10\x02"
    while not over.is_set():
        try:
            identities = list(follow(ten_in_twenty_milliseconds))
            assert len(identities) == 10, identities
            count("streams", identities)
        except grpc.RpcError as error:
            fail("stream", error)


channels = [
    # Otherwise they would share one connection.
    grpc.insecure_channel(sys.argv[1], [("grpc.use_local_subchannel_pool", 1)])
    for _ in range(4)
]
clients = [
    threading.Thread(target=client, args=(channel,))
    for channel in channels
    for client in (ask, ask, follow)
]
for client in clients:
    client.start()
sys.stdin.read()
over.set()
for client in clients:
    client.join()
print(json.dumps(counted))
