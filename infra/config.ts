import { z } from 'zod'
import { BaseError } from './errors.ts'
import { bundledModel } from './starter-model/folder.ts'

/** A setting has a value that is not allowed. The message names the setting, what came and what is allowed. */
export class ConfigError extends BaseError {}

interface Setting<T> {
  description: string
  /** As the user writes it. */
  default: string
  /** What is allowed, in words. */
  allowed: string
  /** From text to the typed value. */
  schema: z.ZodType<T, string>
  /** The flag's placeholder in help; a switch has none. */
  placeholder?: string
  /** The environment variable, where it is not `TURBINE_` and the setting's name. */
  variable?: string
  /** Not to be given on a command line, where other users of the machine can read it. */
  secret?: true
}

const oneOf = <const T extends string>(values: readonly T[]) => ({
  allowed: values.join(' | '),
  schema: z.enum(values),
})

const integer = (min: number, max: number) => ({
  allowed: `an integer from ${min} to ${max}`,
  schema: z.string().regex(/^\d+$/).transform(Number).pipe(z.int().min(min).max(max)),
})

const text = (allowed: string) => ({ allowed, schema: z.string().min(1) })

/** A text that may be missing. */
const optional = (allowed: string) => ({
  allowed,
  default: '',
  schema: z.string().transform((value) => value || undefined),
})

const onOff = {
  allowed: 'on | off',
  schema: z.stringbool({ truthy: ['on', 'true', '1', 'yes'], falsy: ['off', 'false', '0', 'no'] }),
}

const define = <T>(setting: Setting<T>): Setting<T> => setting

