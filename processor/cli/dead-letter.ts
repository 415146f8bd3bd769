import { Command } from 'commander'
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

export interface ListFlags {
  limit: number
  json?: boolean
}

export interface RetryFlags {
  id?: string
}

/** Letters that are searched for an id. */
const searched = 1000

const listExamples = `
Examples:
  npx turbine dead-letter list
  npx turbine dead-letter list --json | jq -r 'select(.tenant == "acme").id'

A dead letter is a record that could not be read, or whose handling failed three times: a request for a caption (its
id is the caption's), a shard of a batch (batch/number), or news for the planners. Whoever waited for it was told:
the caption is "failed", the lines of the shard are in the batch's error file. Letters are kept for 30 days.`

const retryExamples = `
Examples:
  npx turbine dead-letter retry
  npx turbine dead-letter retry --id batch_123/7

Without --id all letters are sent again and leave the list; with it that one is, and stays listed. A caption that
succeeds takes the place of the failed one; a shard's results take the place of its error lines while its batch is
in progress.`

/** `turbine dead-letter list | retry` */
export function deadLetterCommand(environment: DeadLetterEnvironment): Command {
  const command = new Command('dead-letter').description(
    'look at records that failed for good, and retry them',
  )
  command
    .command('list')
    .description('list the letters that nobody has dealt with')
    .option('--limit <n>', 'letters shown at most', count, 100)
    .option('--json', 'one JSON object a line')
    .addHelpText('after', listExamples)
    .action((flags: ListFlags) => runList(flags, environment))
  command
    .command('retry')
    .description('send the records back to where they came from')
    .option('--id <id>', 'only the letters of this id, as listed')
    .addHelpText('after', retryExamples)
    .action((flags: RetryFlags) => runRetry(flags, environment))
  return command
}

/** Prints a table, or a line of JSON for each letter. @throws StreamOpenError, StreamUnavailableError */
export async function runList({ limit, json }: ListFlags, environment: DeadLetterEnvironment): Promise<void> {
  const { stdout, stderr } = environment
  const letters = await closing(environment.openStream(), (stream) => peekDeadLetters(stream, limit))
  const described = letters.map(describeDeadLetter)
  if (json) for (const letter of described) stdout.write(`${JSON.stringify(letter)}\n`)
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
  else if (described.length >= limit) stderr.write('There may be more: --limit shows them.\n')
}

/** @throws UsageError when there is no letter of the id; StreamOpenError, StreamUnavailableError */
export async function runRetry({ id }: RetryFlags, environment: DeadLetterEnvironment): Promise<void> {
  const sent = await closing(environment.openStream(), (stream) =>
    id === undefined ? retryAll(stream, environment) : retryOne(stream, id),
  )
  environment.stderr.write(`${plural(sent, 'record')} sent again.\n`)
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
    onOrphan: ({ key }) => stderr.write(`"${key}" does not say where it came from; it was dropped.\n`),
  })
  return sent
}

/** Several letters can have one id: each is sent. */
async function retryOne(stream: Stream, id: string): Promise<number> {
  const letters = (await peekDeadLetters(stream, searched)).filter(({ key }) => key === id)
  if (letters.length === 0)
    throw new UsageError(
      `There is no dead letter "${id}". "npx turbine dead-letter list" shows which there are.`,
    )
  for (const letter of letters) {
    if (!(await resendDeadLetter(stream, letter)))
      throw new UsageError(
        `The dead letter "${id}" does not say where it came from, so it cannot be sent there.`,
      )
  }
  return letters.length
}
