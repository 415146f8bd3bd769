import { ImageError } from '../errors.ts'
import { HostFault, imageFaults } from './faults.ts'
import { HostPace, type Lesson } from './host-pace.ts'

export interface HostPacesOptions {
  /** Requests at a time to one host, for one owner; default 64. */
  concurrency?: number
  /** Requests per second to one host, for one owner; default: as many as it gives. */
  rate?: number
  /** Time for which a host that does not answer is asked before its images are given up, ms; default 15 minutes. */
  silentMs?: number
  /** The same for one that answers, but with nothing except faults; default: for as long as the caller waits. */
  refusingMs?: number
  /** Unix ms. */
  now?(): number
  /** From 0 to 1. */
  random?(): number
}

/** A request to a host. */
export interface Visit {
  /** On whose behalf: others neither suffer from what this one meets there nor see it. */
  owner: string
  /** `example.com:8443`, or a bucket. */
  host: string
  /** The lowest of an owner goes first; default 0. */
  priority?: number
  /** Ends the wait. */
  signal: AbortSignal
  /** Longest wait, ms; default: any. With it, a host that is left alone longer is refused at once. */
  waitMs?: number
  /** Since when the same request has failed, unix ms. */
  failedSince?: number
  /** Waits for what is not its own time; default: no time is taken. */
  outside?<T>(work: Promise<T>): Promise<T>
  /** Called when it waits for a host that is to be asked slowly, with what it failed with last, if it did. */
  onWait?(cause: ImageError | undefined): void
}

interface Waiting {
  go(): void
  /** The host has become one that is to be asked slowly. */
  tell(): void
  fail(error: unknown): void
}

interface Host {
  name: string
  pace: HostPace
  /** By priority, in order of arrival. */
  waiting: Map<number, Set<Waiting>>
  timer?: { handle: ReturnType<typeof setTimeout>; at: number }
  answeredAt: number
  /** What it failed with last. */
  fault?: ImageError
  /** Since when it has only failed, unix ms. */
  failingSince?: number
}

const defaults = { concurrency: 64, rate: Number.POSITIVE_INFINITY, silentMs: 15 * 60_000 }

/** Hosts remembered at most, beside those that are in use. */
const maxHosts = 10_000
/** Time after which a host that is not used is forgotten, ms: its limits may be others then. */
const rememberedMs = 10 * 60_000
/**
 * Asks each host as fast as it gives, and leaves it alone when it says so or does not answer (`HostPace`). Requests wait
 * here, by host, and hold nothing meanwhile that a request to another host needs.
 *
 * @example
 * const hosts = new HostPaces({ concurrency: 64 })
 * await hosts.visit({ owner: 'acme', host: 'example.com', signal }, () => fetch('https://example.com/a.jpg'))
 */
export class HostPaces {
  readonly #options: Required<HostPacesOptions>
  /** The one used longest ago is first. */
  readonly #hosts = new Map<string, Host>()

