import { Command } from 'commander'
import { count, keyValue, share } from '../options.ts'
import type { ResultFlags } from './results.ts'
import { type BatchEnvironment, defaultServiceUrl, type ServiceFlags } from './session.ts'
import type { CancelFlags, GetFlags, ListFlags } from './show.ts'
import type { SubmitFlags } from './submit.ts'

const service = `
Environment variables:
  TURBINE_URL       address of the service (default: ${defaultServiceUrl}); --url wins over it
  TURBINE_API_KEY   key of the service, where it wants one`

const submitExamples = `
Examples:
  npx turbine batch submit manifest.jsonl --watch --out captions.jsonl
  npx turbine batch submit s3://bucket/photos/ --output-uri s3://bucket/captions/ --window 3d
  cat addresses.txt | npx turbine batch submit - --max-prune 0.5 --metadata campaign=spring
  id=$(npx turbine batch submit requests.jsonl)

The input is an OpenAI batch file, or a short one: {"image_url": "https://...", "custom_id": "any id of yours"} or one
bare address a line. "-" is standard input. s3:// names a file of lines, or with a slash at its end every image below
it; the service reads it by itself, where the key's tenant was granted it.

Standard output has the batch's id and nothing else, or the batch with --json.
${service}`

const watchExamples = `
Examples:
  npx turbine batch watch batch_123
  npx turbine batch watch batch_123 --out captions.jsonl

Results come in the order of the input; lines that failed go to captions.errors.jsonl beside it. Ctrl-C ends the
watching, not the batch. A service that goes away is waited for.

Exit codes: 0 completed, 1 failed, expired or cancelled, 2 wrong usage, 130 stopped by Ctrl-C.
${service}`

const resultsExamples = `
Examples:
  npx turbine batch results batch_123 --out captions.jsonl

Lines that failed go to captions.errors.jsonl beside it. What an expired or cancelled batch has done is there too.
${service}`

const getExamples = `
Examples:
  npx turbine batch get batch_123
  npx turbine batch get batch_123 --json | jq .request_counts
${service}`

const listExamples = `
Examples:
  npx turbine batch list
  npx turbine batch list --limit 500 --json | jq -r '.[] | select(.status == "in_progress").id'
${service}`

const cancelExamples = `
Examples:
  npx turbine batch cancel batch_123
  npx turbine batch cancel batch_123 --watch

Work in hand is finished, the rest is not begun; results that are there are kept.
${service}`

/** `turbine batch submit | watch | results | get | list | cancel`: large batches from a terminal. */
export function batchCommand(environment: BatchEnvironment): Command {
  const command = new Command('batch').description('hand large batches to a service, and get their results')
  const add = (name: string, description: string, examples: string) =>
    command
      .command(name)
      .description(description)
      .option('--url <address>', `address of the service (TURBINE_URL, default: ${defaultServiceUrl})`)
      .addHelpText('after', examples)

  add('submit', 'submit a file of lines, or what lies in a bucket', submitExamples)
    .argument('<input>', 'a file, - for standard input, or s3://bucket/file or s3://bucket/prefix/')
    .option('--endpoint <path>', 'what the lines ask for (default: what they say, else /v1/captions)')
    .option('--window <duration>', 'time in which it is to be done, e.g. 30m, 24h, 3d', '24h')
    .option('--model <id>', 'model that captions (default: the one that is served)')
    .option('--max-prune <share>', 'highest share of image tokens that may merge, 0 to 1 (default: 1)', share)
    .option('--output-uri <address>', 's3://bucket/prefix/ that results are written below')
    .option('--metadata <key=value>', 'something of yours to know it by; may be repeated', keyValue)
    .option('--watch', 'watch it to its end')
    .option('-o, --out <file>', 'with --watch: download the results into this file')
    .option('--overwrite', 'replace --out when it is there')
    .option('--json', 'print the batch as JSON')
    .action(async (input: string, flags: SubmitFlags) => {
      const { runSubmit } = await import('./submit.ts')
      await runSubmit(input, flags, environment)
    })

  add('watch', 'show the progress of a batch until it ends', watchExamples)
    .argument('<id>', "the batch's id")
    .option('-o, --out <file>', 'download the results into this file')
    .option('--overwrite', 'replace --out when it is there')
    .action(async (id: string, flags: ResultFlags & ServiceFlags) => {
      const { runWatch } = await import('./watch.ts')
      await runWatch(id, flags, environment)
    })

  add('results', 'download the results of a batch that has ended', resultsExamples)
    .argument('<id>', "the batch's id")
    .requiredOption('-o, --out <file>', 'file for the results')
    .option('--overwrite', 'replace --out when it is there')
    .action(async (id: string, flags: ResultFlags & ServiceFlags) => {
      const { runResults } = await import('./results.ts')
      await runResults(id, flags, environment)
    })

  add('get', 'print a batch', getExamples)
    .argument('<id>', "the batch's id")
    .option('--json', 'print it as JSON')
    .action(async (id: string, flags: GetFlags) => {
      const { runGet } = await import('./show.ts')
      await runGet(id, flags, environment)
    })

  add('list', 'list the newest batches', listExamples)
    .option('--limit <n>', 'batches at most', count, 20)
    .option('--json', 'print them as JSON')
    .action(async (flags: ListFlags) => {
      const { runList } = await import('./show.ts')
      await runList(flags, environment)
    })

  add('cancel', 'cancel a batch, and keep what it has done', cancelExamples)
    .argument('<id>', "the batch's id")
    .option('--watch', 'watch it to its end')
    .action(async (id: string, flags: CancelFlags) => {
      const { runCancel } = await import('./show.ts')
      await runCancel(id, flags, environment)
    })
  return command
}
