"""Runs several compiled jobs one after the other in one Java: ``python -m tests.validation.flink_jobs`` reads them as JSON."""

import json
import os
import sys
import threading

from unskew.online.flink_child import run

if __name__ == "__main__":
    for each in json.load(sys.stdin):
        run(each, threading.Event())
    os._exit(0)  # Java ends with this process
