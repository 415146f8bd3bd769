import { z } from 'zod'
import { BaseError } from './errors.ts'
import { nearest } from './nearest.ts'
import { bundledModel } from './starter-model/folder.ts'

/** Invalid value of a setting. The message names the setting, its value and the allowed ones. */
export class ConfigError extends BaseError {}

interface Setting<T> {
  description: string
  /** As text, as a user writes it. */
  default: string
  /** Allowed values, in words. */
  allowed: string
  /** From text to the typed value. */
  schema: z.ZodType<T, string>
  /** The flag's placeholder in help; a switch has none. */
  placeholder?: string
  /** The environment variable, where it is not `TURBINE_` and the setting's name. */
  variable?: string
  /** Has no flag: other users of the machine can read command lines. */
  secret?: true
  /** What it needs to have an effect. */
  needs?: Need
}

interface Need {
  words: string
  met(config: Config): boolean
}

type Rest<T> = Omit<Setting<T>, 'allowed' | 'schema'>

const needsKafka: Need = { words: 'KAFKA_BROKERS', met: ({ kafkaBrokers }) => kafkaBrokers !== undefined }
const needsTls: Need = { words: 'KAFKA_TLS=on', met: ({ kafkaTls }) => kafkaTls }
const needsSasl: Need = { words: 'KAFKA_SASL', met: ({ kafkaSasl }) => kafkaSasl !== 'none' }
const needsS3: Need = {
  words: 'S3_ENDPOINT or KAFKA_BROKERS',
  met: ({ s3Endpoint, kafkaBrokers }) => s3Endpoint !== undefined || kafkaBrokers !== undefined,
}
const needsPruning: Need = { words: 'TURBINE_PRUNING=adaptive', met: ({ pruning }) => pruning === 'adaptive' }

const setting = <T>(allowed: string, schema: z.ZodType<T, string>, rest: Rest<T>): Setting<T> => ({
  allowed,
  schema,
  ...rest,
})

const oneOf = <const T extends string>(values: readonly T[], rest: Rest<T>) =>
  setting(values.join(' | '), z.enum(values), rest)

const integer = (min: number, max: number, rest: Rest<number>) =>
  setting(
    `an integer from ${min} to ${max}`,
    z.string().regex(/^\d+$/).transform(Number).pipe(z.int().min(min).max(max)),
    { placeholder: 'N', ...rest },
  )

const milliseconds = (min: number, max: number, rest: Rest<number>) =>
  integer(min, max, { placeholder: 'MS', ...rest })

const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** A duration with its unit, in ms; undefined for `off`. */
const duration = (leastMs: number, least: string, rest: Rest<number | undefined>) =>
  setting(
    `a duration of at least ${least}, as 30m, 12h or 7d; or off`,
    z
      .string()
      .regex(/^(\d{1,6}[smhd]|off)$/)
      .transform((text) =>
        text === 'off' ? undefined : Number(text.slice(0, -1)) * unitMs[text.at(-1) as keyof typeof unitMs],
      )
      .pipe(z.int().min(leastMs).optional()),
    { placeholder: 'TIME', ...rest },
  )

const text = (allowed: string, rest: Rest<string>) => setting(allowed, z.string().min(1), rest)

type OptionalRest = Omit<Rest<string | undefined>, 'default'> & { minLength?: number }

/** A text that may be missing. */
const optional = (allowed: string, { minLength = 0, ...rest }: OptionalRest) => {
  const given = z.string().refine((value) => value === '' || value.length >= minLength)
  const schema = given.transform((value) => value || undefined)
  return setting(allowed, schema, { default: '', ...rest })
}

const truthy = ['on', 'true', '1', 'yes']
const falsy = ['off', 'false', '0', 'no']

const onOff = (rest: Omit<Rest<boolean>, 'default'> & { default?: 'on' }) =>
  setting('on | off', z.stringbool({ truthy, falsy }), { default: 'off', ...rest })

/** Names, comma-separated. */
const names = (allowed: string, rest: Rest<readonly string[]>) =>
  setting(
    allowed,
    z
      .string()
      .regex(/^\s*[^\s,]+(\s*,\s*[^\s,]+)*\s*$/)
      .transform((text) => (text.trim() === 'none' ? [] : text.split(',').map((name) => name.trim()))),
    rest,
  )

/** Paths, comma-separated. */
const folders = (allowed: string, rest: Rest<readonly string[]>) =>
  setting(
    allowed,
    z
      .string()
      .transform((text) =>
        (text === rest.default ? [text] : text.split(',')).flatMap((each) =>
          each.trim() === '' ? [] : [each.trim()],
        ),
      )
      .pipe(z.array(z.string()).min(1)),
    rest,
  )

