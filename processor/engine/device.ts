import { Worker } from 'node:worker_threads'
import { backoffMs } from '../../infra/retry.ts'
import { sleep } from '../../infra/timing.ts'
import { bucketFor, type DeviceRun, type Joining } from './batch.ts'
import { DeviceClosedError, DeviceCrashedError, DeviceOpenError, DeviceRunError } from './device-errors.ts'
import type { DeviceTarget } from './device-target.ts'
import type { FromWorker, ToWorker, WorkerData } from './device-worker.ts'
import type { RunnerBatch, RunnerResult } from './runners/runner.ts'

export interface DeviceResult extends RunnerResult {
  /** Time of the run in the device's thread. */
  inferenceMs: number
}

export interface DeviceOptions {
  target: DeviceTarget
  buckets: number[]
  worker: WorkerData
  /** Called after every crash; the device restarts on its own. */
  onCrash?(error: DeviceCrashedError): void
  /** Starts the thread. */
  spawn?(data: WorkerData, name: string): Worker
  /** Waits before a restart. */
  pause?(ms: number, signal: AbortSignal): Promise<unknown>
}

const spawnWorker = (data: WorkerData, name: string): Worker =>
  new Worker(new URL('./device-worker.ts', import.meta.url), { workerData: data, name })

interface Pending {
  onMade: DeviceRun['onMade']
  joining: Joining | undefined
  resolve(message: FromWorker): void
  reject(error: Error): void
}

/** Device: a thread with a session that runs one batch at a time and is restarted after a crash. */
export class Device {
  readonly name: string
  readonly #options: DeviceOptions
  readonly #closing = new AbortController()
  #worker: Promise<Worker>
  #pending: Pending | undefined
  #last: Promise<unknown> = Promise.resolve()
  #crashes = 0
  #closed: Promise<void> | undefined

  private constructor(options: DeviceOptions) {
    this.name = options.target.name
    this.#options = options
    this.#worker = this.#start()
  }

  /** Opens the session. @throws DeviceOpenError when it cannot be opened. */
  static async start(options: DeviceOptions): Promise<Device> {
    const device = new Device(options)
    await device.#worker
    return device
  }

  /**
   * Captions one batch; concurrent calls are queued.
   * @throws DeviceCrashedError, DeviceRunError, DeviceClosedError, all retriable; RangeError for a malformed batch
   */
  run(run: DeviceRun): Promise<DeviceResult> {
    if (this.#closing.signal.aborted) return Promise.reject(new DeviceClosedError(this.name))
    const result = this.#last.then(() => this.#run(run))
    this.#last = result.catch(() => undefined)
    return result
  }

  /** Finishes the batches in flight, then ends the thread. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#closing.abort()
    await this.#last
    const worker = await this.#worker.catch(() => undefined)
    if (worker === undefined) return
    const ended = new Promise((resolve) => worker.once('exit', resolve))
    worker.postMessage({ kind: 'close' } satisfies ToWorker)
    await ended
  }

  async #run({ onMade, joining, ...run }: DeviceRun): Promise<DeviceResult> {
    const bucket = bucketFor(run.rows.length, this.#options.buckets)
    const reply = await this.#exchange({ ...run, bucket }, { onMade, joining })
    this.#crashes = 0
    if (reply.kind !== 'done') {
      throw new DeviceRunError(
        this.name,
        reply.kind === 'failed' ? reply.reason : 'unexpected message from its thread',
      )
    }
    const { kind: _, ...result } = reply
    return result
  }

  async #exchange(batch: RunnerBatch, told: Pick<Pending, 'onMade' | 'joining'>): Promise<FromWorker> {
    const worker = await this.#worker.catch((cause: unknown) => {
      throw new DeviceCrashedError(this.name, cause)
    })
    return new Promise((resolve, reject) => {
      this.#pending = { ...told, resolve, reject }
      const waiting = told.joining?.waiting
      worker.postMessage({ kind: 'run', batch, waiting } satisfies ToWorker)
    })
  }

  /** Resolves when the session is open; from then on an exit is a crash. */
  #start(): Promise<Worker> {
    const { spawn = spawnWorker, worker: data } = this.#options
    const worker = spawn(data, `device ${this.name}`)
    return new Promise((resolve, reject) => {
      let ready = false
      let cause: unknown
      worker.on('error', (error) => {
        cause = error
      })
      worker.on('message', (message: FromWorker) => {
        if (message.kind === 'ready') {
          ready = true
          resolve(worker)
        } else this.#received(message, worker)
      })
      worker.on('exit', (code) => {
        cause ??= new Error(`its thread exited with code ${code}`)
        if (ready) this.#crashed(cause)
        else reject(new DeviceOpenError(this.name, cause))
      })
    })
  }

  #received(message: FromWorker, worker: Worker): void {
    const { onMade, joining } = this.#pending ?? {}
    if (message.kind === 'made') onMade?.(message.made)
    else if (message.kind === 'time') joining?.onTime?.(message.time)
    else if (message.kind === 'rows-failed') {
      const { rows, reason } = message.failed
      joining?.onFailed?.(rows, new DeviceRunError(this.name, reason))
    } else if (message.kind === 'join') {
      const group = joining?.next(message.running)
      worker.postMessage({ kind: 'joining', group } satisfies ToWorker)
    } else {
      this.#pending?.resolve(message)
      this.#pending = undefined
    }
  }

  #crashed(cause: unknown): void {
    if (this.#closing.signal.aborted && this.#pending === undefined) return
    const error = new DeviceCrashedError(this.name, cause)
    this.#restart()
    this.#pending?.reject(error)
    this.#pending = undefined
    this.#options.onCrash?.(error)
  }

  #restart(): void {
    const { pause = sleep } = this.#options
    const { signal } = this.#closing
    this.#worker = pause(backoffMs(++this.#crashes), signal).then(() => {
      signal.throwIfAborted()
      return this.#start()
    })
    this.#worker.catch(() => {
      if (!signal.aborted) this.#restart()
    })
  }
}
