"""What the clients of a script have seen, told to the test that has started it.

A line with the number of a generation is printed once all of them (or the first, with `of=max`) have been answered by
it. Standard input ends when they are to end. The last line is what was counted, in JSON.
"""

import json
import re
import sys
import threading


class Counted:
    def __init__(self, clients, of=min):
        self.newest = [0] * clients
        self.of = of
        self.told = 0
        self.more = {}
        self.answers = 0
        self.failures = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self):
        sys.stdin.read()
        self.over.set()

    def is_over(self):
        return self.over.is_set()

    def answered(self, client, text):
        who = re.fullmatch(r"pid=\d+ generation=(\d+)", text)
        if not who:
            return self.failed(f"nobody answers {text!r}")
        with self.lock:
            self.answers += 1
            self.newest[client] = max(self.newest[client], int(who[1]))
            newest = self.of(self.newest)
            if newest > self.told:
                self.told = newest
                print(newest, flush=True)

    def failed(self, why):
        with self.lock:
            self.failures.append(why if isinstance(why, str) else repr(why))

    def tell(self):
        counted = {"answers": self.answers, "failures": self.failures}
        print(json.dumps(counted | self.more), flush=True)