/** Texts, separated by bars. */
const texts = (allowed: string, rest: Rest<readonly string[]>) =>
  setting(
    allowed,
    z
      .string()
      .max(10_000)
      .transform((text) =>
        text.trim() === 'none'
          ? []
          : text.split('|').flatMap((each) => (each.trim() === '' ? [] : [each.trim()])),
      ),
    rest,
  )

/** Names that stand for others. */
const aliases = (rest: Rest<Readonly<Record<string, string>>>) =>
  setting(
    'alias=model pairs, comma-separated; * is any other name',
    z.string().transform((text, context): Record<string, string> => {
      const pairs = text.split(',').flatMap((pair) => (pair.trim() === '' ? [] : [pair.split('=')]))
      const refuse = (message: string) => {
        context.addIssue({ code: 'custom', message })
        return z.NEVER
      }
      const read = new Map<string, string>()
      for (const [alias = '', model = '', ...more] of pairs.map((parts) =>
        parts.map((part) => part.trim()),
      )) {
        if (alias === '' || model === '' || model === '*' || more.length > 0)
          return refuse(`"${[alias, model, ...more].join('=')}" is not alias=model`)
        if (read.has(alias)) return refuse(`"${alias}" is there twice`)
        read.set(alias, model)
      }
      const chained = [...read].find(([, model]) => read.has(model))
      if (chained) return refuse(`"${chained[0]}" stands for "${chained[1]}", which is an alias itself`)
      return Object.fromEntries(read)
    }),
    rest,
  )

