import { fdatasync, fdatasyncSync, openSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { logFileOf, NewerSchemaError, SqliteLog } from './sqlite-log.ts'

/**
 * Calls of the log that other threads may make. Durable writes are on the disk when they are answered; other writes may be
 * lost with the power: their records are delivered, or deleted, again.
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
export type LogInput<M extends LogMethod> = Parameters<SqliteLog[M]>[0] &
  (M extends 'append' ? { /** Answered before it is on the disk. */ unsynced?: boolean } : unknown)
export type LogOutput<M extends LogMethod> = ReturnType<SqliteLog[M]>

export type LogRequest = { [M in LogMethod]: { id: number; method: M; input: LogInput<M> } }[LogMethod]

/** Failure of a call of the log. */
export interface LogFailure {
  reason: 'in-use' | 'newer' | 'failed'
  message: string
}

export type LogAnswer = { id: number; output: unknown } | { id: number; failure: LogFailure }

/** The first message reports on opening the file, later ones answer requests by id. */
export type LogMessage = { opened: true } | { opened: false; failure: LogFailure } | LogAnswer[]

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
 * Answers requests in groups: writes that arrive during a transaction share the next one, and durable ones that arrive
 * during a sync the next sync, which runs beside the transactions. Reads go first.
 */
function serve(log: SqliteLog, file: number): void {
  let pending: LogRequest[] = []
  /** Answers to durable writes: those that wait for the next sync, and those for the one that runs. */
  let unsynced: LogAnswer[] = []
  let inSync: LogAnswer[] = []
  port.on('message', (requests: LogRequest[]) => {
    if (pending.length === 0) setImmediate(flush)
    pending.push(...requests)
  })

  function flush(): void {
    const requests = pending
    pending = []
    const ofKind = (kind: string) => requests.filter(({ method }) => calls[method].endsWith(kind))
    postAll(ofKind('read').flatMap((request) => answersTo([request], () => [invoke(log, request)])))
    const writes = ofKind('write')
    const writeAll = () => log.transaction(() => writes.map((request) => invoke(log, request)))
    const written = writes.length > 0 ? answersTo(writes, writeAll) : []
    postAll(written.filter((_, i) => !isDurable(writes[i]!)))
    unsynced.push(...written.filter((_, i) => isDurable(writes[i]!)))
    const [close] = ofKind('close')
    if (close) end(close)
    else if (inSync.length === 0) sync()
  }

  function sync(): void {
    if (unsynced.length === 0) return
    inSync = unsynced
    unsynced = []
    fdatasync(file, (error) => {
      postAll(error ? inSync.map(({ id }) => ({ id, failure: failureOf(error) })) : inSync)
      inSync = []
      sync()
    })
  }

  function end(close: LogRequest): void {
    const answers = [...inSync, ...unsynced]
    inSync = []
    unsynced = []
    const synced = answersTo([close], () => [fdatasyncSync(file)])
    const closed = answersTo([close], () => [invoke(log, close)])
    const [failure] = synced.filter((answer) => 'failure' in answer)
    postAll(failure ? answers.map(({ id }) => ({ ...failure, id })) : answers)
    postAll(closed)
    port.close()
  }
}

const isDurable = ({ method, input }: LogRequest) =>
  calls[method] === 'durable write' && !(method === 'append' && input.unsynced)

/** Answers with the outputs of `work`, or all with its failure. */
function answersTo(requests: LogRequest[], work: () => unknown[]): LogAnswer[] {
  try {
    const outputs = work()
    return requests.map(({ id }, i) => ({ id, output: outputs[i] }))
  } catch (error) {
    return requests.map(({ id }) => ({ id, failure: failureOf(error) }))
  }
}

function postAll(answers: LogAnswer[]): void {
  if (answers.length > 0) post(answers)
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

const path = String(workerData)
const log = open(path)
if (log) serve(log, openSync(logFileOf(path), 'r+'))