/** Every setting of the service, once: parsing, `--help` and infra/docs/settings.md come from here. */
const settings = {
  host: define({
    description: 'Address to listen on; 0.0.0.0 for all.',
    default: '127.0.0.1',
    placeholder: 'ADDRESS',
    ...text('an address or a host name'),
  }),
  port: define({
    description: 'Port to listen on; 0 takes a free one.',
    default: '8787',
    placeholder: 'PORT',
    ...integer(0, 65_535),
  }),
  dataDir: define({
    description: 'Folder of the job stream and the object store; one process at a time.',
    default: '.turbine',
    placeholder: 'DIR',
    ...text('a folder, created if it is missing'),
  }),
  model: define({
    description: 'Model folder in the Hugging Face layout.',
    default: bundledModel,
    placeholder: 'DIR',
    ...text('a folder'),
  }),
  device: define({
    description: 'Where the model runs. auto takes the best device there is and says which.',
    default: 'auto',
    placeholder: 'DEVICE',
    allowed: 'auto | cpu | webgpu | cuda:N | cuda:N,N,...',
    schema: z.string().regex(/^(auto|cpu|webgpu|cuda:\d+(,\d+)*)$/),
  }),
  precision: define({
    description: 'What the model computes in. auto is float16 on GPUs where captions stay the same.',
    default: 'auto',
    placeholder: 'TYPE',
    ...oneOf(['auto', 'float32', 'float16']),
  }),
  intraOpThreads: define({
    description: 'CPU threads that one inference uses; 0 is all cores.',
    default: '0',
    placeholder: 'N',
    ...integer(0, 1024),
  }),
  maxBatch: define({
    description: 'Images in one inference at most.',
    default: '16',
    placeholder: 'N',
    ...integer(1, 1024),
  }),
  queueLimit: define({
    description: 'Images that wait for a device at most; beyond it requests get 429.',
    default: '1000',
    placeholder: 'N',
    ...integer(1, 1_000_000),
  }),
  sloMs: define({
    description: 'Time in which an interactive request without a deadline is to be answered, ms.',
    default: '500',
    placeholder: 'MS',
    ...integer(1, 600_000),
  }),
  pruning: define({
    description:
      'How hard images are pruned: as the load asks, never, or always at one level. max_prune holds in any case.',
    default: 'adaptive',
    placeholder: 'HOW',
    allowed: 'adaptive | off | a prune level',
    schema: z.string().regex(/^(adaptive|off|\d{1,3})$/),
  }),
  lanes: define({
    description: 'Jobs that a processor takes: those of callers who wait, those of batches, or both.',
    default: 'both',
    placeholder: 'LANES',
    ...oneOf(['both', 'interactive', 'batch']),
  }),
  repay: define({
    description:
      'Whether lines of a batch that were pruned while it was late are captioned again at full quality before its window ends.',
    default: 'off',
    ...onOff,
  }),
  logLevel: define({
    description: 'The least level that is logged.',
    default: 'info',
    placeholder: 'LEVEL',
    ...oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
  }),
  logFormat: define({
    description: 'auto is text on a terminal and JSON lines elsewhere.',
    default: 'auto',
    placeholder: 'FORMAT',
    ...oneOf(['auto', 'text', 'json']),
  }),
  shutdownMs: define({
    description:
      'Time that work in hand gets to finish after SIGTERM, ms; the rest is done after the next start.',
    default: '25000',
    placeholder: 'MS',
    ...integer(0, 3_600_000),
  }),
  imageTimeoutMs: define({
    description: 'Time in which an image address has to deliver its image, ms.',
    default: '10000',
    placeholder: 'MS',
    ...integer(1, 600_000),
  }),
  allowPrivateUrls: define({
    description:
      'Whether image addresses may be http and lie in private networks. For tests and closed networks.',
    default: 'off',
    ...onOff,
  }),
  publicUrl: define({
    description: "The edge's own address, as the processors reach it to answer. Default: where it listens.",
    placeholder: 'URL',
    ...optional('an http or https address'),
  }),
  replySecret: define({
    description: 'What processors sign their answers to the edges with; the same in the whole fleet.',
    secret: true,
    ...optional('a text of at least 16 characters'),
    schema: z
      .string()
      .refine((value) => value === '' || value.length >= 16)
      .transform((value) => value || undefined),
  }),
  partitions: define({
    description: 'Partitions of the topics that are created; no more processors than that share a lane.',
    default: '12',
    placeholder: 'N',
    ...integer(1, 10_000),
  }),
  kafkaBrokers: define({
    description: 'Kafka brokers, separated by commas. Without them the stream lies in the data folder.',
    variable: 'KAFKA_BROKERS',
    placeholder: 'HOST:PORT,...',
    ...optional('host:port, separated by commas'),
  }),
  kafkaTls: define({
    description: 'Whether the connections to Kafka are encrypted.',
    variable: 'KAFKA_TLS',
    default: 'off',
    ...onOff,
  }),
  kafkaCa: define({
    description: "PEM file of the authority that signed the brokers' certificates. Default: the system's.",
    variable: 'KAFKA_CA',
    placeholder: 'FILE',
    ...optional('a file'),
  }),
  kafkaSasl: define({
    description: 'How the service names itself to Kafka.',
    variable: 'KAFKA_SASL',
    default: 'none',
    placeholder: 'MECHANISM',
    ...oneOf(['none', 'plain', 'scram-sha-256', 'scram-sha-512']),
  }),
  kafkaUsername: define({
    description: 'User name at Kafka.',
    variable: 'KAFKA_USERNAME',
    placeholder: 'NAME',
    ...optional('a text'),
  }),
  kafkaPassword: define({
    description: 'Password at Kafka.',
    variable: 'KAFKA_PASSWORD',
    secret: true,
    ...optional('a text'),
  }),
  s3Bucket: define({
    description: "The service's own bucket.",
    variable: 'S3_BUCKET',
    default: 'turbine',
    placeholder: 'NAME',
    ...text('a bucket that exists'),
  }),
  s3Endpoint: define({
    description: 'S3 server. Without it the store lies in the data folder, or, with Kafka, at AWS.',
    variable: 'S3_ENDPOINT',
    placeholder: 'URL',
    ...optional('an http or https address'),
  }),
  s3Region: define({
    description: 'Region of the buckets.',
    variable: 'AWS_REGION',
    default: 'us-east-1',
    placeholder: 'REGION',
    ...text('a region'),
  }),
  s3AccessKeyId: define({
    description: "Access key at S3. Default: what the AWS SDK finds, e.g. the machine's role.",
    variable: 'AWS_ACCESS_KEY_ID',
    secret: true,
    ...optional('a text'),
  }),
  s3SecretAccessKey: define({
    description: 'Secret of the access key.',
    variable: 'AWS_SECRET_ACCESS_KEY',
    secret: true,
    ...optional('a text'),
  }),
}