  constructor(options: HostPacesOptions = {}) {
    this.#options = {
      ...defaults,
      refusingMs: Number.POSITIVE_INFINITY,
      now: Date.now,
      random: Math.random,
      ...options,
    }
  }

  /** Requests that wait for their turn at a host. */
  get waiting(): number {
    let sum = 0
    for (const { waiting } of this.#hosts.values()) for (const some of waiting.values()) sum += some.size
    return sum
  }

  /**
   * Runs `ask` when the host may be asked, and learns from how it ends.
   * @throws ImageError of the host, not `retriable` once it is given up; TurbineError `too_many_fetches`; the signal's
   * reason; what `ask` throws
   */
  async visit<T>(visit: Visit, ask: () => Promise<T>): Promise<T> {
    const { now } = this.#options
    visit.signal.throwIfAborted()
    const host = this.#hostOf(visit)
    const turn = this.#turn(host, visit)
    await (visit.outside ? visit.outside(turn) : turn)
    const startedAt = now()
    let lesson: Lesson = { kind: 'nothing' }
    try {
      const result = await ask()
      lesson = { kind: 'answer' }
      return result
    } catch (error) {
      lesson = lessonOf(error)
      throw error instanceof HostFault ? this.#judged(host, visit, error) : error
    } finally {
      if (lesson.kind === 'answer') {
        host.answeredAt = now()
        host.failingSince = undefined
      }
      host.pace.end(lesson, { startedAt, now: now(), pressed: host.waiting.size > 0 })
      this.#serve(host)
    }
  }

  #hostOf({ owner, host: name }: Visit): Host {
    const key = `${owner} ${name}`
    const known = this.#hosts.get(key)
    const host = known && !this.#isForgotten(known) ? known : this.#newHost(name)
    this.#hosts.delete(key)
    this.#hosts.set(key, host)
    if (this.#hosts.size > maxHosts) this.#forget()
    return host
  }

  #newHost(name: string): Host {
    const pace = new HostPace(this.#options)
    return { name, pace, waiting: new Map(), answeredAt: Number.NEGATIVE_INFINITY }
  }

  #isIdle = ({ pace, waiting }: Host) => pace.inFlight === 0 && waiting.size === 0

  #isForgotten(host: Host): boolean {
    const until = Math.max(host.pace.usedAt, host.pace.nextAt ?? 0) + rememberedMs
    return this.#isIdle(host) && this.#options.now() > until
  }

  #forget(): void {
    for (const [key, host] of this.#hosts) {
      if (!this.#isIdle(host)) continue
      this.#hosts.delete(key)
      return
    }
  }

  /** Waits until the host may be asked; its request is under way then. */
  async #turn(host: Host, visit: Visit): Promise<void> {
    const now = this.#options.now()
    const { pace, waiting } = host
    const at = pace.nextAt
    const left = (at ?? now) - now
    if (left > 0 && this.#isGivenUp(host)) throw givenUp(host.fault!, host.failingSince!, now)
    if (waiting.size === 0 && at !== undefined && left <= 0) return pace.start(now)
    if (visit.waitMs !== undefined && host.fault && left > (pace.isSilent ? 0 : visit.waitMs))
      throw imageFaults.leftAlone(host.name, left, host.fault)
    if (isSlow(host)) visit.onWait?.(host.fault)
    await this.#queued(host, visit)
  }

  #queued(host: Host, { priority = 0, signal, waitMs, onWait }: Visit): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const queue = host.waiting.get(priority) ?? new Set()
    host.waiting.set(priority, queue)
    let late: ReturnType<typeof setTimeout> | undefined
    const leave = () => {
      signal.removeEventListener('abort', give)
      clearTimeout(late)
      queue.delete(entry)
      if (queue.size === 0 && host.waiting.get(priority) === queue) host.waiting.delete(priority)
      if (host.waiting.size > 0) return
      clearTimeout(host.timer?.handle)
      host.timer = undefined
    }
    const entry: Waiting = {
      go: () => {
        leave()
        host.pace.start(this.#options.now())
        resolve()
      },
      tell: () => onWait?.(host.fault),
      fail: (error) => {
        leave()
        reject(error)
      },
    }
    const give = () => {
      // It may have failed with something else since.
      if (isSlow(host)) entry.tell()
      entry.fail(signal.reason)
    }
    queue.add(entry)
    signal.addEventListener('abort', give, { once: true })
    if (waitMs !== undefined) late = setTimeout(() => entry.fail(this.#tooLate(host)), waitMs)
    this.#serve(host)
    return promise
  }

  #tooLate({ name, fault, pace }: Host): Error {
    const leftMs = Math.max(0, (pace.nextAt ?? 0) - this.#options.now())
    const isSlowed = fault && (pace.rate < this.#options.rate || leftMs > 0)
    return isSlowed ? imageFaults.leftAlone(name, leftMs, fault) : imageFaults.noPlace()
  }

  #serve(host: Host): void {
    const { pace, waiting } = host
    while (waiting.size > 0) {
      const at = pace.nextAt
      const now = this.#options.now()
      if (at === undefined) return
      if (at > now) {
        if (this.#isGivenUp(host)) this.#giveUp(host)
        else this.#serveAt(host, at)
        return
      }
      const [next] = waiting.get(Math.min(...waiting.keys()))!
      next!.go()
    }
  }

  #serveAt(host: Host, at: number): void {
    if (host.timer && host.timer.at === at) return
    clearTimeout(host.timer?.handle)
    const serve = () => {
      host.timer = undefined
      this.#serve(host)
    }
    host.timer = { handle: setTimeout(serve, Math.max(0, Math.ceil(at - this.#options.now()))), at }
  }

  /** All that wait, but not the next one that comes when the host may be asked again. */
  #giveUp(host: Host): void {
    const error = givenUp(host.fault!, host.failingSince!, this.#options.now())
    for (const queue of host.waiting.values()) for (const each of [...queue]) each.fail(error)
  }

  #isGivenUp({ fault, failingSince, pace }: Host): boolean {
    if (!fault || failingSince === undefined) return false
    const { silentMs, refusingMs, now } = this.#options
    return now() - failingSince > (pace.isSilent ? silentMs : refusingMs)
  }

  /** The fault of a host as it is for this request. */
  #judged(host: Host, { failedSince }: Visit, fault: HostFault): ImageError {
    const { now, silentMs, refusingMs } = this.#options
    const wasSlow = isSlow(host)
    host.fault = fault
    host.failingSince ??= now()
    if (!wasSlow) for (const queue of host.waiting.values()) for (const each of queue) each.tell()
    const patienceMs = fault.lesson.kind === 'silence' ? silentMs : refusingMs
    if (now() - host.failingSince > patienceMs) return givenUp(fault, host.failingSince, now())
    // Unless the host delivers others, a refusal of this address is the host's.
    const lasts = failedSince !== undefined && now() - failedSince > silentMs
    const isItsOwn = fault.lesson.kind === 'silence' || host.answeredAt > (failedSince ?? 0)
    return lasts && isItsOwn ? givenUp(fault, failedSince, now()) : fault
  }
}

/** It only fails now, or there is a rate that it is asked at. */
const isSlow = ({ failingSince, pace }: Host) =>
  failingSince !== undefined || pace.rate < Number.POSITIVE_INFINITY

/** An error of the image, or a refusal, is an answer too. */
function lessonOf(error: unknown): Lesson {
  if (error instanceof HostFault) return error.lesson
  return { kind: error instanceof ImageError ? 'answer' : 'nothing' }
}

/** The same fault, as one that no repeat will help. */
const givenUp = (fault: ImageError, since: number, now: number) =>
  imageFaults.givenUp(fault, Math.max(0, now - since))
