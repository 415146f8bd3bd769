import { Command } from 'commander'
import { jsonLine } from '../../edge/contract/lines.ts'
import type { Stream } from '../../infra/stream/stream.ts'
import {
  describeDeadLetter,
  peekDeadLetters,
  resendDeadLetter,
  resendDeadLetters,
} from '../delivery/dead-letters.ts'
import { closing } from './closing.ts'
import { UsageError } from './errors.ts'
import { formatBytes, formatTable, plural } from './format.ts'
import { count } from './options.ts'
import type { Terminal } from './progress.ts'

/** Dependencies of the commands. */
export interface DeadLetterEnvironment extends Terminal {
  /** Opens the configured stream, with its topics. The command closes it. */
  openStream(): Promise<Stream>
  /** Unix ms; default: the clock. */
  now?(): number
}

export type DeadLetterListFlags = { limit: number; json?: boolean }
export type RetryFlags = { id?: string }

/** Dead letters searched for an id. */
const searched = 1000

const listExamples = `
Examples:
  npx turbine dead-letter list
  npx turbine dead-letter list --json | jq -r 'select(.tenant == "acme").id'

A dead letter is a record that could not be parsed or whose handler failed three times: a caption request (its id is the
caption's), a shard of a batch (batch/number), or a planner event. The caption is "failed", or the lines of the shard are
in the batch's error file. Dead letters are kept for 30 days.`

const retryExamples = `
Examples:
  npx turbine dead-letter retry
  npx turbine dead-letter retry --id batch_123/7

Without --id all dead letters are resent and removed from the list; with --id that one is resent and stays listed. A
caption that succeeds replaces the failed one; a shard's results replace its error lines while the batch is in progress.`

/** `turbine dead-letter list | retry` */
export function deadLetterCommand(environment: DeadLetterEnvironment): Command {
  const command = new Command('dead-letter').description('list and retry records that failed permanently')
  command
    .command('list')
    .description('list the dead letters')
    .option('--limit <n>', 'maximum number of dead letters', count, 100)
    .option('--json', 'print JSON lines')
    .addHelpText('after', listExamples)
    .action((flags: DeadLetterListFlags) => showDeadLetters(flags, environment))
  command
    .command('retry')
    .description('send dead letters back to their topics')
    .option('--id <id>', 'only the dead letters with this id')
    .addHelpText('after', retryExamples)
    .action((flags: RetryFlags) => runRetry(flags, environment))
  return command
}

/** `dead-letter list`. @throws StreamOpenError, StreamUnavailableError */
export async function showDeadLetters(
  { limit, json }: DeadLetterListFlags,
  environment: DeadLetterEnvironment,
): Promise<void> {
  const { stdout, stderr } = environment
  const letters = await closing(environment.openStream(), (stream) => peekDeadLetters(stream, limit))
  const described = letters.map(describeDeadLetter)
  if (json) for (const letter of described) stdout.write(`${jsonLine(letter)}\n`)
  else if (described.length > 0) {
    const header = ['ID', 'TENANT', 'ORIGIN', 'WHEN', 'SIZE', 'CAUSE']
    const rows = described.map(({ id, tenant, origin, at, bytes, cause }) => [
      id,
      tenant,
      `${origin.topic}/${origin.partition}@${origin.offset}`,
      new Date(at).toISOString().slice(0, 19),
      formatBytes(bytes),
      cause.replace(/\s+/g, ' '),
    ])
    stdout.write(formatTable([header, ...rows], { right: [4] }))
  }
  if (described.length === 0) stderr.write('There are no dead letters.\n')
  else if (described.length >= limit) stderr.write('There may be more; raise --limit to list them.\n')
}

/** `dead-letter retry`. @throws UsageError for an unknown id; StreamOpenError, StreamUnavailableError */
export async function runRetry({ id }: RetryFlags, environment: DeadLetterEnvironment): Promise<void> {
  const sent = await closing(environment.openStream(), (stream) =>
    id === undefined ? retryAll(stream, environment) : retryOne(stream, id),
  )
  environment.stderr.write(`${plural(sent, 'record')} resent.\n`)
}

async function retryAll(
  stream: Stream,
  { stdout, stderr, now = Date.now }: DeadLetterEnvironment,
): Promise<number> {
  let sent = 0
  await resendDeadLetters({
    stream,
    now,
    onResent({ key }) {
      sent++
      stdout.write(`${key}\n`)
    },
    onOrphan: ({ key }) => stderr.write(`"${key}" has no origin; dropped.\n`),
  })
  return sent
}

/** Resends every dead letter with this id. */
async function retryOne(stream: Stream, id: string): Promise<number> {
  const letters = (await peekDeadLetters(stream, searched)).filter(({ key }) => key === id)
  if (letters.length === 0)
    throw new UsageError(`There is no dead letter "${id}". List them with "npx turbine dead-letter list".`)
  for (const letter of letters)
    if (!(await resendDeadLetter(stream, letter)))
      throw new UsageError(`The dead letter "${id}" has no origin and cannot be resent.`)
  return letters.length
}
