// Captions with OpenAI's SDK for Node:
//   npm install openai
//   node openai.mjs photo.jpg another.jpg
import { readFile } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import OpenAI, { toFile } from 'openai'

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? 'http://127.0.0.1:8787/v1',
  // While the service has no keys, any text will do.
  apiKey: process.env.OPENAI_API_KEY ?? 'none',
})
const files = process.argv.slice(2)
const dataUrl = async (file) => `data:image/jpeg;base64,${await readFile(file, 'base64')}`
const model = (await client.models.list()).data[0].id

// One image in a chat.
const ask = (url) => [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }]
const chat = await client.chat.completions.create({ model, messages: ask(await dataUrl(files[0])) })
console.log('chat:', chat.choices[0].message.content)

// One image at Turbine's own endpoint. `max_prune: 0` is full quality, however much load there is.
const caption = await client.post('/captions', {
  body: { image_url: await dataUrl(files[0]), turbine: { max_prune: 0 } },
})
console.log('caption:', caption.caption, `(prune ratio ${caption.turbine.prune_ratio})`)

// Many images in a batch: a file with a line for each of them, in the format that OpenAI has for it.
const lines = []
for (const file of files) {
  const body = { model, messages: ask(await dataUrl(file)) }
  lines.push(JSON.stringify({ custom_id: file, method: 'POST', url: '/v1/chat/completions', body }))
}
const input = await client.files.create({
  file: await toFile(Buffer.from(lines.join('\n')), 'work.jsonl'),
  purpose: 'batch',
})
let batch = await client.batches.create({
  input_file_id: input.id,
  endpoint: '/v1/chat/completions',
  completion_window: '24h',
})
while (!['completed', 'failed', 'expired', 'cancelled'].includes(batch.status)) {
  await wait(1000)
  batch = await client.batches.retrieve(batch.id)
}
console.log(
  `batch: ${batch.status}, ${batch.request_counts.completed} of ${batch.request_counts.total} captioned`,
)
for (const id of [batch.output_file_id, batch.error_file_id].filter(Boolean)) {
  const text = await (await client.files.content(id)).text()
  for (const line of text.trim().split('\n')) {
    const { custom_id, response, error } = JSON.parse(line)
    const failure = error ?? response.body.error
    console.log(`${custom_id}:`, failure ? failure.message : response.body.choices[0].message.content)
  }
}