/** Every setting of the service, once: parsing, `--help` and infra/docs/settings.md come from here. */
const settings = {
  host: text('an address or a host name', {
    description: 'Address to listen on; 0.0.0.0 for all interfaces.',
    default: '127.0.0.1',
    placeholder: 'ADDRESS',
  }),
  port: integer(0, 65_535, {
    description: 'Port to listen on; 0 takes a free one.',
    default: '8787',
    placeholder: 'PORT',
  }),
  operationsPort: setting(
    'a port, 0 for a free one',
    z
      .string()
      .regex(/^\d*$/)
      .transform((port) => (port === '' ? undefined : Number(port)))
      .pipe(z.int().min(0).max(65_535).optional()),
    {
      description:
        'Own port for metrics, readiness and replies of processors, which callers need not reach. Default: with the API.',
      default: '',
      placeholder: 'PORT',
    },
  ),
  dataDir: text('a folder, created if it is missing', {
    description: 'Folder of the job stream and the object store; one process at a time.',
    default: '.turbine',
    placeholder: 'DIR',
  }),
  model: folders('folders, separated by commas', {
    description:
      'Model folder in the Hugging Face layout. Of several, separated by commas, the first is the default of requests without a model; they take turns at the device.',
    default: bundledModel,
    placeholder: 'DIR',
  }),
  dtype: oneOf(['auto', 'fp32', 'fp16', 'q8', 'int8', 'uint8', 'q4', 'q4f16', 'bnb4'], {
    description:
      'Type of the weights of an exported model, of those in its folder. auto is what its config.json says, else by the device: fp16 on GPUs, fp32 on the CPU.',
    default: 'auto',
    placeholder: 'TYPE',
  }),
  device: setting(
    'auto | cpu | webgpu | cuda:N | cuda:N,N,...',
    z.string().regex(/^(auto|cpu|webgpu|cuda:\d+(,\d+)*)$/),
    {
      description: 'Device that the model runs on. auto picks the best one available and logs it.',
      default: 'auto',
      placeholder: 'DEVICE',
    },
  ),
  precision: oneOf(['auto', 'float32', 'float16', 'int8'], {
    description:
      'Compute precision; int8 is of linear layers on CPUs. auto is float16 on GPUs where captions stay the same, and int8 on CPUs for a model that was calibrated in it.',
    default: 'auto',
    placeholder: 'TYPE',
  }),
  intraOpThreads: integer(0, 1024, {
    description: 'CPU threads per inference; 0 is all cores.',
    default: '0',
  }),
  loaders: integer(0, 256, {
    description:
      'Threads that fetch images and pass them to decoders. 0 is half of the cores if the model runs on them, else all; fewer if memory is short.',
    default: '0',
  }),
  decoders: integer(0, 1024, {
    description:
      'Decoders for each lane, processes of about 100 MB. 0 is one for each loader; fewer if memory is short.',
    default: '0',
  }),
  decodeTimeoutMs: milliseconds(100, 600_000, {
    description: 'Maximum CPU time of decoding an image, ms. Most get less, by their size.',
    default: '10000',
  }),
  decodeMemoryMb: integer(0, 65_536, {
    description:
      'Memory for decoding large images, MiB, and the most for one. 0 is a quarter of what the process may use, at most 640.',
    default: '0',
    placeholder: 'MB',
  }),
  maxPixels: integer(1, 4_294_836_225, {
    description: 'Maximum pixels of an image; larger ones are refused with 413.',
    default: '250000000',
  }),
  picturePixels: integer(784, 17_000_000, {
    description:
      'Pixels that a model sees of an image at most, where it takes pictures of any size (Qwen2-VL) or in tiles (SmolVLM); fewer are fewer tokens. A folder can ask for less.',
    default: '4194304',
  }),
  truncated: oneOf(['refuse', 'accept'], {
    description:
      'What is done with an image whose end is missing. accept captions a JPEG, PNG or GIF of which half of the picture is there, and says so in warnings.',
    default: 'refuse',
    placeholder: 'HOW',
  }),
  decode: oneOf(['exact', 'fast'], {
    description:
      'How large JPEGs are decoded. fast lets the decoder shrink them while it decodes, to no less than twice what the model sees; captions can differ.',
    default: 'exact',
    placeholder: 'HOW',
  }),
  maxBatch: integer(1, 1024, { description: 'Maximum images per inference.', default: '16' }),
  queueLimit: integer(1, 1_000_000, {
    description: 'Maximum images waiting for a device; further requests get 429.',
    default: '1000',
  }),
  memoryMb: integer(0, 1_048_576, {
    description:
      'Memory for request bodies, uploads and images that wait, MiB; 0 is a quarter of what the process may use, at most 384. None of the tenants gets all of it.',
    default: '0',
    placeholder: 'MB',
  }),
  pictureMemoryMb: integer(0, 1_048_576, {
    description:
      'Memory for pictures that are decoded and wait for a device or are on it, MiB; 0 is a quarter of what the process may use, at most 2048. Interactive images and those of batches have a half each; none of the tenants gets all of it.',
    default: '0',
    placeholder: 'MB',
  }),
  minBodyRate: integer(0, 1_000_000_000, {
    description:
      'Minimum rate of a request body, bytes per second, with a slack of 30 s; a slower one gets 408. 0 is any rate.',
    default: '4096',
  }),
  maxConnections: integer(1, 1_000_000, {
    description: 'Maximum open connections; further ones are closed at once.',
    default: '10000',
  }),
  proxies: integer(0, 10, {
    description:
      "Reverse proxies in front of the edge: a caller's address is taken from their X-Forwarded-For. It limits wrong API keys.",
    default: '0',
  }),
  sloMs: milliseconds(1, 600_000, {
    description: 'Target latency of interactive requests without a deadline, ms.',
    default: '500',
  }),
  pruning: setting('adaptive | off | a prune level', z.string().regex(/^(adaptive|off|\d{1,3})$/), {
    description:
      'How images are pruned: adapted to the load, off, or at one fixed level. max_prune always holds.',
    default: 'adaptive',
    placeholder: 'HOW',
  }),
  lanes: oneOf(['both', 'interactive', 'batch'], {
    description: 'Jobs that a processor takes: interactive, batch, or both.',
    default: 'both',
    placeholder: 'LANES',
  }),
  repay: onOff({
    needs: needsPruning,
    description:
      'Captions pruned lines of a batch again at full quality, if its completion window leaves time.',
  }),
  modelAliases: aliases({
    description:
      'Models by other names, e.g. gpt-4o-mini=blip-base,*=blip-base: requests and lines of batches may name them.',
    default: '',
    placeholder: 'ALIAS=MODEL,...',
  }),
  prompt: optional('a text', {
    description:
      "What a model is asked by requests and lines that ask nothing: an instruction, the name of a task, or, for one that follows no text, the beginning of captions. Default: the model's own.",
    placeholder: 'TEXT',
  }),
  stripOpenings: texts('texts, separated by | ; none', {
    description:
      'Openings that captions are given without, e.g. "The image shows|This is a picture of"; in any case of letters.',
    default: 'none',
    placeholder: 'TEXT|...',
  }),
  wholeSentences: onOff({
    description:
      'Cuts captions that a maximum of tokens ended behind their last whole sentence, where they have one.',
  }),
  maxText: integer(1, 100_000, {
    description: 'Maximum characters of the system and user text of a request, for models that follow text.',
    default: '8192',
  }),
  maxImages: integer(1, 16, {
    description: 'Maximum images of a request, for models that take several.',
    default: '8',
  }),
  ignoreParameters: names('names of parameters, comma-separated; * for all; none', {
    description:
      'Parameters of requests that are ignored where they cannot be honoured, which the response tells; others get 400.',
    default: 'temperature,top_p,user,safety_identifier,prompt_cache_key',
    placeholder: 'NAMES',
  }),
  captionRetention: duration(3_600_000, '1h', {
    description: 'Time for which results of interactive requests, and their images, are kept; off: for ever.',
    default: '7d',
  }),
  sweepInterval: duration(1_000, '1s', {
    description:
      'Time between two sweeps, in which planners delete what has expired and count what tenants store; off: none.',
    default: '1h',
  }),
  logLevel: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
    description: 'Minimum log level.',
    default: 'info',
    placeholder: 'LEVEL',
  }),
  logFormat: oneOf(['auto', 'text', 'json'], {
    description: 'Log format. auto is text on a terminal and JSON lines elsewhere.',
    default: 'auto',
    placeholder: 'FORMAT',
  }),
  shutdownMs: milliseconds(0, 3_600_000, {
    description:
      'Grace period after SIGTERM for work in flight, ms; unfinished work resumes after the next start.',
    default: '25000',
  }),
  imageTimeoutMs: milliseconds(1, 600_000, {
    description: 'Timeout for fetching an image from its URL, ms.',
    default: '10000',
  }),
  hostConcurrency: integer(1, 10_000, {
    description:
      'Maximum concurrent fetches from one host, for each tenant and process; fewer where the host asks for less.',
    default: '64',
  }),
  hostRate: setting(
    'images per second, as 5 or 0.5; 0: as many as the host gives',
    z
      .string()
      .regex(/^\d{1,6}(\.\d{1,3})?$/)
      .transform((text) => Number(text) || Number.POSITIVE_INFINITY),
    {
      description:
        'Maximum fetches per second from one host, for each tenant and process. 0: learnt from its answers alone.',
      default: '0',
      placeholder: 'N',
    },
  ),
  hostPatience: duration(1_000, '1s', {
    description:
      'Time for which a host that does not answer is tried for the lines of batches before they fail; off: until the batch expires.',
    default: '15m',
  }),
  userAgent: optional('a text', {
    description:
      'User-Agent sent to hosts of images; give it an address or a page at which you can be reached. Default: Turbine and its version.',
    placeholder: 'TEXT',
  }),
  maxDownloads: integer(1, 10_000, {
    description: 'Maximum concurrent downloads of file contents; further requests get 503.',
    default: '256',
  }),
  maxTenantDownloads: integer(1, 10_000, {
    description: 'Maximum concurrent downloads of one tenant; further requests get 429.',
    default: '16',
  }),
  downloadStallMs: milliseconds(1, 3_600_000, {
    description: 'Time in which a caller must take the next bytes of a download or a response, ms.',
    default: '60000',
  }),
  allowHttpUrls: onOff({
    description: 'Allows image URLs with http at public addresses, as many data sets have them.',
    default: 'on',
  }),
  allowPrivateUrls: onOff({
    description: 'Allows image URLs in private networks, with http too. For tests and closed networks.',
  }),
  publicUrl: optional('an http or https address', {
    needs: needsKafka,
    description: 'URL at which processors reach this edge to reply. Default: where it listens.',
    placeholder: 'URL',
  }),
  replySecret: optional('a text of at least 16 characters', {
    needs: needsKafka,
    description: "Secret that signs processors' replies to edges; the same in the whole fleet.",
    secret: true,
    minLength: 16,
  }),
  partitions: integer(1, 10_000, {
    needs: needsKafka,
    description: 'Partitions of created topics: the maximum number of processors that share a lane.',
    default: '12',
  }),
  kafkaBrokers: optional('host:port, separated by commas', {
    description: 'Kafka bootstrap brokers, comma-separated. Without them the stream is in the data folder.',
    variable: 'KAFKA_BROKERS',
    placeholder: 'HOST:PORT,...',
  }),
  kafkaTls: onOff({
    needs: needsKafka,
    description: 'Encrypts connections to Kafka.',
    variable: 'KAFKA_TLS',
  }),
  kafkaCa: optional('a file', {
    needs: needsTls,
    description: "CA certificates of the brokers, a PEM file. Default: the system's.",
    variable: 'KAFKA_CA',
    placeholder: 'FILE',
  }),
  kafkaSasl: oneOf(['none', 'plain', 'scram-sha-256', 'scram-sha-512'], {
    needs: needsKafka,
    description: 'SASL mechanism for Kafka.',
    variable: 'KAFKA_SASL',
    default: 'none',
    placeholder: 'MECHANISM',
  }),
  kafkaUsername: optional('a text', {
    needs: needsSasl,
    description: 'SASL user name.',
    variable: 'KAFKA_USERNAME',
    placeholder: 'NAME',
  }),
  kafkaPassword: optional('a text', {
    needs: needsSasl,
    description: 'SASL password.',
    variable: 'KAFKA_PASSWORD',
    secret: true,
  }),
  s3Bucket: text('a bucket that exists', {
    needs: needsS3,
    description: "The service's own bucket.",
    variable: 'S3_BUCKET',
    default: 'turbine',
    placeholder: 'NAME',
  }),
  s3Endpoint: optional('an http or https address', {
    description: 'S3 endpoint. Without it the store is in the data folder or, with Kafka, at AWS.',
    variable: 'S3_ENDPOINT',
    placeholder: 'URL',
  }),
  s3Region: text('a region', {
    description: 'Region of the buckets.',
    variable: 'AWS_REGION',
    default: 'us-east-1',
    placeholder: 'REGION',
  }),
  s3AccessKeyId: optional('a text', {
    description: "S3 access key ID. Default: the AWS SDK's credential chain, e.g. the machine's role.",
    variable: 'AWS_ACCESS_KEY_ID',
    secret: true,
  }),
  s3SecretAccessKey: optional('a text', {
    description: 'S3 secret access key.',
    variable: 'AWS_SECRET_ACCESS_KEY',
    secret: true,
  }),
}

