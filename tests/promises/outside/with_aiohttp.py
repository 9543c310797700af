"""One session of aiohttp: clients that share its pool of connections, with time to think between two requests."""

import asyncio
import random
import sys

from counted import Counted

try:
    import aiohttp
except ImportError as error:
    sys.exit(f"{error}: install Debian's python3-aiohttp")

CLIENTS = 12
url = sys.argv[1]
counted = Counted(CLIENTS)


async def ask(session, number):
    think = random.Random(number)
    while not counted.is_over():
        try:
            async with session.get(url) as response:
                response.raise_for_status()
                counted.answered(number, await response.text())
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            counted.failed(error)
        await asyncio.sleep(think.uniform(0, 0.02))


async def main():
    # It closes none by itself, and has fewer than there are clients.
    connector = aiohttp.TCPConnector(limit=CLIENTS - 4, keepalive_timeout=600, ssl=False)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(ask(session, number) for number in range(CLIENTS)))


asyncio.run(main())
counted.tell()
