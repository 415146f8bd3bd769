/** What was learnt of a host from one request. */
export type Lesson =
  /** It answered: with what was asked for, or that it never will. */
  | { kind: 'answer' }
  /** It asks for less: 429, 503. `afterMs`: what its `Retry-After` says. */
  | { kind: 'less'; afterMs?: number }
  /** It failed, but asks for nothing: 500, 502, 504. */
  | { kind: 'fault' }
  /** It did not answer, or cannot be reached. */
  | { kind: 'silence' }
  /** The request ended for reasons of our own. */
  | { kind: 'nothing' }

export interface PaceOptions {
  /** Requests at a time at most. */
  concurrency: number
  /** Requests per second at most. */
  rate: number
  /** From 0 to 1. */
  random(): number
}

/** Requests at a time to a host of which nothing is known, and by how much each answer adds to them. */
const first = { window: 4, growth: 0.5 }
const narrowedShare = 0.5
/** Share of what a host was seen to give that it is asked for next. */
const slowedShare = 0.9
/** The rate falls to no less than this share of what it was. */
const leastSlowedShare = 0.5
/** Time after which the rate is back at what the host was seen to give, s; at slow hosts as long as so many images. */
const recovery = { seconds: 8, images: 20 }
/** The first estimate is rough: until the host asks for less again, the rate doubles in this time, s. */
const searchSeconds = 2
/** Requests in a row without an answer after which a host is left alone. */
const silentRequests = 8
/** Pause of a host that fails: from 0 to this, doubled for each failure in a row up to the longest, ms. */
const faultPause = { firstMs: 500, longestMs: 60_000 }
/** The same for a host that does not answer. */
const silencePause = { firstMs: 5_000, longestMs: 60_000 }
/** Longest pause that a host can ask for, ms. */
const longestAskedMs = 3_600_000
/** A host asks many at a time to come back at the same moment: they come back over this share of it, ms at most. */
const spread = { share: 0.2, mostMs: 1_000 }
/** Answers from which the rate that a host gave at last is taken: those of the last seconds. */
const recent = { ms: 2_000, least: 5, most: 200 }
/** Time without a request after which what was delivered says nothing of the rate, ms. */
const idleMs = 1_000

/** What a host was seen to give, per second, and since when it is asked for more again, unix ms. */
interface Ceiling {
  rate: number
  since: number
  /** Of a first estimate. */
  isRough: boolean
}

/**
 * How fast one host may be asked, learnt from its answers. Time is passed in, unix ms.
 *
 * Two quantities follow additive increase, multiplicative decrease. The window bounds requests at a time: it grows with each
 * answer (by one at first, later by one a round trip) and is halved when the host asks for less or falls silent. The rate
 * is without bound until the host asks for less; then it is nine tenths of what the host was seen to give since the last
 * time, the pause that it asked for included, and grows by a twentieth each second. Answers to requests sent before the
 * last slow-down say nothing new.
 */
export class HostPace {
  readonly #options: PaceOptions
  #window: number
  #starting = true
  #rate: number
  #ceiling: Ceiling | undefined
  #nextAt = Number.NEGATIVE_INFINITY
  #slowedAt = Number.NEGATIVE_INFINITY
  #usedAt = Number.NEGATIVE_INFINITY
  #cycle = { since: 0, delivered: 0 }
  /** Times of the last answers, unix ms. */
  readonly #recent: number[] = []
  #faults = 0
  #silent = 0
  #pauses = 0
  #inFlight = 0