/** Variables of commands that talk to a running service. */
const clientVariables = ['TURBINE_URL', 'TURBINE_API_KEY']

type Settings = typeof settings
export type SettingName = keyof Settings

/** The settings of the service, validated. Times are ms. */
export type Config = { readonly [K in SettingName]: z.output<Settings[K]['schema']> }

export interface ConfigSources {
  /** Default: the process's. */
  env?: Record<string, string | undefined>
  /** Values from the command line; they override the environment. */
  flags?: Partial<Record<SettingName, string | number | boolean>>
}

/**
 * Settings from flags, else the environment, else their defaults. A variable `TURBINE_*` that does not exist, and a setting
 * without an effect beside the others, are warnings: nothing that is set is missed in silence.
 *
 * @throws ConfigError for a value that is not allowed.
 * @example const { config, warnings } = loadConfig({ flags: { port: 0 } })
 */
export function loadConfig({ env = process.env, flags = {} }: ConfigSources = {}): {
  config: Config
  warnings: string[]
} {
  const values = settingNames.map((name) => [name, parse(name, env, flags)])
  const config: Config = Object.freeze(Object.fromEntries(values))
  return { config, warnings: [...unknownVariables(env), ...withoutEffect(config, env, flags)] }
}

/** Settings that are given, differ from their default, and lack what they need. */
function withoutEffect(
  config: Config,
  env: Record<string, string | undefined>,
  flags: NonNullable<ConfigSources['flags']>,
): string[] {
  return settingNames.flatMap((name) => {
    const { needs, schema, default: fallback }: Setting<unknown> = settings[name]
    if (!needs || needs.met(config) || config[name] === schema.parse(fallback)) return []
    const source = flags[name] === undefined ? variableOf(name) : flagOf(name)
    return env[variableOf(name)] || flags[name] !== undefined
      ? [`${source} has no effect without ${needs.words}.`]
      : []
  })
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
  const [issue] = result.error.issues
  const fault = issue?.code === 'custom' && issue.message !== 'Invalid input' ? ` (${issue.message})` : ''
  throw new ConfigError(`${source} is ${JSON.stringify(given)}${fault}; allowed: ${allowed}.`)
}

/** Beginnings of the names of variables that are the service's own, or that it shares. */
const ownPrefix = 'TURBINE_'
const sharedPrefixes = ['KAFKA_', 'S3_']

/** Variables that do not exist. Others may have theirs beside Kafka's and S3's, so there only a misspelt one counts. */
function unknownVariables(env: Record<string, string | undefined>): string[] {
  const known = [...settingNames.map(variableOf), ...clientVariables]
  return Object.keys(env).flatMap((variable) => {
    const own = variable.startsWith(ownPrefix)
    if (known.includes(variable) || !(own || sharedPrefixes.some((prefix) => variable.startsWith(prefix))))
      return []
    const meant = nearest(variable, known)
    if (meant === undefined && !own) return []
    const guess = meant === undefined ? '' : ` Did you mean ${meant}?`
    return [`${variable} is not a setting of Turbine and is ignored.${guess} \`--help\` lists them all.`]
  })
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
