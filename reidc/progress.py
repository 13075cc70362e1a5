"""One line that says how far a long run is: on a terminal it moves, elsewhere it is not written."""
import sys
import time
from contextlib import contextmanager


def duration(seconds):
    """"0:42", "3:05:10"."""
    seconds = max(0, int(seconds + 0.5))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"


class Progress:
    """`step(done, images)` redraws at most ten times a second; `close()` clears the line.

    total: steps in all, from `start` on; images are counted for the rate alone.
    """

    def __init__(self, label, total, start=0, stream=None, shown=None):
        self.label, self.total, self.start = label, max(1, total), start
        self.stream = sys.stderr if stream is None else stream
        self.shown = self.stream.isatty() if shown is None else shown
        self.began = time.monotonic()
        self.images, self.drawn = 0, 0.0

    def rate(self):
        """Images a second since the start."""
        return self.images / max(1e-9, time.monotonic() - self.began)

    def step(self, done, images=0, note=""):
        """`done` steps are done; `images` more pictures went through."""
        self.images += images
        now = time.monotonic()
        if not self.shown or (now - self.drawn < 0.1 and done < self.total):
            return
        self.drawn = now
        left = (now - self.began) / max(1, done - self.start) * (self.total - done)
        filled = 24 * done // self.total
        line = (f"{self.label} [{'#' * filled}{'.' * (24 - filled)}] {done}/{self.total}  "
                f"{self.rate():.0f} images/s  {duration(left)} left{note}")
        self.stream.write("\r" + line[:118].ljust(118))
        self.stream.flush()

    def close(self):
        """Leave an empty line behind."""
        if self.shown:
            self.stream.write("\r" + " " * 118 + "\r")
            self.stream.flush()


@contextmanager
def counter(label):
    """A bar for functions that report `progress(done, total)`, both counts of images."""
    bar, before = None, 0

    def progress(done, total):
        nonlocal bar, before
        if bar is None:
            bar = Progress(label, total)
        bar.step(done, done - before)
        before = done

    try:
        yield progress
    finally:
        if bar is not None:
            bar.close()
