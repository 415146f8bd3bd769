"""Reads the scenes that stream-scenes.ts draws, through a pipe from one Node process."""
import json
import pathlib
import queue
import subprocess
import threading

import numpy as np

SCRIPT = pathlib.Path(__file__).with_name("stream-scenes.ts")


class SceneStream:
    """The endless scenes of a seed and split ("training" or "held-out").

    `header` is the first line of the stream: the lists of kinds, colours and so on, and the caption words.
    `read(count)` gives the next scenes as a structured array with the fields pixels `uint8 [n, 224, 224, 3]`,
    labels `uint8 [n, 196]`, surroundings `uint8 [n, 3]` (place, time, relation), objects `uint8 [n, 3, 3]`
    (kind, colour, size of each mention; 255 where there is none) and caption (bytes).
    """

    def __init__(self, seed, split, node="node"):
        command = [node, str(SCRIPT), "--seed", str(seed), "--split", split]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=1 << 20)
        self.header = json.loads(self.process.stdout.readline())
        side, patch = self.header["side"], self.header["patch"]
        self.dtype = np.dtype([
            ("pixels", "u1", (side, side, 3)),
            ("labels", "u1", ((side // patch) ** 2,)),
            ("surroundings", "u1", (3,)),
            ("objects", "u1", (3, 3)),
            ("caption", f"S{self.header['captionBytes']}"),
        ])
        assert self.dtype.itemsize == self.header["recordBytes"]

    def read(self, count):
        data = self.process.stdout.read(count * self.dtype.itemsize)
        if len(data) < count * self.dtype.itemsize:
            raise EOFError(f"{SCRIPT.name} ended with status {self.process.wait()}")
        return np.frombuffer(data, self.dtype)

    def batches(self, size, ahead=4):
        """Endless batches, drawn up to `ahead` batches ahead while the caller works."""
        ready = queue.Queue(ahead)

        def fill():
            try:
                while True:
                    ready.put(self.read(size))
            except (EOFError, ValueError) as error:
                ready.put(error)

        threading.Thread(target=fill, daemon=True).start()
        while True:
            batch = ready.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def close(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
