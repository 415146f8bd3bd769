import { Argument, Command, InvalidArgumentError } from 'commander'
import { modelIdSchema } from '../../edge/contract/caption.ts'
import { jobLayout, topicLayout } from '../../edge/contract/topics.ts'
import type { TopicLayout, TopicReport } from '../../infra/stream/topics.ts'
import { IncompleteError } from './errors.ts'
import { formatTable, plural } from './format.ts'
import { count } from './options.ts'
import type { Terminal } from './progress.ts'

/** Dependencies of the command. */
export interface TopicsEnvironment extends Pick<Terminal, 'stdout'> {
  /** Configured partitions of a topic. */
  defaultPartitions(): number
  /** Creates missing topics in the configured Kafka. */
  createTopics(layout: TopicLayout): Promise<unknown>
  checkTopics(layout: TopicLayout): Promise<TopicReport[]>
}

const examples = `
Examples:
  KAFKA_BROKERS=kafka:9092 npx turbine topics check
  KAFKA_BROKERS=kafka:9092 npx turbine topics create --partitions 48
  KAFKA_BROKERS=kafka:9092 npx turbine topics create --model owner/name --model another

"check" compares the topics with the expected partitions, retention and record size, and checks that each consumer group has
committed offsets: without them a group skips earlier records. "create" creates missing topics and keeps existing ones.
A fleet with one model needs no --model. Of several, each has topics of its own but one at most, and processors find theirs by
the model's id, as GET /v1/models has it. Each lane has at most as many processors as partitions. "npx turbine --help" lists the variables for the brokers.

Exit codes: 0 all topics ok, 1 a topic is not ok, 2 wrong usage.`

/** `turbine topics [create | check]` */
export function topicsCommand(environment: TopicsEnvironment): Command {
  return new Command('topics')
    .description("create or check the service's Kafka topics")
    .addArgument(new Argument('[action]', 'action').choices(['create', 'check']).default('check'))
    .option('--partitions <n>', 'partitions of each topic (TURBINE_PARTITIONS, default: 12)', count)
    .option('--model <id>', "a model's own topics, too; repeat it for several", modelIds)
    .addHelpText('after', examples)
    .action((action: 'create' | 'check', flags: TopicsFlags) => runTopics(action, flags, environment))
}

interface TopicsFlags {
  partitions?: number
  model?: string[]
}

/** @throws InvalidArgumentError */
function modelIds(id: string, before: string[] = []): string[] {
  if (modelIdSchema.safeParse(id).success) return [...before, id]
  throw new InvalidArgumentError(`"${id}" is not the id of a model.`)
}

/** @throws IncompleteError when a topic is not ok; errors of the environment */
async function runTopics(
  action: 'create' | 'check',
  { partitions: given, model: models = [] }: TopicsFlags,
  environment: TopicsEnvironment,
): Promise<void> {
  const partitions = given ?? environment.defaultPartitions()
  const own = models.map((model) => jobLayout(partitions, model))
  const layout = Object.assign(topicLayout(partitions), ...own)
  if (action === 'create') await environment.createTopics(layout)
  const reports = await environment.checkTopics(layout)
  environment.stdout.write(
    formatTable([['topic', 'partitions', 'state'], ...reports.flatMap(rows)], { right: [1] }),
  )
  const wrong = reports.filter(({ ok }) => !ok)
  if (wrong.length > 0)
    throw new IncompleteError(`${wrong.length} of ${plural(reports.length, 'topic')} not ok.`)
}

/** A row for the topic, and one for each further finding. */
function rows({ topic, ok, partitions, findings }: TopicReport): string[][] {
  const [first = ok ? 'ok' : 'wrong', ...further] = findings
  return [
    [topic, partitions === undefined ? '-' : String(partitions), first],
    ...further.map((text) => ['', '', text]),
  ]
}
