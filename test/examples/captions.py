"""Captions an image as a chat, and a folder of images as a batch, with OpenAI's SDK for Python:

python test/examples/captions.py photo.jpg photos
"""

import base64
import json
import os
import sys
import time
from pathlib import Path

from openai import OpenAI

picture, folder = map(Path, sys.argv[1:])
client = OpenAI(
    base_url=os.environ.get("TURBINE_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ.get("TURBINE_API_KEY", "any text while there are no keys"),
)


def image_part(path):
    url = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


model = client.models.list().data[0].id

messages = [{"role": "user", "content": [image_part(picture)]}]
completion = client.chat.completions.create(model=model, messages=messages)
print(picture, completion.choices[0].message.content, sep="\t")

lines = []
for path in sorted(folder.iterdir()):
    body = {"model": model, "messages": [{"role": "user", "content": [image_part(path)]}]}
    lines.append({"custom_id": path.name, "method": "POST", "url": "/v1/chat/completions", "body": body})
work = "\n".join(map(json.dumps, lines)).encode()
file = client.files.create(file=("work.jsonl", work), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(0.5)
    batch = client.batches.retrieve(batch.id)

output = client.files.content(batch.output_file_id).text if batch.output_file_id else ""
for line in output.splitlines():
    result = json.loads(line)
    print(result["custom_id"], result["response"]["body"]["choices"][0]["message"]["content"], sep="\t")
counts = batch.request_counts
print(f"{batch.status}: {counts.completed} captioned, {counts.failed} failed")
