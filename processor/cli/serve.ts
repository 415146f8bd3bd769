import { relative } from 'node:path'
import { Command } from 'commander'
import type { ConfigRow, SettingName } from '../../infra/config.ts'
import type { Role, RunningService } from '../service/roles.ts'
import { quoteForShell } from './format.ts'
import { type SignalSource, watchInterruption } from './interruption.ts'
import type { Terminal } from './progress.ts'
import { repeatedOption, settingOptions } from './settings.ts'

/** Dependencies of the commands. */
export interface ServeEnvironment extends Terminal {
  /** Resolves when the service is ready; flags override environment variables. */
  startService(role: Role, flags: ServeFlags): Promise<RunningService>
  signals: SignalSource
}

/** Settings from the command line, as text; true for a switch. */
export type ServeFlags = Partial<Record<SettingName, string | boolean>>

const ending = `
Ctrl-C or SIGTERM finishes accepted work, or leaves it for the next start, and exits with code 0.`

const fleet = `
The parts of a fleet communicate through Kafka and S3: set KAFKA_BROKERS, S3_ENDPOINT, S3_BUCKET and
TURBINE_REPLY_SECRET for all of them. Run any number of each, and start and stop them at any time. /health/ready and
/metrics are served at --host and --port.
`

const ofModels = [
  'model',
  'dtype',
  'device',
  'precision',
  'intraOpThreads',
  'decoders',
  'decodeTimeoutMs',
  'maxBatch',
  'picturePixels',
  'pictureMemoryMb',
  'lanes',
] as const satisfies SettingName[]
const ofPlanners = ['repay', 'captionRetention', 'sweepInterval'] as const satisfies SettingName[]
const ofEdges = [
  'minBodyRate',
  'maxConnections',
  'proxies',
  'maxDownloads',
  'maxTenantDownloads',
  'downloadStallMs',
  'publicUrl',
  'modelAliases',
  'ignoreParameters',
] as const satisfies SettingName[]
const ofImages = [
  'queueLimit',
  'memoryMb',
  'sloMs',
  'imageTimeoutMs',
  'allowPrivateUrls',
] as const satisfies SettingName[]

/** Settings without an effect on a role: it has no options for them. All roles can share one environment. */
const unused: Record<Role, readonly SettingName[]> = {
  serve: [],
  edge: [...ofModels, ...ofPlanners, 'pruning', 'dataDir'],
  processor: [...ofEdges, ...ofPlanners],
  planner: [...ofModels, ...ofEdges, ...ofImages, 'dataDir'],
}

const roles: Record<Role, { description: string; help: string }> = {
  serve: {
    description: 'run the whole captioning service in one process',
    help: `
Examples:
  npx turbine serve
  npx turbine serve --port 0 --model models/blip-base --device cuda:0
  npx turbine serve --model models/blip-base --model models/smolvlm
  curl --data-binary @photo.jpg -H 'content-type: image/jpeg' localhost:8787/v1/captions
`,
  },
  edge: {
    description: 'run an HTTP edge of a fleet on Node.js',
    help: `${fleet}
Processors send replies to --public-url: a URL of this edge that they can reach.

Example:
  KAFKA_BROKERS=kafka:9092 S3_ENDPOINT=http://s3:7070 npx turbine edge --host 0.0.0.0 --public-url http://edge-1:8787
`,
  },
  processor: {
    description: 'run a processor of a fleet: captions images of both lanes',
    help: `${fleet}
Example:
  KAFKA_BROKERS=kafka:9092 S3_ENDPOINT=http://s3:7070 npx turbine processor --device cuda:0 --port 9100

A fleet with several models has topics for each: npx turbine topics create --model ID
`,
  },
  planner: {
    description: 'run a planner of a fleet: splits batches into shards and merges the results',
    help: `${fleet}
Example:
  KAFKA_BROKERS=kafka:9092 S3_ENDPOINT=http://s3:7070 npx turbine planner --port 9200
`,
  },
}

/** `turbine serve`, and one command for each part of a fleet. */
export function serveCommands(environment: ServeEnvironment, settings: ConfigRow[]): Command[] {
  return (Object.keys(roles) as Role[]).map((role) => {
    const { description, help } = roles[role]
    const command = new Command(role)
      .description(description)
      .addHelpText('after', `${help}${ending}`)
      .action((flags: ServeFlags) => runServe(role, flags, environment))
    for (const option of settingOptions(settings, [...unused[role], 'model'])) command.addOption(option)
    if (!unused[role].includes('model')) command.addOption(repeatedOption(settings, 'model'))
    return command
  })
}

/** Runs a service until SIGINT or SIGTERM, then closes it; a second signal kills the process. */
export async function runServe(role: Role, flags: ServeFlags, environment: ServeEnvironment): Promise<void> {
  const service = await environment.startService(role, flags)
  const { signal, dispose } = watchInterruption(environment.signals, () =>
    environment.stderr.write(
      'Shutting down: finishing accepted work. Press Ctrl-C again to quit immediately.\n',
    ),
  )
  // Only now: whoever reads that it is ready may end it at once.
  environment.stdout.write(greeting(role, service))
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
  try {
    await service.close()
  } finally {
    dispose()
  }
}

/** URL, caption of the warm-up image, and a command to try. */
function greeting(role: Role, { url, warmUp }: RunningService): string {
  const lines = [role === 'serve' ? `Turbine is ready at ${url}` : `The ${role} is ready at ${url}`]
  if (warmUp)
    lines.push(`The bundled picture shows "${warmUp.caption}".${role === 'serve' ? ' Try it:' : ''}`)
  if (warmUp && role === 'serve') {
    const image = quoteForShell(relative('', warmUp.image))
    lines.push(`  curl --data-binary @${image} -H 'content-type: image/jpeg' ${url}/v1/captions`)
  }
  return `${lines.join('\n')}\n`
}
