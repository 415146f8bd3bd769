import { type BatchError, batchError } from './status.ts'

/**
 * Part of a batch's life, by what could kill its planner: reading the input, and writing the files. In between it only
 * sends what it has read.
 */
export type Phase = 'planning' | 'running' | 'ending'

/** Planners that died at a batch, without progress in between. */
export interface Attempt {
  phase: Phase
  /** Planners that died in it. */
  deaths: number
  /** Those whose process had nothing else in hand. */
  alone: number
  /** The planner has nothing else in hand now. */
  isAlone?: boolean
  /** Claim of the last one that died, unix ms. */
  last?: number
}

export const firstAttempt: Attempt = { phase: 'planning', deaths: 0, alone: 0 }

/** A new planner reads what is there, whatever it is. */
export const attemptAfterRelease = (attempt: Attempt): Attempt =>
  attempt.phase === 'running' ? firstAttempt : attempt

/** The attempt after the death of the planner that claimed the batch at `since`, unix ms. */
export const nextAttempt = ({ phase, deaths, alone, isAlone }: Attempt, since: number): Attempt =>
  phase === 'running'
    ? firstAttempt
    : { phase, deaths: deaths + 1, alone: alone + (isAlone ? 1 : 0), last: since }

/** Deaths from which on a batch is claimed alone, so that the next death tells whether it is at fault. */
const suspectFrom = 2
const maxDeaths = 3
/** Deaths of which none tells; planners are killed for other reasons too. */
const maxUnsureDeaths = 10

export const isSuspect = ({ deaths }: Attempt) => deaths >= suspectFrom

const isGivenUp = ({ deaths, alone }: Attempt) =>
  (deaths >= maxDeaths && alone > 0) || deaths >= maxUnsureDeaths

/** Time of reading on behind the place that was saved last, ms: what was saved is older than the death. */
const passedMs = 10_000

/** Follows a planner's attempt at a batch: deaths are forgotten when it comes further than those that died. */
export class AttemptWatch {
  /** Phase that is not tried again, since too many planners died in it. */
  readonly givenUp: Phase | undefined
  readonly #linesBefore: number
  #attempt: Attempt
  #passedAt: number | undefined

  /**
   * @param attempt as claimed
   * @param linesBefore that the last planner had read
   */
  constructor(attempt: Attempt, linesBefore: number) {
    this.#attempt = attempt
    this.#linesBefore = linesBefore
    this.givenUp = isGivenUp(attempt) ? attempt.phase : undefined
  }

  get attempt(): Attempt {
    return this.#attempt
  }

  /** Other work begins beside it. */
  setCompany(): void {
    this.#attempt = { ...this.#attempt, isAlone: false }
  }

  /** Looks at what is done by now, unix ms. */
  observe(phase: Phase, lines: number, now: number): void {
    if (phase !== this.#attempt.phase) this.#attempt = { ...firstAttempt, phase }
    else if (this.#attempt.deaths > 0 && this.#isPast(lines, now)) this.#attempt = firstAttempt
  }

  /** True when others died before they had read so far. */
  #isPast(lines: number, now: number): boolean {
    if (this.#attempt.phase !== 'planning' || lines <= this.#linesBefore) return false
    this.#passedAt ??= now
    return now - this.#passedAt >= passedMs
  }
}

const works: Record<Phase, string> = {
  planning: 'reading its input. Look for a line that is unusually large or malformed',
  running: 'running it',
  ending: 'writing its result files',
}

/** Error of a batch that is given up. */
export const givenUpError = (phase: Phase): BatchError =>
  batchError({
    code: 'batch_crashed',
    message: `The service crashed ${maxDeaths} times while ${works[phase]}. The batch was given up; create a new one to try again.`,
    param: null,
  })
