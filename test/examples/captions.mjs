// Captions an image as a chat, and a folder of images as a batch, with OpenAI's SDK for Node:
//   node test/examples/captions.mjs photo.jpg photos
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import OpenAI, { toFile } from 'openai'

const [picture, folder] = process.argv.slice(2)
const client = new OpenAI({
  baseURL: `${process.env.TURBINE_URL ?? 'http://127.0.0.1:8787'}/v1`,
  apiKey: process.env.TURBINE_API_KEY ?? 'any text while there are no keys',
})

const imagePart = async (path) => {
  const url = `data:image/jpeg;base64,${await readFile(path, 'base64')}`
  return { type: 'image_url', image_url: { url } }
}
const { data: models } = await client.models.list()
const model = models[0].id

const messages = [{ role: 'user', content: [await imagePart(picture)] }]
const completion = await client.chat.completions.create({ model, messages })
console.log(`${picture}\t${completion.choices[0].message.content}`)

const lines = await Promise.all(
  (await readdir(folder)).sort().map(async (name) => {
    const body = { model, messages: [{ role: 'user', content: [await imagePart(join(folder, name))] }] }
    return JSON.stringify({ custom_id: name, method: 'POST', url: '/v1/chat/completions', body })
  }),
)
const file = await client.files.create({
  file: await toFile(Buffer.from(lines.join('\n')), 'work.jsonl'),
  purpose: 'batch',
})
let batch = await client.batches.create({
  input_file_id: file.id,
  endpoint: '/v1/chat/completions',
  completion_window: '24h',
})
while (!['completed', 'failed', 'expired', 'cancelled'].includes(batch.status)) {
  await delay(500)
  batch = await client.batches.retrieve(batch.id)
}

const output = batch.output_file_id ? await (await client.files.content(batch.output_file_id)).text() : ''
for (const line of output.trim().split('\n')) {
  const { custom_id, response } = JSON.parse(line)
  console.log(`${custom_id}\t${response.body.choices[0].message.content}`)
}
const { completed, failed } = batch.request_counts
console.log(`${batch.status}: ${completed} captioned, ${failed} failed`)
