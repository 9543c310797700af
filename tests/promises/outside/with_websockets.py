"""Clients of websockets, which connect again when they are told to, and say again what was not answered.

Message n of a client is `<client>-<n>`. Tells how many of each were answered, and with which codes connections ended.
"""

import asyncio
import sys

from counted import Counted

try:
    import websockets
except ImportError as error:
    sys.exit(f"{error}: install Debian's python3-websockets")

CLIENTS = 10
url = sys.argv[1]
counted = Counted(CLIENTS, of=max)
acknowledged = [0] * CLIENTS
codes = {}


async def converse(number):
    async with websockets.connect(url, open_timeout=60, ping_interval=None) as socket:
        while not counted.is_over():
            await socket.send(f"{number}-{acknowledged[number]}")
            answer = await socket.recv()
            acknowledged[number] += 1
            counted.answered(number, answer)
            await asyncio.sleep(0.002)


async def stay(number):
    while not counted.is_over():
        try:
            await converse(number)
        except websockets.ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else "no close frame"
            codes[code] = codes.get(code, 0) + 1
        except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
            counted.failed(error)


async def main():
    await asyncio.gather(*(stay(number) for number in range(CLIENTS)))


asyncio.run(main())
counted.more = {"acknowledged": acknowledged, "codes": codes}
counted.tell()
