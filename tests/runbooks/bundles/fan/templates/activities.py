import os
import time

from ntro.workflow import activity


@activity.defn
def work() -> None:
    for word in ("begins", "ends"):
        with open(os.environ["LOG"], "a") as log:
            log.write(f"{word}\n")
        time.sleep(0.2)
