import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Batch } from '../../edge/contract/batch.ts'
import { isFinal } from '../../edge/contract/batch.ts'
import type { Random } from '../../infra/starter-model/random.ts'
import { type Answer, type Caller, UnansweredError } from './caller.ts'
import { type ExpectedLine, writeManifest } from './manifest.ts'
import type { Scenery } from './scenery.ts'

/** A batch from its manifest to its files. */
export interface BatchRun {
  tenant: string
  expected: ExpectedLine[]
  /** Undefined when the service never said that it has it. */
  batch?: Batch
  /** Texts of its files; undefined while there are none. */
  output?: string
  errors?: string
  /** The answer that ended it before it was over. */
  refused?: string
}

export interface BatchOptions {
  random: Random
  tenant: string
  lines: number
  scenery: Scenery
}

const pollEveryMs = 1000
const uploadShare = 0.4
const partBytes = 64 * 1024

/** An answer that is not a success. */
class RefusedError extends Error {
  override readonly name = 'RefusedError'
}

/** Sends a manifest as a file or in parts, makes a batch of it, waits for its end and fetches its files. */
export async function runBatch(caller: Caller, options: BatchOptions): Promise<BatchRun> {
  const { random, tenant, scenery } = options
  const endpoint = random() < 0.5 ? '/v1/captions' : '/v1/chat/completions'
  const { text, lines: expected } = writeManifest({ ...scenery, random, endpoint, lines: options.lines })
  const inParts = random() < uploadShare
  const run: BatchRun = { tenant, expected }
  try {
    const file = await (inParts ? sendInParts(caller, text) : sendFile(caller, text))
    const created = await postJson<Batch>(caller, '/v1/batches', {
      input_file_id: file,
      endpoint,
      completion_window: '24h',
      turbine: { max_prune: 0 },
    })
    run.batch = created
    while (!isFinal(run.batch.status)) {
      await delay(pollEveryMs)
      run.batch = JSON.parse(succeeded(await caller.call({ path: `/v1/batches/${created.id}` }))) as Batch
    }
    run.output = await contentOf(caller, run.batch.output_file_id)
    run.errors = await contentOf(caller, run.batch.error_file_id)
  } catch (error) {
    if (error instanceof RefusedError) run.refused = error.message
    else if (!(error instanceof UnansweredError)) throw error
  }
  return run
}

async function sendFile(caller: Caller, text: string): Promise<string> {
  const answer = await caller.call({
    method: 'POST',
    path: '/v1/files',
    headers: { 'idempotency-key': randomUUID() },
    body: () => form({ purpose: 'batch', file: new File([text], 'work.jsonl') }),
  })
  return idOf(answer)
}

async function sendInParts(caller: Caller, text: string): Promise<string> {
  const bytes = new TextEncoder().encode(text)
  const { id } = await postJson<{ id: string }>(caller, '/v1/uploads', {
    bytes: bytes.length,
    filename: 'work.jsonl',
    mime_type: 'application/jsonl',
    purpose: 'batch',
  })
  const parts: string[] = []
  for (let at = 0; at < bytes.length; at += partBytes) {
    const data = new File([bytes.subarray(at, at + partBytes)], 'part')
    const answer = await caller.call({
      method: 'POST',
      path: `/v1/uploads/${id}/parts`,
      body: () => form({ data }),
    })
    parts.push(idOf(answer))
  }
  const completed = await postJson<{ file: { id: string } }>(caller, `/v1/uploads/${id}/complete`, {
    part_ids: parts,
  })
  return completed.file.id
}

async function postJson<T>(caller: Caller, path: string, request: unknown): Promise<T> {
  const headers = { 'content-type': 'application/json', 'idempotency-key': randomUUID() }
  const body = () => JSON.stringify(request)
  return JSON.parse(succeeded(await caller.call({ method: 'POST', path, headers, body }))) as T
}

async function contentOf(caller: Caller, file: string | null): Promise<string> {
  if (file === null) return ''
  return succeeded(await caller.call({ path: `/v1/files/${file}/content` }))
}

function form(fields: Record<string, string | File>): FormData {
  const data = new FormData()
  for (const [name, value] of Object.entries(fields)) data.set(name, value)
  return data
}

const idOf = (answer: Answer) => (JSON.parse(succeeded(answer)) as { id: string }).id

function succeeded({ status, text }: Answer): string {
  if (status < 300) return text
  throw new RefusedError(`${status} ${text.slice(0, 300)}`)
}
