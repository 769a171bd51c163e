from ntro.workflow import activity


@activity.defn
def figures(period: str) -> dict:
    return {"period": period, "opening": 1}
