"""Requests that take a while."""

import threading

import httpx

LONG = {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 1500, "temperature": 0,
        "ignore_eos": True}


class LongStream:
    """A stream held open by a thread, begun when the constructor returns."""

    def __init__(self, daemon, **fields):
        self.text, self.lines, self.failure = "", [], None
        self._has_begun = threading.Event()
        self._body = LONG | {"stream": True} | fields
        self._url = daemon.url + "/v1/completions"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._has_begun.wait(60)

    def _run(self):
        try:
            with httpx.stream("POST", self._url, json=self._body, timeout=300) as answer:
                for line in answer.iter_lines():
                    self.lines.append(line)
                    self._has_begun.set()
        except httpx.HTTPError as failure:
            self.failure = failure
        self._has_begun.set()

    def is_over(self):
        return not self._thread.is_alive()

    def join(self):
        self._thread.join(300)
        assert not self._thread.is_alive()
        return self
