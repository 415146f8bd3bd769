import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, test } from 'vitest'
import type { Batch } from '../../edge/contract/batch.ts'
import type { ModelSummary } from '../../edge/contract/model.ts'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { drawPictures, type Picture } from './pictures.ts'
import {
  completedOf,
  errorOf,
  finished,
  metric,
  postAsync,
  postImage,
  type Service,
  startService,
} from './service.ts'
import { runTurbine, temporaryFolder } from './turbine.ts'

const vitGpt2 = fileURLToPath(new URL('../fixtures/models/vit-gpt2', import.meta.url))
const [starter, other] = ['turbine-starter', 'vit-gpt2']

let dataDir: string
let service: Service
let picture: Picture
/** What each model says of the picture. */
const captions = new Map<string, string>()

const ofModel = (model: string) => ({ query: { model } })
const startBoth = (folders: string[], env: Record<string, string> = {}) =>
  startService({ dataDir, env, args: folders.flatMap((folder) => ['--model', folder]) })

beforeAll(async () => {
  dataDir = await temporaryFolder()
  picture = (await drawPictures(1))[0]!
  service = await startBoth([bundledModel, vitGpt2], { TURBINE_MODEL_ALIASES: `gpt-4o=${other}` })
  for (const model of [starter, other])
    captions.set(model, (await completedOf(await postImage(service, picture.jpeg, ofModel(model)))).caption)
})

const modelsOf = async ({ url }: Service) =>
  ((await (await fetch(`${url}/v1/models`)).json()) as { data: ModelSummary[] }).data

test('all models are listed, the first of the command line first, and each answers for itself', async () => {
  expect((await modelsOf(service)).map(({ id }) => id)).toEqual([starter, other, 'gpt-4o'])
  expect(captions.get(starter)).toMatch(/^a (small|large) /)
  expect(captions.get(other)).not.toBe(captions.get(starter))
})

test('a request without a model goes to the first, one with an alias to what it stands for', async () => {
  const byDefault = await completedOf(await postImage(service, picture.jpeg))
  expect(byDefault).toMatchObject({ caption: captions.get(starter), turbine: { model: starter } })
  const aliased = await completedOf(await postImage(service, picture.jpeg, ofModel('gpt-4o')))
  expect(aliased).toMatchObject({ caption: captions.get(other), turbine: { model: other } })
})

test('an unknown model is 404, which names those there are', async () => {
  const response = await postImage(service, picture.jpeg, ofModel('florence'))
  expect(response.status).toBe(404)
  const error = await errorOf(response)
  expect(error).toMatchObject({ code: 'model_not_found', param: 'model' })
  expect(error.message).toContain(`${starter}, ${other}, gpt-4o`)
})

test('models that work at the same time on one device give what each gives alone', async () => {
  const asked = Array.from({ length: 40 }, (_, index) => (index % 2 === 0 ? starter : other))
  const answers = await Promise.all(
    asked.map(async (model) => completedOf(await postImage(service, picture.jpeg, patiently(model)))),
  )
  expect(answers.map(({ caption }) => caption)).toEqual(asked.map((model) => captions.get(model)))
  const ids = await Promise.all(
    asked.map((model) => postAsync(service, picture.jpeg, { model, max_prune: 0 })),
  )
  for (const [index, id] of ids.entries())
    expect((await completedOf(await finished(service, id))).caption).toBe(captions.get(asked[index]!))
})

/** However many others there are, unpruned. */
const patiently = (model: string) => ({ query: { model, deadline_ms: 60_000, max_prune: 0 } })

test('a batch runs with its model', async () => {
  const batches = await Promise.all([starter, other].map((model) => runBatch(service, model)))
  for (const [index, model] of [starter, other].entries()) {
    const lines = batches[index]!
    expect(lines.length).toBe(20)
    for (const { response } of lines) {
      expect(response.body.caption).toBe(captions.get(model!))
      expect(response.body.turbine.model).toBe(model)
    }
  }
})

test('metrics tell the models apart', async () => {
  const text = await (await fetch(`${service.url}/metrics`)).text()
  for (const model of [starter, other]) {
    expect(text).toMatch(new RegExp(`^turbine_replica_images_per_second\\{model="${model}"\\} [1-9]`, 'm'))
    expect(text).toMatch(new RegExp(`^turbine_replicas\\{lane="batch",model="${model}"\\} 1$`, 'm'))
    expect(text).toMatch(
      new RegExp(`^turbine_images_total\\{lane="batch",level="0",model="${model}"\\} `, 'm'),
    )
  }
})

test('what was accepted is captioned after a restart with the models in another order', async () => {
  const accepted = await Promise.all(
    Array.from({ length: 40 }, async (_, index) => {
      const model = index % 2 === 0 ? starter : other
      return { model, id: await postAsync(service, picture.jpeg, { model, max_prune: 0 }) }
    }),
  )
  service.turbine.kill('SIGKILL')
  await service.turbine.exited
  service = await startBoth([vitGpt2, bundledModel])
  expect((await modelsOf(service)).map(({ id }) => id)).toEqual([other, starter])
  for (const { model, id } of accepted)
    expect((await completedOf(await finished(service, id))).caption).toBe(captions.get(model))
  expect(await metric(service, 'turbine_dead_letters_total')).toBe(0)
})

test('two folders of one model are refused, and commands that run one model say so', async () => {
  const folder = await temporaryFolder()
  const args = ['--data-dir', folder, '--port', '0', '--model', vitGpt2, '--model', vitGpt2]
  const served = await runTurbine(['serve', ...args])
  expect(served.code).not.toBe(0)
  expect(served.stderr).toContain(`two folders whose model is "${other}"`)
  const env = { TURBINE_MODEL: `${bundledModel},${vitGpt2}` }
  const captioned = await runTurbine(['caption', join(bundledModel, '../samples')], { env })
  expect(captioned.stderr).toContain('runs one model, and 2 are set')
})

interface OutputLine {
  custom_id: string
  response: { body: { caption: string; turbine: { model: string } } }
}

/** Runs a batch of copies of the picture, and returns its lines. */
async function runBatch({ url }: Service, model: string): Promise<OutputLine[]> {
  const image_url = `data:image/jpeg;base64,${Buffer.from(picture.jpeg).toString('base64')}`
  const line = (custom_id: string) =>
    JSON.stringify({
      custom_id,
      method: 'POST',
      url: '/v1/captions',
      body: { model, image_url, turbine: { max_prune: 0 } },
    })
  const form = new FormData()
  form.set('purpose', 'batch')
  const text = Array.from({ length: 20 }, (_, index) => `${line(String(index))}\n`).join('')
  form.set('file', new Blob([text]), 'lines.jsonl')
  const file = (await (await fetch(`${url}/v1/files`, { method: 'POST', body: form })).json()) as {
    id: string
  }
  const created = await fetch(`${url}/v1/batches`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ input_file_id: file.id, endpoint: '/v1/captions', completion_window: '24h', model },
    }),
  })
  let batch = (await created.json()) as Batch
  while (batch.status !== 'completed') {
    if (batch.status === 'failed' || batch.id === undefined) throw new Error(JSON.stringify(batch))
    await delay(50)
    batch = (await (await fetch(`${url}/v1/batches/${batch.id}`)).json()) as Batch
  }
  const output = await fetch(`${url}/v1/files/${batch.output_file_id}/content`)
  return (await output.text())
    .trimEnd()
    .split('\n')
    .map((text) => JSON.parse(text) as OutputLine)
}
