import { expect, test } from 'vitest'
import { ConfigError, describeConfig, loadConfig } from './config.ts'

test('has a default for everything', () => {
  const { config, warnings } = loadConfig({ env: {} })
  expect(config).toMatchObject({
    host: '127.0.0.1',
    port: 8787,
    dataDir: '.turbine',
    device: 'auto',
    intraOpThreads: 0,
    maxBatch: 16,
    queueLimit: 1000,
    sloMs: 500,
    logLevel: 'info',
    logFormat: 'auto',
    shutdownMs: 25_000,
    allowPrivateUrls: false,
  })
  expect(config.model).toEqual([expect.stringMatching(/infra\/starter-model\/turbine-starter$/)])
  expect(warnings).toEqual([])
  expect(Object.isFrozen(config)).toBe(true)
})

test.each([
  ['models/a', ['models/a']],
  ['models/a,models/b', ['models/a', 'models/b']],
  [' models/a , models/b,', ['models/a', 'models/b']],
])('models in %j', (text, expected) => {
  expect(loadConfig({ env: { TURBINE_MODEL: text } }).config.model).toEqual(expected)
  expect(loadConfig({ env: {}, flags: { model: text } }).config.model).toEqual(expected)
})

test('a list of models without one is refused', () => {
  expect(() => loadConfig({ env: { TURBINE_MODEL: ' , ' } })).toThrow('TURBINE_MODEL is " , "')
})

test('flags override the environment, and it the defaults', () => {
  const env = {
    TURBINE_PORT: '1',
    TURBINE_MAX_BATCH: '4',
    TURBINE_ALLOW_PRIVATE_URLS: 'on',
    TURBINE_HOST: '',
  }
  const { config } = loadConfig({ env, flags: { port: 2, logFormat: 'json', allowPrivateUrls: undefined } })
  expect(config).toMatchObject({ port: 2, maxBatch: 4, logFormat: 'json', allowPrivateUrls: true })
  expect(config.host).toBe('127.0.0.1')
})

test.each([
  ['TURBINE_PORT', 'http', 'TURBINE_PORT is "http"; allowed: an integer from 0 to 65535.'],
  ['TURBINE_PORT', '65536', 'TURBINE_PORT is "65536"; allowed: an integer from 0 to 65535.'],
  ['TURBINE_MAX_BATCH', '1.5', 'TURBINE_MAX_BATCH is "1.5"; allowed: an integer from 1 to 1024.'],
  ['TURBINE_LOG_FORMAT', 'xml', 'TURBINE_LOG_FORMAT is "xml"; allowed: auto | text | json.'],
  ['TURBINE_DEVICE', 'gpu', 'TURBINE_DEVICE is "gpu"; allowed: auto | cpu | webgpu | cuda:N | cuda:N,N,....'],
  ['TURBINE_ALLOW_PRIVATE_URLS', 'maybe', 'TURBINE_ALLOW_PRIVATE_URLS is "maybe"; allowed: on | off.'],
])('%s=%s is refused in one line', (variable, value, message) => {
  const load = () => loadConfig({ env: { [variable]: value } })
  expect(load).toThrow(ConfigError)
  expect(load).toThrow(message)
})

test('a bad flag is named as a flag', () => {
  const load = () => loadConfig({ env: {}, flags: { queueLimit: 0 } })
  expect(load).toThrow('--queue-limit is "0"; allowed: an integer from 1 to 1000000.')
})

test.each(['auto', 'cpu', 'webgpu', 'cuda:0', 'cuda:0,1,2'])('takes the device %s', (device) => {
  expect(loadConfig({ env: { TURBINE_DEVICE: device } }).config.device).toBe(device)
})

test('warns of variables that do not exist', () => {
  const { warnings } = loadConfig({ env: { TURBINE_PROT: '1', PORT: '2' } })
  expect(warnings).toEqual([
    'TURBINE_PROT is not a setting of Turbine and is ignored. Did you mean TURBINE_PORT? `--help` lists them all.',
  ])
})

test.each([
  ['TURBINE_MODEL_ALIAS', 'TURBINE_MODEL_ALIASES'],
  ['TURBINE_IGNORED_PARAMETERS', 'TURBINE_IGNORE_PARAMETERS'],
  ['TURBINE_QUEUELIMIT', 'TURBINE_QUEUE_LIMIT'],
  ['TURBINE_IMAGE_TIMEOUT', 'TURBINE_IMAGE_TIMEOUT_MS'],
  ['TURBINE_APIKEY', 'TURBINE_API_KEY'],
  ['KAFKA_BROKER', 'KAFKA_BROKERS'],
  ['S3_BUKET', 'S3_BUCKET'],
  ['TURBINE_COFFEE_MACHINE', undefined],
])('the name that is nearest to %s is %s', (variable, meant) => {
  const [warning] = loadConfig({ env: { [variable]: '1' } }).warnings
  expect(warning).toContain(`${variable} is not a setting`)
  expect(/Did you mean (\w+)\?/.exec(warning!)?.[1]).toBe(meant)
})

