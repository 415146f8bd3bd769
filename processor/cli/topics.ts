import { Argument, Command } from 'commander'
import { topicLayout } from '../../edge/contract/topics.ts'
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

interface TopicsFlags {
  partitions?: number
}

const examples = `
Examples:
  KAFKA_BROKERS=kafka:9092 npx turbine topics check
  KAFKA_BROKERS=kafka:9092 npx turbine topics create --partitions 48

"check" compares the topics with what the service needs: partitions, retention, size of records, and a start offset for
each consumer group, without which a group skips what came before it. "create" makes what is missing, and keeps what is
there. No more processors than partitions share a lane. "npx turbine --help" lists the variables that name the broker.

Exit codes: 0 all is as it should be, 1 something is not, 2 wrong usage.`

/** `turbine topics [create | check]` */
export function topicsCommand(environment: TopicsEnvironment): Command {
  return new Command('topics')
    .description("create and check the job stream's topics in Kafka")
    .addArgument(new Argument('[action]', 'what to do').choices(['create', 'check']).default('check'))
    .option('--partitions <n>', 'partitions of each topic (TURBINE_PARTITIONS, default: 12)', count)
    .addHelpText('after', examples)
    .action((action: 'create' | 'check', flags: TopicsFlags) => runTopics(action, flags, environment))
}

/** @throws IncompleteError when a topic is not as it should be; what the environment throws */
async function runTopics(
  action: 'create' | 'check',
  { partitions }: TopicsFlags,
  environment: TopicsEnvironment,
): Promise<void> {
  const layout = topicLayout(partitions ?? environment.defaultPartitions())
  if (action === 'create') await environment.createTopics(layout)
  const reports = await environment.checkTopics(layout)
  environment.stdout.write(
    formatTable([['topic', 'partitions', 'state'], ...reports.flatMap(rows)], { right: [1] }),
  )
  const wrong = reports.filter(({ ok }) => !ok)
  if (wrong.length > 0)
    throw new IncompleteError(
      `${wrong.length} of ${plural(reports.length, 'topic')} not as the service needs it.`,
    )
}

/** A line for the topic, and one for each further finding. */
function rows({ topic, ok, partitions, findings }: TopicReport): string[][] {
  const [first = ok ? 'ok' : 'wrong', ...further] = findings
  return [
    [topic, partitions === undefined ? '-' : String(partitions), first],
    ...further.map((text) => ['', '', text]),
  ]
}
