import { Command } from 'commander'
import { count, keyValue, share } from '../options.ts'
import type { ResultFlags } from './results.ts'
import { type BatchEnvironment, defaultServiceUrl, type ServiceFlags } from './session.ts'
import type { BatchListFlags, CancelFlags, GetFlags } from './show.ts'
import type { SubmitFlags } from './submit.ts'

const service = `
Environment variables:
  TURBINE_URL       URL of the service (default: ${defaultServiceUrl}); --url overrides it
  TURBINE_API_KEY   API key of the service, if it needs one`

const submitExamples = `
Examples:
  npx turbine batch submit manifest.jsonl --watch --out captions.jsonl
  npx turbine batch submit s3://bucket/photos/ --output-uri s3://bucket/captions/ --window 3d
  cat urls.txt | npx turbine batch submit - --max-prune 0.5 --metadata campaign=spring
  id=$(npx turbine batch submit requests.jsonl)

The input is an OpenAI batch file, or one line per image: {"image_url": "https://...", "custom_id": "your id"} or a bare
URL; or the same as an array of JSON or a table (.csv). "-" is standard input. An s3:// URI is such a file, or a prefix with
every image under it; the service reads it itself, if the tenant of the API key was granted access.

Prints the batch id, or the batch with --json.
${service}`

const watchExamples = `
Examples:
  npx turbine batch watch batch_123
  npx turbine batch watch batch_123 --out captions.jsonl

Results are in input order; failed lines go to captions.errors.jsonl next to them. Ctrl-C stops watching, not the batch.
While the service is down, watch keeps retrying.

Exit codes: 0 completed, 1 failed, expired or cancelled, 2 wrong usage, 130 stopped by Ctrl-C.
${service}`

const resultsExamples = `
Examples:
  npx turbine batch results batch_123 --out captions.jsonl

Failed lines go to captions.errors.jsonl next to it; "--out -" is standard output. Expired and cancelled batches have partial results.
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

Lines in flight are finished; results so far are kept.
${service}`

/** `turbine batch submit | watch | results | get | list | cancel` */
export function batchCommand(environment: BatchEnvironment): Command {
  const command = new Command('batch').description('submit batches to a service and download their results')
  const add = (name: string, description: string, examples: string) =>
    command
      .command(name)
      .description(description)
      .option('--url <url>', `URL of the service (TURBINE_URL, default: ${defaultServiceUrl})`)
      .addHelpText('after', examples)
  const ofBatch = (name: string, description: string, examples: string) =>
    add(name, description, examples).argument('<id>', 'batch id')

  add('submit', 'submit a batch from a file, standard input or S3', submitExamples)
    .argument('<input>', 'file, - for standard input, s3://bucket/file or s3://bucket/prefix/')
    .option('--endpoint <path>', 'endpoint of the lines (default: as the lines say, else /v1/captions)')
    .option('--window <duration>', 'completion window, e.g. 30m, 24h, 3d', '24h')
    .option('--model <id>', 'model id (default: the model of the service)')
    .option('--max-prune <share>', 'highest share of image tokens to merge, 0 to 1 (default: 1)', share)
    .option('--output-uri <uri>', 's3://bucket/prefix/ for the result files')
    .option('--metadata <key=value>', 'metadata of the batch; repeatable', keyValue)
    .option('--watch', 'watch the batch until it ends')
    .option('-o, --out <file>', 'with --watch: download the results to this file')
    .option('--overwrite', 'replace results of an earlier download')
    .option('--json', 'print the batch as JSON')
    .action(async (input: string, flags: SubmitFlags) =>
      (await import('./submit.ts')).runSubmit(input, flags, environment),
    )

  ofBatch('watch', 'show the progress of a batch until it ends', watchExamples)
    .option('-o, --out <file>', 'download the results to this file')
    .option('--overwrite', 'replace results of an earlier download')
    .action(async (id: string, flags: ResultFlags & ServiceFlags) =>
      (await import('./watch.ts')).runWatch(id, flags, environment),
    )

  ofBatch('results', 'download the results of a finished batch', resultsExamples)
    .requiredOption('-o, --out <file>', 'file for the results')
    .option('--overwrite', 'replace results of an earlier download')
    .action(async (id: string, flags: ResultFlags & ServiceFlags) =>
      (await import('./results.ts')).runResults(id, flags, environment),
    )

  ofBatch('get', 'show a batch', getExamples)
    .option('--json', 'print the batch as JSON')
    .action(async (id: string, flags: GetFlags) => (await import('./show.ts')).runGet(id, flags, environment))

  add('list', 'list the newest batches', listExamples)
    .option('--limit <n>', 'maximum number of batches', count, 20)
    .option('--json', 'print the batches as JSON')
    .action(async (flags: BatchListFlags) => (await import('./show.ts')).runBatchList(flags, environment))

  ofBatch('cancel', 'cancel a batch and keep its results so far', cancelExamples)
    .option('--watch', 'watch the batch until it ends')
    .action(async (id: string, flags: CancelFlags) =>
      (await import('./show.ts')).runCancel(id, flags, environment),
    )
  return command
}
