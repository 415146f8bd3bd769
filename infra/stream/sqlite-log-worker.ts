import { parentPort, workerData } from 'node:worker_threads'
import { NewerSchemaError, SqliteLog } from './sqlite-log.ts'

/** The calls of the log that other threads may make. */
export type LogMethod =
  | 'ensureTopics'
  | 'topics'
  | 'append'
  | 'join'
  | 'read'
  | 'commit'
  | 'counts'
  | 'prune'
  | 'close'
export type LogInput<M extends LogMethod> = Parameters<SqliteLog[M]>[0]
export type LogOutput<M extends LogMethod> = ReturnType<SqliteLog[M]>

export type LogRequest = { [M in LogMethod]: { id: number; method: M; input: LogInput<M> } }[LogMethod]

/** Why the log could not do what it was asked. */
export interface LogFailure {
  reason: 'in-use' | 'newer' | 'failed'
  message: string
}

/** The first message tells whether the file could be opened, the others answer requests by their id. */
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
 * Answers requests in groups: what arrived while the last group was written is written in one transaction, so
 * that many sends share one sync. Reads go first, since they need not wait for it.
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
    for (const request of requests) if (reads.has(request.method)) answerAlone(log, request)
    answerTogether(
      log,
      requests.filter(({ method }) => writes.has(method)),
    )
    const close = requests.find(({ method }) => method === 'close')
    if (!close) return
    answerAlone(log, close)
    port.close()
  }
}

const reads: ReadonlySet<LogMethod> = new Set<LogMethod>(['topics', 'read', 'counts'])
const writes: ReadonlySet<LogMethod> = new Set<LogMethod>([
  'ensureTopics',
  'append',
  'join',
  'commit',
  'prune',
])
/** Commits and deletions may be forgotten in a power loss: their records are delivered or deleted again. */
const durable: ReadonlySet<LogMethod> = new Set<LogMethod>(['ensureTopics', 'append', 'join'])

function answerAlone(log: SqliteLog, request: LogRequest): void {
  try {
    post({ id: request.id, output: invoke(log, request) })
  } catch (error) {
    post({ id: request.id, failure: failureOf(error) })
  }
}

function answerTogether(log: SqliteLog, requests: LogRequest[]): void {
  if (requests.length === 0) return
  const sync = requests.some(({ method }) => durable.has(method))
  try {
    const outputs = log.transaction(sync, () => requests.map((request) => invoke(log, request)))
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
