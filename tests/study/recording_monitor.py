"""A monitor that records what an executor reports."""


class RecordingMonitor:
    """Every run is needed; messages and finished runs are kept in order."""

    def __init__(self):
        self.messages, self.finished = [], []

    def is_needed(self, key):
        return True

    def run_step(self, key, stage, done, total):
        pass

    def run_finished(self, key):
        self.finished.append(key)

    def message(self, text):
        self.messages.append(text)
