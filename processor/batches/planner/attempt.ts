import { type BatchError, batchError } from './status.ts'

/** Part of a batch's life, by what could kill its planner: reading the input, running, or writing the files. */
export type Phase = 'planning' | 'running' | 'ending'

const phases: readonly Phase[] = ['planning', 'running', 'ending']

/** Deaths of planners at a batch, without progress in between. */
export interface Attempt {
  /** The furthest phase so far. */
  phase: Phase
  /** Planners that died in it. */
  deaths: number
  /** Claim of the last one of them, unix ms. */
  last?: number
}

export const firstAttempt: Attempt = { phase: 'planning', deaths: 0 }

/** The attempt after the death of the planner that claimed the batch at `since`, unix ms. */
export const nextAttempt = ({ phase, deaths }: Attempt, since: number): Attempt => ({
  phase,
  deaths: deaths + 1,
  last: since,
})

/** The furthest of two phases. */
export const furthest = (a: Phase, b: Phase): Phase => (phases.indexOf(a) > phases.indexOf(b) ? a : b)

/** Deaths from which on a batch is claimed alone, so that the next death tells whether it is at fault. */
const suspectFrom = 2
const maxDeaths = 3

export const isSuspect = ({ deaths }: Attempt) => deaths >= suspectFrom

/** Time of reading on behind the place that was saved last, ms: what was saved is older than the death. */
const passedMs = 10_000
/** Time of running after which a planner is not killed by the batch, ms; a suspect runs it alone. */
const survivedMs = 60_000
const survivedAloneMs = 5_000

/** Follows a planner's attempt at a batch: deaths are forgotten when it comes further than those that died. */
export class AttemptWatch {
  /** Phase that is not tried again, since too many planners died in it. */
  readonly givenUp: Phase | undefined
  readonly #survivedMs: number
  readonly #before: { steps: number; at: number }
  #attempt: Attempt
  #passedAt: number | undefined

  /**
   * @param attempt as claimed
   * @param before steps of the last planner: lines read, or shards done; and the time of the claim, unix ms
   */
  constructor(attempt: Attempt, before: { steps: number; at: number }) {
    this.#attempt = attempt
    this.#before = before
    this.#survivedMs = isSuspect(attempt) ? survivedAloneMs : survivedMs
    this.givenUp = attempt.deaths >= maxDeaths ? attempt.phase : undefined
  }

  get attempt(): Attempt {
    return this.#attempt
  }

  /** Looks at what is done by now, unix ms. */
  observe(phase: Phase, steps: number, now: number): void {
    const reached = this.#attempt.phase
    if (furthest(phase, reached) !== reached) this.#attempt = { phase, deaths: 0 }
    else if (this.#attempt.deaths > 0 && this.#isPast(steps, now))
      this.#attempt = { phase: reached, deaths: 0 }
  }

  /** True when others died before they came so far. */
  #isPast(steps: number, now: number): boolean {
    const isFurther = steps > this.#before.steps
    if (this.#attempt.phase === 'running') return isFurther || now - this.#before.at >= this.#survivedMs
    if (this.#attempt.phase === 'ending' || !isFurther) return false
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