/** What commands read that talk to a service which runs elsewhere. */
const clientVariables = ['TURBINE_URL', 'TURBINE_API_KEY']

type Settings = typeof settings
export type SettingName = keyof Settings

/** The settings of the service, validated. Times are ms. */
export type Config = { readonly [K in SettingName]: z.output<Settings[K]['schema']> }

export interface ConfigSources {
  /** Default: the process's. */
  env?: Record<string, string | undefined>
  /** What was given on the command line; overrides the environment. */
  flags?: Partial<Record<SettingName, string | number | boolean>>
}

/**
 * Settings from flags, else the environment, else their defaults. A variable `TURBINE_*` that does not exist is a
 * warning, because a misspelt one would be missed otherwise.
 *
 * @throws ConfigError for a value that is not allowed.
 * @example const { config, warnings } = loadConfig({ flags: { port: 0 } })
 */
export function loadConfig({ env = process.env, flags = {} }: ConfigSources = {}): {
  config: Config
  warnings: string[]
} {
  const values = settingNames.map((name) => [name, parse(name, env, flags)])
  return { config: Object.freeze(Object.fromEntries(values)), warnings: unknownVariables(env) }
}

export interface ConfigRow {
  name: SettingName
  /** `TURBINE_DATA_DIR` */
  variable: string
  /** `--data-dir <DIR>`; absent for a secret. */
  flag: string | undefined
  default: string
  allowed: string
  description: string
}

/** All settings in the order in which help and infra/docs/settings.md list them. */
export function describeConfig(): ConfigRow[] {
  return settingNames.map((name) => {
    const { placeholder, default: value, allowed, description, secret }: Setting<unknown> = settings[name]
    return {
      name,
      variable: variableOf(name),
      flag: secret ? undefined : placeholder ? `${flagOf(name)} <${placeholder}>` : flagOf(name),
      default: value === bundledModel ? 'the bundled starter model' : value || 'none',
      allowed,
      description,
    }
  })
}

const settingNames = Object.keys(settings) as SettingName[]

function parse(
  name: SettingName,
  env: Record<string, string | undefined>,
  flags: NonNullable<ConfigSources['flags']>,
): unknown {
  const flag = flags[name]
  // An empty variable counts as not set: compose files and shells pass them on like that.
  const given = flag === undefined ? env[variableOf(name)] || undefined : String(flag)
  const { schema, allowed, default: fallback }: Setting<unknown> = settings[name]
  const result = schema.safeParse(given ?? fallback)
  if (result.success) return result.data
  const source = flag === undefined ? variableOf(name) : flagOf(name)
  throw new ConfigError(`${source} is ${JSON.stringify(given)}; allowed: ${allowed}.`)
}

function unknownVariables(env: Record<string, string | undefined>): string[] {
  const known = new Set([...settingNames.map(variableOf), ...clientVariables])
  return Object.keys(env)
    .filter((variable) => variable.startsWith('TURBINE_') && !known.has(variable))
    .map((variable) => `${variable} is not a setting of Turbine and is ignored. \`--help\` lists them all.`)
}

/** `dataDir` -> `TURBINE_DATA_DIR` */
function variableOf(name: SettingName): string {
  const { variable }: Setting<unknown> = settings[name]
  return variable ?? `TURBINE_${name.replace(/[A-Z]/g, '_$&').toUpperCase()}`
}

/** `dataDir` -> `--data-dir` */
function flagOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, '-$&').toLowerCase()}`
}
