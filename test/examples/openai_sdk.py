# Captions with OpenAI's SDK for Python:
#   pip install openai
#   python openai_sdk.py photo.jpg another.jpg
import base64
import json
import os
import sys
import time

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8787/v1"),
    # While the service has no keys, any text will do.
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
files = sys.argv[1:]
model = client.models.list().data[0].id


def data_url(file):
    with open(file, "rb") as image:
        return "data:image/jpeg;base64," + base64.b64encode(image.read()).decode()


def ask(url):
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


# One image in a chat.
chat = client.chat.completions.create(model=model, messages=ask(data_url(files[0])))
print("chat:", chat.choices[0].message.content)

# One image at Turbine's own endpoint. max_prune 0 is full quality, however much load there is.
request = {"image_url": data_url(files[0]), "turbine": {"max_prune": 0}}
caption = client.post("/captions", body=request, cast_to=object)
print("caption:", caption["caption"], f"(prune ratio {caption['turbine']['prune_ratio']})")

# Many images in a batch: a file with a line for each of them, in the format that OpenAI has for it.
lines = [
    json.dumps(
        {
            "custom_id": file,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": ask(data_url(file))},
        }
    )
    for file in files
]
work = client.files.create(file=("work.jsonl", "\n".join(lines).encode()), purpose="batch")
batch = client.batches.create(
    input_file_id=work.id, endpoint="/v1/chat/completions", completion_window="24h"
)
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(1)
    batch = client.batches.retrieve(batch.id)
counts = batch.request_counts
print(f"batch: {batch.status}, {counts.completed} of {counts.total} captioned")
for file_id in filter(None, [batch.output_file_id, batch.error_file_id]):
    for line in client.files.content(file_id).text.splitlines():
        result = json.loads(line)
        body = result["response"]["body"] if result["response"] else {}
        failure = result["error"] or body.get("error")
        text = failure["message"] if failure else body["choices"][0]["message"]["content"]
        print(f"{result['custom_id']}: {text}")
