import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type {
  LogAnswer,
  LogFailure,
  LogInput,
  LogMessage,
  LogMethod,
  LogOutput,
  LogRequest,
} from './sqlite-log-worker.ts'
import { StreamOpenError, StreamUnavailableError } from './stream.ts'

/**
 * SQLite log in its own thread: the same calls, with promises. Calls of one turn of the event loop go over together: waking a
 * thread takes longer than most calls.
 */
export class SqliteLogClient {
  readonly #worker: Worker
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #unsent: LogRequest[] = []
  #transfers: ArrayBuffer[] = []
  #lastId = 0
  #ended: StreamUnavailableError | undefined

  private constructor(worker: Worker) {
    this.#worker = worker
    worker.on('message', (message: LogMessage) => {
      if (Array.isArray(message)) for (const answer of message) this.#settle(answer)
    })
    worker.on('error', (error) => this.#end(new StreamUnavailableError(stopped, { cause: error })))
    worker.on('exit', () => this.#end(new StreamUnavailableError(stopped)))
  }

  /** @throws StreamOpenError when the file is in use, damaged, or cannot be written. */
  static async open(path: string): Promise<SqliteLogClient> {
    const worker = new Worker(new URL('./sqlite-log-worker.ts', import.meta.url), { workerData: path })
    const [message] = (await once(worker, 'message')) as [LogMessage]
    if (!Array.isArray(message) && !message.opened) throw openError(path, message.failure)
    return new SqliteLogClient(worker)
  }

  /**
   * @param transfer buffers in the input that move to the log's thread and are gone here
   * @throws StreamUnavailableError when the call failed or the log has ended
   */
  call<M extends LogMethod>(
    method: M,
    input: LogInput<M>,
    transfer: ArrayBuffer[] = [],
  ): Promise<LogOutput<M>> {
    if (this.#ended) return Promise.reject(this.#ended)
    const id = ++this.#lastId
    const waiting = Promise.withResolvers<unknown>()
    this.#waiting.set(id, waiting)
    if (this.#unsent.length === 0) setImmediate(() => this.#send())
    // A method goes with its own input, which the compiler does not follow through the union.
    this.#unsent.push({ id, method, input } as LogRequest)
    this.#transfers.push(...transfer)
    return waiting.promise as Promise<LogOutput<M>>
  }

  /** Waits for pending calls, then closes the file. */
  async close(): Promise<void> {
    if (this.#ended) return
    const exit = once(this.#worker, 'exit')
    await this.call('close', undefined)
    await exit
  }

  #send(): void {
    const requests = this.#unsent
    const transfers = this.#transfers
    this.#unsent = []
    this.#transfers = []
    this.#worker.postMessage(requests, transfers)
  }

  #settle(answer: LogAnswer): void {
    const waiting = this.#waiting.get(answer.id)
    this.#waiting.delete(answer.id)
    if ('output' in answer) waiting?.resolve(answer.output)
    else waiting?.reject(new StreamUnavailableError(`${failed}: ${answer.failure.message}`))
  }

  #end(error: StreamUnavailableError): void {
    this.#ended ??= error
    for (const { reject } of this.#waiting.values()) reject(this.#ended)
    this.#waiting.clear()
  }
}

const failed = "The job stream's file could not be written or read"
const stopped = "The job stream's thread stopped. Restart the service; accepted records are kept."

function openError(path: string, { reason, message }: LogFailure): StreamOpenError {
  const problems = {
    'in-use': 'is in use by another process. Stop it, or give this one its own TURBINE_DATA_DIR.',
    newer: 'was written by a newer version of Turbine. Use that version, or another TURBINE_DATA_DIR.',
    failed: `cannot be opened as a job stream (${message}). Check the disk and the file's permissions, or use another TURBINE_DATA_DIR.`,
  }
  return new StreamOpenError(`${path} ${problems[reason]}`)
}
