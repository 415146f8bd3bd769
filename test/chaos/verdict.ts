import type { Journal } from './honest.ts'
import type { HonestLatency } from './latency.ts'
import { honestLatency, type Outage } from './latency.ts'
import { checkLines } from './lines.ts'

/** Everything that is not as promised; each is a list of messages. */
export interface Verdict {
  /** Accepted and never answered, or asked for and never accepted, however patiently; lines in no file. */
  lost: string[]
  /** A key that ran twice, a line that came twice. */
  doubled: string[]
  outOfOrder: string[]
  /** Another caption, code, count or state than there should be, and refusals of what was right. */
  wrong: string[]
  /** Processes that ended by themselves, or not when told to. */
  crashed: string[]
  leaked: string[]
  /** Honest callers waited too long beside attacks. */
  slow: string[]
}

export interface Observed {
  journal: Journal
  stormFromMs: number
  outages: readonly Outage[]
  /** How often each thing came of each attack. */
  attacks: Record<string, Record<string, number>>
  crashed: string[]
  leaked: string[]
  /** Whether the run was ended early: what had no result yet is not judged then. */
  interrupted?: boolean
  /** How many times the calm p99 that of the storm may be; undefined: it is not judged. */
  maxRatio: number | undefined
}

/** Answers that are a fault of the service at any time, whoever asks. */
const neverStatuses = new Set([500, 502, 504])

/** Judges a run. */
export function judge(observed: Observed): { verdict: Verdict; latency: HonestLatency; lines: number } {
  const { crashed, leaked, maxRatio } = observed
  const journal = observed.interrupted ? finishedOf(observed.journal) : observed.journal
  const verdict: Verdict = { lost: [], doubled: [], outOfOrder: [], wrong: [], crashed, leaked, slow: [] }
  if (!observed.interrupted && (journal.asks.length === 0 || journal.batches.length === 0))
    verdict.lost.push('nothing was asked for')
  for (const ask of journal.asks) {
    const name = `${ask.form} of ${ask.tenant} at ${(ask.fromMs / 1000).toFixed(1)} s`
    if (ask.refused !== undefined) verdict.wrong.push(`${name}: ${ask.refused}`)
    else if (ask.caption === undefined)
      verdict.lost.push(`${name}: ${ask.accepted ? 'accepted and ' : ''}never answered`)
    else if (ask.caption !== ask.expected)
      verdict.wrong.push(`${name}: "${ask.caption}" instead of "${ask.expected}"`)
    if (ask.doubled) verdict.doubled.push(`${name}: its key got ${ask.doubled}`)
  }
  let lines = 0
  for (const run of journal.batches) {
    lines += run.expected.length
    const name = `${run.batch?.id ?? 'a batch'} of ${run.tenant}`
    if (run.refused !== undefined) verdict.wrong.push(`${name}: ${run.refused}`)
    else if (run.batch === undefined || run.output === undefined || run.errors === undefined)
      verdict.lost.push(`${name}: ${run.batch?.status ?? 'never created'}`)
    else {
      if (run.batch.status !== 'completed') verdict.wrong.push(`${name} is ${run.batch.status}`)
      const counts = run.batch.request_counts
      const faults = checkLines(run.expected, { output: run.output, errors: run.errors, counts })
      for (const kind of ['lost', 'doubled', 'outOfOrder', 'wrong'] as const)
        verdict[kind].push(...faults[kind].map((fault) => `${name}: ${fault}`))
    }
  }
  for (const { status, route, code } of journal.attempts)
    if (neverStatuses.has(status)) verdict.wrong.push(`${route}: ${status} ${code}`)
  for (const [attack, outcomes] of Object.entries(observed.attacks))
    for (const [outcome, times] of Object.entries(outcomes))
      if (neverStatuses.has(Number(outcome.split(' ')[0])) || outcome.startsWith('failed'))
        verdict.wrong.push(`attack ${attack}: ${outcome}, ${times} times`)
  const latency = honestLatency(journal.asks, observed)
  if (maxRatio !== undefined && !(latency.ratio <= maxRatio))
    verdict.slow.push(
      `p99 of honest callers is ${latency.stormMs.toFixed(0)} ms, ${latency.ratio.toFixed(2)} times the ${latency.calmMs.toFixed(0)} ms of the calm; ${maxRatio} times is allowed`,
    )
  return { verdict, latency, lines }
}

/** What had its result. */
const finishedOf = ({ asks, batches, attempts }: Journal): Journal => ({
  asks: asks.filter(({ caption, refused }) => caption !== undefined || refused !== undefined),
  batches: batches.filter(({ errors, refused }) => errors !== undefined || refused !== undefined),
  attempts,
})

export const isClean = (verdict: Verdict) => Object.values(verdict).every(({ length }) => length === 0)

const shownPerKind = 20

/** The faults as lines of text, the first of each kind. */
export function describeVerdict(verdict: Verdict): string {
  const kinds = Object.entries<string[]>({ ...verdict }).filter(([, messages]) => messages.length > 0)
  if (kinds.length === 0) return 'Nothing lost, doubled, out of order, wrong, crashed, leaked or slow.'
  return kinds
    .map(([kind, messages]) => {
      const more = messages.length - shownPerKind
      const shown = messages.slice(0, shownPerKind).map((message) => `  ${message}`)
      return [`${kind} ${messages.length}`, ...shown, ...(more > 0 ? [`  and ${more} more`] : [])].join('\n')
    })
    .join('\n')
}
