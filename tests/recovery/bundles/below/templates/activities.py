import os

from ntro.workflow import activity


@activity.defn
def note(what: str) -> str:
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(f"{what}\n")
    return what