test.each([
  [{ TURBINE_PARTITIONS: '48' }, 'TURBINE_PARTITIONS has no effect without KAFKA_BROKERS.'],
  [{ TURBINE_PUBLIC_URL: 'http://a' }, 'TURBINE_PUBLIC_URL has no effect without KAFKA_BROKERS.'],
  [{ TURBINE_REPLY_SECRET: 'x'.repeat(16) }, 'TURBINE_REPLY_SECRET has no effect without KAFKA_BROKERS.'],
  [{ KAFKA_TLS: 'on' }, 'KAFKA_TLS has no effect without KAFKA_BROKERS.'],
  [{ KAFKA_BROKERS: 'a:1', KAFKA_CA: 'ca.pem' }, 'KAFKA_CA has no effect without KAFKA_TLS=on.'],
  [{ KAFKA_BROKERS: 'a:1', KAFKA_USERNAME: 'me' }, 'KAFKA_USERNAME has no effect without KAFKA_SASL.'],
  [{ S3_BUCKET: 'mine' }, 'S3_BUCKET has no effect without S3_ENDPOINT or KAFKA_BROKERS.'],
  [
    { TURBINE_REPAY: 'on', TURBINE_PRUNING: 'off' },
    'TURBINE_REPAY has no effect without TURBINE_PRUNING=adaptive.',
  ],
  [{ TURBINE_PARTITIONS: '12', S3_BUCKET: 'turbine', TURBINE_REPAY: 'off' }, undefined],
  [{ KAFKA_BROKERS: 'a:1', TURBINE_PARTITIONS: '48', S3_BUCKET: 'mine' }, undefined],
])('a setting that has no effect beside the others is told: %j', (env, warning) => {
  expect(loadConfig({ env }).warnings).toEqual(warning === undefined ? [] : [warning])
})

test('a flag without an effect is told as a flag', () => {
  expect(loadConfig({ env: {}, flags: { partitions: 48 } }).warnings).toEqual([
    '--partitions has no effect without KAFKA_BROKERS.',
  ])
})

test.each(['KAFKA_HEAP_OPTS', 'S3_CACHE_FOLDER', 'PATH'])('%s is of others', (variable) => {
  expect(loadConfig({ env: { [variable]: '1' } }).warnings).toEqual([])
})

test.each([
  ['', {}],
  ['gpt-4o-mini=blip', { 'gpt-4o-mini': 'blip' }],
  [' a = owner/b , * = c ,', { a: 'owner/b', '*': 'c' }],
])('aliases of models: %j', (text, expected) => {
  expect(loadConfig({ env: { TURBINE_MODEL_ALIASES: text } }).config.modelAliases).toEqual(expected)
})

test.each([
  ['a', '"a=" is not alias=model'],
  ['a=', '"a=" is not alias=model'],
  ['=b', '"=b" is not alias=model'],
  ['a=b=c', '"a=b=c" is not alias=model'],
  ['a=*', '"a=*" is not alias=model'],
  ['a=b,a=c', '"a" is there twice'],
  ['a=a', '"a" stands for "a", which is an alias itself'],
  ['a=b,b=a', '"a" stands for "b", which is an alias itself'],
  ['*=a,a=b', '"*" stands for "a", which is an alias itself'],
])('aliases that lead nowhere are refused: %s', (text, fault) => {
  const load = () => loadConfig({ env: { TURBINE_MODEL_ALIASES: text } })
  expect(load).toThrow(ConfigError)
  expect(load).toThrow(fault)
})

test.each([
  ['none', []],
  ['*', ['*']],
  ['temperature, top_p', ['temperature', 'top_p']],
])('ignored parameters: %s', (text, expected) => {
  expect(loadConfig({ env: { TURBINE_IGNORE_PARAMETERS: text } }).config.ignoreParameters).toEqual(expected)
})

test('describes every setting, with defaults that are allowed', () => {
  const rows = describeConfig()
  expect(rows.map(({ name }) => name)).toEqual(Object.keys(loadConfig({ env: {} }).config))
  expect(rows.find(({ name }) => name === 'dataDir')).toEqual({
    name: 'dataDir',
    variable: 'TURBINE_DATA_DIR',
    flag: '--data-dir <DIR>',
    default: '.turbine',
    allowed: 'a folder, created if it is missing',
    description: 'Folder of the job stream and the object store; one process at a time.',
  })
  expect(rows.find(({ name }) => name === 'allowPrivateUrls')!.flag).toBe('--allow-private-urls')
  expect(rows.find(({ name }) => name === 'model')!.default).toBe('the bundled starter model')
})
