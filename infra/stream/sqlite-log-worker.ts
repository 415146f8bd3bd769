import { parentPort, workerData } from 'node:worker_threads'
import { NewerSchemaError, SqliteLog } from './sqlite-log.ts'

/**
 * Calls of the log that other threads may make. Durable writes are synced; other writes may be lost with the power:
 * their records are delivered, or deleted, again.
 */
const calls = {
  topics: 'read',
  read: 'read',
  counts: 'read',
  ensureTopics: 'durable write',
  append: 'durable write',
  join: 'durable write',
  commit: 'write',
  prune: 'write',
  close: 'close',
} as const

export type LogMethod = keyof typeof calls
export type LogInput<M extends LogMethod> = Parameters<SqliteLog[M]>[0]
export type LogOutput<M extends LogMethod> = ReturnType<SqliteLog[M]>

export type LogRequest = { [M in LogMethod]: { id: number; method: M; input: LogInput<M> } }[LogMethod]

/** Failure of a call of the log. */
export interface LogFailure {
  reason: 'in-use' | 'newer' | 'failed'
  message: string
}

/** The first message reports on opening the file, later ones answer requests by id. */
export type LogMessage =
  | { opened: true }
  | { opened: false; failure: LogFailure }
  | { id: number; output: unknown }
  | { id: number; failure: LogFailure }

const port = parentPort!
const sqliteBusy = 5

function open(path: string): SqliteLog | undefined {
  try {
    const log = new SqliteLog(path)
    post({ opened: true })
    return log
  } catch (error) {
    post({ opened: false, failure: failureOf(error) })
    port.close()
    return undefined
  }
}

/**
 * Answers requests in groups: writes that arrive during a transaction share the next one and its sync. Reads go first,
 * since they need no sync.
 */
function serve(log: SqliteLog): void {
  let pending: LogRequest[] = []
  port.on('message', (request: LogRequest) => {
    pending.push(request)
    if (pending.length === 1) setImmediate(flush)
  })

  function flush(): void {
    const requests = pending
    pending = []
    const ofKind = (kind: string) => requests.filter(({ method }) => calls[method].endsWith(kind))
    for (const request of ofKind('read')) answer([request], () => [invoke(log, request)])
    const writes = ofKind('write')
    const sync = writes.some(({ method }) => calls[method] === 'durable write')
    const writeAll = () => log.transaction(sync, () => writes.map((request) => invoke(log, request)))
    if (writes.length > 0) answer(writes, writeAll)
    const [close] = ofKind('close')
    if (!close) return
    answer([close], () => [invoke(log, close)])
    port.close()
  }
}

/** Answers the requests with the outputs of `work`, or all of them with its failure. */
function answer(requests: LogRequest[], work: () => unknown[]): void {
  try {
    const outputs = work()
    for (const [i, { id }] of requests.entries()) post({ id, output: outputs[i] })
  } catch (error) {
    for (const { id } of requests) post({ id, failure: failureOf(error) })
  }
}

function invoke(log: SqliteLog, { method, input }: LogRequest): unknown {
  // A request pairs a method with its own input, which the compiler does not follow through the union.
  return (log[method] as (input: unknown) => unknown).call(log, input)
}

function failureOf(error: unknown): LogFailure {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof NewerSchemaError) return { reason: 'newer', message }
  const busy = error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy
  return { reason: busy ? 'in-use' : 'failed', message }
}

function post(message: LogMessage): void {
  port.postMessage(message)
}

const log = open(String(workerData))
if (log) serve(log)
