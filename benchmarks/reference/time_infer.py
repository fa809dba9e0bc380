"""How long the reference's client takes for some rows; runs in the reference's environment.

``python time_infer.py URL ROWS`` prints the seconds. The client sends one request after another.
"""

import sys
import time

from dyff.client import InferenceSessionClient


def main() -> None:
    """Send the rows."""
    url, rows = sys.argv[1], int(sys.argv[2])
    client = InferenceSessionClient(
        session_id="session", token="none", dyff_api_endpoint=url, inference_endpoint="answer", insecure=True
    )
    started = time.perf_counter()
    for number in range(rows):
        row = {"question": f"What is the capital of country {number}?", "context": "Answer in one sentence."}
        client.infer({**row, "number": number, "topic": "geography"})
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main()
