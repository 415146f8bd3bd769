import { readdir, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { Command } from 'commander'
import { UsageError } from './errors.ts'
import { formatBytes, formatTable, quoteForShell } from './format.ts'
import { type Terminal, TransferLine } from './progress.ts'

/** Dependencies of the commands. */
export interface ModelsEnvironment extends Terminal {
  /** Folder with the pulled models under `models/`. */
  dataDir(): Promise<string>
  /** Folder of the bundled model. */
  bundledModel: string
  /** Variables `HF_ENDPOINT` and `HF_TOKEN`. */
  env: Record<string, string | undefined>
  /** Pauses between retries, ms. */
  sleep?(ms: number): Promise<unknown>
}

export interface PullFlags {
  revision: string
  out?: string
}

const pullExamples = `
Examples:
  npx turbine models pull Salesforce/blip-image-captioning-base
  npx turbine models pull Salesforce/blip-image-captioning-large --out ./blip-large

Files are verified by the hub's checksums. An interrupted pull resumes.

Environment variables:
  HF_ENDPOINT          URL of another hub or a mirror (default: https://huggingface.co)
  HF_TOKEN             access token for private and gated models
  NODE_USE_ENV_PROXY   1 to use HTTPS_PROXY`

export function modelsCommand(environment: ModelsEnvironment): Command {
  const command = new Command('models').description('list models and pull them from a Hugging Face hub')
  command
    .command('list')
    .description('list the bundled and the pulled models')
    .action(() => runModelList(environment))
  command
    .command('pull')
    .description('download a BLIP captioning model')
    .argument('<id>', 'organisation/name on the hub')
    .option('--revision <revision>', 'branch, tag, commit or refs/pr/<n>', 'main')
    .option('-o, --out <folder>', 'target folder (default: models/<organisation>--<name> in the data folder)')
    .addHelpText('after', pullExamples)
    .action((id: string, flags: PullFlags) => runPull(id, flags, environment))
  return command
}

/** @throws UsageError, errors of `pullModel` */
export async function runPull(id: string, flags: PullFlags, environment: ModelsEnvironment): Promise<void> {
  if (!/^[\w.-]+\/[\w.-]+$/.test(id) || /(^|\/)\.+(\/|$)/.test(id))
    throw new UsageError(`"${id}" is not a model id. Use organisation/name.`)
  const { pullModel } = await import('../models/pull.ts')
  const { publicHub } = await import('../models/hub.ts')
  const { env, stdout, stderr } = environment
  const endpoint = env.HF_ENDPOINT || publicHub
  if (!/^https?:\/\/./.test(endpoint) || !URL.canParse(endpoint))
    throw new UsageError(`HF_ENDPOINT is "${endpoint}", which is not an http(s) URL.`)
  const folder = flags.out ?? join(await environment.dataDir(), 'models', id.replace('/', '--'))
  const line = new TransferLine(stderr)
  const { commit } = await pullModel({
    hub: { endpoint, token: env.HF_TOKEN || undefined },
    id,
    revision: flags.revision,
    folder,
    onProgress: (progress) => line.show(progress),
    sleep: environment.sleep,
  }).finally(() => line.clear())
  stderr.write(`Pulled ${id} (${commit.slice(0, 8)}) into ${folder}. Use it with:\n`)
  stdout.write(`npx turbine serve --model ${quoteForShell(folder)}\n`)
}

/** Prints a table: name, size, folder. */
export async function runModelList({ dataDir, bundledModel, stdout }: ModelsEnvironment): Promise<void> {
  const root = join(await dataDir(), 'models')
  const entries = await readdir(root, { withFileTypes: true }).catch(() => [])
  const names = entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort()
  const models: [name: string, folder: string][] = [
    ['starter (bundled)', relative('', bundledModel)],
    ...names.map((name): [string, string] => [name.replace('--', '/'), join(root, name)]),
  ]
  const rows = models.map(async ([name, folder]) => {
    const size = await sizeOfModel(folder)
    return [name, size === undefined ? 'incomplete' : formatBytes(size), folder]
  })
  stdout.write(formatTable(await Promise.all(rows), { right: [1] }))
}

/** Bytes of a model's files; undefined for one that cannot be served. */
async function sizeOfModel(folder: string): Promise<number | undefined> {
  const files = ['config.json', 'model.safetensors'].map((name) => stat(join(folder, name)))
  const found = await Promise.all(files).catch(() => undefined)
  return found?.reduce((sum, { size }) => sum + size, 0)
}
