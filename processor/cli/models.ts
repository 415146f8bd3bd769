import { readdir, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { Command, Option } from 'commander'
import type { ConfigRow } from '../../infra/config.ts'
import type { OnCpu } from '../engine/precision.ts'
import { type Dtype, dtypes } from '../models/exported/dtypes.ts'
import type { OpenOptions } from '../models/open-model.ts'
import type { PullPlan } from '../models/pull.ts'
import { IncompleteError, UsageError } from './errors.ts'
import { formatBytes, formatTable, quoteForShell } from './format.ts'
import { type Terminal, TransferLine } from './progress.ts'
import { settingOption } from './settings.ts'

/** Dependencies of the commands. */
export interface ModelsEnvironment extends Terminal {
  /** Folder with the pulled models under `models/`. */
  dataDir(): Promise<string>
  /** Folder of the bundled model. */
  bundledModel: string
  /** Kind of the device that models run on; default: the CPU. */
  deviceKind?(): Promise<'cpu' | 'gpu'>
  /** What settings, and the type of weights from the command line, say of how a model is opened; default: nothing. */
  opening?(dtype: string | undefined): Promise<OpenOptions>
  /** What a model computes in on a CPU, with the reason; default: not shown. @throws ModelFolderError for what it cannot */
  precisionOnCpu?(flags: Pick<ShowFlags, 'dtype' | 'precision'>, model: OnCpu): Promise<string>
  /** Variables `HF_ENDPOINT` and `HF_TOKEN`. */
  env: Record<string, string | undefined>
  /** Pauses between retries, ms. */
  sleep?(ms: number): Promise<unknown>
}

export interface PullFlags {
  revision: string
  out?: string
  dtype?: Dtype | 'auto'
}

const pullExamples = `
Examples:
  npx turbine models pull Salesforce/blip-image-captioning-base
  npx turbine models pull Salesforce/blip-image-captioning-large --out ./blip-large
  npx turbine models pull HuggingFaceTB/SmolVLM-256M-Instruct --dtype q4
  npx turbine models pull SmilingWolf/wd-vit-tagger-v3

Only the files that will run are loaded: of a BLIP model.safetensors, of an exported model its ONNX sessions in one type of
weights, of a tagger model.onnx. --dtype auto takes what the model's configuration says, else fp16 where a GPU is found and fp32
on the CPU: 8-bit files make captions of a batch depend on each other.

Files are verified by the hub's checksums. An interrupted pull resumes.

Environment variables:
  HF_ENDPOINT          URL of another hub or a mirror (default: https://huggingface.co)
  HF_TOKEN             access token for private and gated models
  NODE_USE_ENV_PROXY   1 to use HTTPS_PROXY`

export function modelsCommand(environment: ModelsEnvironment, settings: ConfigRow[]): Command {
  const command = new Command('models').description('list models and pull them from a Hugging Face hub')
  command
    .command('list')
    .description('list the bundled and the pulled models')
    .action(() => runModelList(environment))
  command
    .command('show')
    .description('show what a model folder holds and can')
    .argument('[folder]', 'model folder (default: the bundled model)')
    .addOption(settingOption(settings, 'dtype'))
    .addOption(settingOption(settings, 'precision'))
    .option('--json', 'print JSON')
    .action((folder: string | undefined, flags: ShowFlags) => runShow(folder, flags, environment))
  command
    .command('pull')
    .description('download a captioning model or a tagger')
    .argument('<id>', 'organisation/name on the hub')
    .addOption(
      new Option('--dtype <type>', 'type of the weights of an exported model')
        .choices(['auto', ...dtypes])
        .default('auto'),
    )
    .option('--revision <revision>', 'branch, tag, commit or refs/pr/<n>', 'main')
    .option(
      '-o, --out <folder>',
      'target folder (default: models/<organisation>--<name> in the data folder, with the type where one is chosen)',
    )
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
  const dtype = flags.dtype === 'auto' ? undefined : flags.dtype
  const name = [id.replace('/', '--'), ...(dtype ? [dtype] : [])].join('--')
  const folder = flags.out ?? join(await environment.dataDir(), 'models', name)
  const line = new TransferLine(stderr)
  const { commit } = await pullModel({
    hub: { endpoint, token: env.HF_TOKEN || undefined },
    id,
    revision: flags.revision,
    folder,
    dtype,
    device: dtype ? undefined : await environment.deviceKind?.(),
    onPlan: (plan) => stderr.write(`${planLine(id, plan)}\n`),
    onProgress: (progress) => line.show(progress),
    sleep: environment.sleep,
  }).finally(() => line.clear())
  stderr.write(`Pulled ${id} (${commit.slice(0, 8)}) into ${folder}. Use it with:\n`)
  stdout.write(`npx turbine serve --model ${quoteForShell(folder)}\n`)
}

export interface ShowFlags {
  dtype?: string
  precision?: string
  json?: boolean
}

/** Shows a folder; one that cannot be served with its reason, and exit code 1. @throws UsageError, IncompleteError */
export async function runShow(
  folder: string | undefined,
  { json = false, dtype, precision }: ShowFlags,
  { bundledModel, stdout, opening, deviceKind, precisionOnCpu }: ModelsEnvironment,
): Promise<void> {
  const { describeModel } = await import('../models/describe.ts')
  const { capabilitiesOf } = await import('../pipeline/capabilities.ts')
  const { showModel, shownModel } = await import('./show-model.ts')
  const shown = folder ?? bundledModel
  if (!(await stat(shown).catch(() => undefined))?.isDirectory())
    throw new UsageError(
      `There is no folder "${shown}". \`npx turbine models list\` lists those that there are.`,
    )
  const options = { ...(await opening?.(dtype)), device: await deviceKind?.() }
  const found = await describeModel(shown, options)
  // On a GPU captions say what it computes in.
  const isOnCpu = found.model && options.device !== 'gpu'
  const chosen = isOnCpu && (await precisionOnCpu?.({ dtype, precision }, found.model!))
  const described = shownModel({ ...found, ...(chosen && { precision: chosen }) }, capabilitiesOf)
  stdout.write(json ? `${JSON.stringify(described, undefined, 2)}\n` : showModel(described))
  if (described.refused !== undefined) throw new IncompleteError('The model cannot be served.')
}

/** What is loaded, before it is. */
function planLine(id: string, { family, names, sessions, totalBytes }: PullPlan): string {
  const types = [...new Set(Object.values(sessions ?? {}))]
  const type =
    types.length > 1
      ? `, ${Object.entries(sessions!)
          .map((each) => each.join(' '))
          .join(', ')}`
      : types.map((each) => `, ${each}`).join('')
  return `${id}: ${family}${type}, ${names.length} files, ${formatBytes(totalBytes)}`
}

/** Prints a table: name, size, folder. */
export async function runModelList({ dataDir, bundledModel, stdout }: ModelsEnvironment): Promise<void> {
  const root = join(await dataDir(), 'models')
  const entries = await readdir(root, { withFileTypes: true }).catch(() => [])
  const names = entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort()
  const models: [name: string, folder: string][] = [
    ['starter (bundled)', relative('', bundledModel)],
    ...names.map((name): [string, string] => [nameOf(name), join(root, name)]),
  ]
  const rows = models.map(async ([name, folder]) => {
    const size = await sizeOfModel(folder)
    return [name, size === undefined ? 'incomplete' : formatBytes(size), folder]
  })
  stdout.write(formatTable(await Promise.all(rows), { right: [1] }))
}

/** `acme--captioner--q4` is `acme/captioner (q4)`. */
const nameOf = (folder: string) => folder.replace('--', '/').replace(/--(\w+)$/, ' ($1)')

/** Names of files without which a model cannot be served, and of which one has to be there. */
const weights = /^(model\.safetensors|model\.onnx|onnx\/[\w.-]+\.onnx(_data(_\d+)?)?)$/

/** Bytes of a model's files; undefined for one that cannot be served, or is not whole. */
async function sizeOfModel(folder: string): Promise<number | undefined> {
  const entries = await readdir(folder, { recursive: true }).catch((): string[] => [])
  const described = entries.includes('config.json') || entries.includes('selected_tags.csv')
  const heavy = entries.filter((name) => weights.test(name.replaceAll('\\', '/')))
  if (!described || heavy.length === 0 || entries.some((name) => name.endsWith('.part'))) return undefined
  const files = ['config.json', ...heavy].map((name) => stat(join(folder, name)).catch(() => undefined))
  return (await Promise.all(files)).reduce((sum, found) => sum + (found?.size ?? 0), 0)
}