  constructor(options: PaceOptions) {
    this.#options = options
    this.#window = Math.min(first.window, options.concurrency)
    this.#rate = options.rate
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** Requests per second. */
  get rate(): number {
    return this.#rate
  }

  /** Last use, unix ms. */
  get usedAt(): number {
    return this.#usedAt
  }

  /** Left alone because it did not answer some times in a row; one request tries whether it is back. */
  get isSilent(): boolean {
    return this.#silent >= silentRequests
  }

  /** Earliest time of the next request; undefined while as many as may be are under way. */
  get nextAt(): number | undefined {
    return this.#inFlight < Math.max(1, Math.floor(this.#window)) ? this.#nextAt : undefined
  }

  /** A request is sent. */
  start(now: number): void {
    if (this.#inFlight === 0 && now - this.#usedAt > idleMs) this.#cycle = { since: now, delivered: 0 }
    this.#inFlight++
    this.#usedAt = now
    const intervalMs = 1000 / this.#rate
    // A late timer is made up for, by one request at most.
    this.#nextAt = Math.max(this.#nextAt, now - intervalMs) + intervalMs
  }

  /**
   * A request has ended.
   * @param pressed others wait for this host: only then does what it delivers show what it can
   */
  end(lesson: Lesson, { startedAt, now, pressed }: { startedAt: number; now: number; pressed: boolean }) {
    this.#usedAt = now
    const isNews = startedAt >= this.#slowedAt
    const isFull = this.nextAt === undefined
    this.#inFlight--
    if (lesson.kind === 'answer') this.#answered(now, { isNews, pressed, isFull })
    if (lesson.kind === 'less' && isNews) this.#slow(now, this.#askedPause(lesson.afterMs), true)
    if (lesson.kind === 'fault' && isNews) this.#fail(now)
    if (lesson.kind === 'silence') this.#silence(now, isNews)
  }

  #answered(now: number, how: { isNews: boolean; pressed: boolean; isFull: boolean }): void {
    const { isNews, pressed, isFull } = how
    this.#cycle.delivered++
    this.#recent.push(now)
    while (this.#recent.length > recent.most || this.#isOld(this.#recent[0]!, now)) this.#recent.shift()
    this.#silent = this.#pauses = 0
    if (!isNews) return
    this.#faults = 0
    if (!pressed) return
    // Only the one of the two that bounds shows what the host can do.
    if (isFull) {
      const grown = this.#window + (this.#starting ? first.growth : 1 / this.#window)
      this.#window = Math.min(grown, this.#options.concurrency)
    } else if (this.#ceiling) this.#rate = Math.min(this.#grownRate(this.#ceiling, now), this.#options.rate)
  }

  /**
   * Along a cubic, as TCP's windows grow (RFC 9438): back to what the host gave at first, slowly there, then ever faster,
   * since a host may have come to give much more.
   */
  #grownRate({ rate, since, isRough }: Ceiling, now: number): number {
    const seconds = Math.max(0, now - since) / 1000
    if (isRough) return slowedShare * rate * 2 ** (seconds / searchSeconds)
    const back = Math.max(recovery.seconds, recovery.images / rate)
    return Math.max(this.#rate, rate * (1 + (1 - slowedShare) * (seconds / back - 1) ** 3))
  }

  /** `Retry-After`, or a pause of our own. */
  #askedPause(afterMs: number | undefined): number {
    const { random } = this.#options
    this.#faults++
    if (afterMs === undefined) return this.#jittered(faultPause, this.#faults)
    const asked = Math.min(afterMs, longestAskedMs)
    return asked + random() * Math.min(spread.share * asked, spread.mostMs)
  }

  #fail(now: number): void {
    this.#faults++
    if (this.#faults < silentRequests) return
    this.#slow(now, this.#jittered(faultPause, this.#faults - silentRequests + 1), false)
  }

  #silence(now: number, isNews: boolean): void {
    if (now < this.#nextAt && this.isSilent) return
    this.#silent++
    if (this.isSilent) {
      this.#pauses++
      const { firstMs, longestMs } = silencePause
      const pauseMs = Math.min(firstMs * 2 ** (this.#pauses - 1), longestMs)
      this.#slow(now, pauseMs * (1 - spread.share * this.#options.random()), false)
      this.#window = 1
      this.#starting = true
    } else if (isNews) {
      this.#narrow()
      // What is sent in the same millisecond was sent before.
      this.#slowedAt = now + 1
    }
  }

  #slow(now: number, pauseMs: number, isLimit: boolean): void {
    // Once there is a rate, it is what slows down; the window only follows.
    this.#narrow(isLimit && this.#ceiling ? slowedShare : narrowedShare)
    this.#nextAt = Math.max(this.#nextAt, now + pauseMs)
    this.#slowedAt = this.#nextAt
    if (isLimit) this.#lower(now)
  }

  /** By what the host gave until it asked for less. */
  #lower(now: number): void {
    const { since, delivered } = this.#cycle
    const isRough = this.#ceiling === undefined
    const cycleMs = Math.max(this.#nextAt - since, 1)
    const mean = (1000 * delivered) / cycleMs
    // At first a host gives what it has saved up; later, the pause counts as far as it is a part of the whole.
    const pauseShare = isRough ? 1 : Math.min(1, (this.#nextAt - now) / cycleMs)
    const given = pauseShare * mean + (1 - pauseShare) * this.#lastRate(now)
    const least = isRough ? 1000 / Math.max(cycleMs, 1000) : leastSlowedShare * this.#rate
    const ceiling = Math.min(Math.max(given, least), this.#rate)
    this.#rate = Math.min(slowedShare * ceiling, this.#options.rate)
    this.#ceiling = { rate: ceiling, since: this.#nextAt, isRough }
    this.#cycle = { since: this.#nextAt, delivered: 0 }
  }

  #isOld = (at: number, now: number) => this.#recent.length > recent.least && now - at > recent.ms

  #lastRate(now: number): number {
    const [first = now] = this.#recent
    return (1000 * this.#recent.length) / Math.max(now - first, 1)
  }

  #narrow(share = narrowedShare): void {
    this.#window = Math.max(1, share * this.#window)
    this.#starting = false
  }

  #jittered({ firstMs, longestMs }: typeof faultPause, failures: number): number {
    return this.#options.random() * Math.min(firstMs * 2 ** failures, longestMs)
  }
}
