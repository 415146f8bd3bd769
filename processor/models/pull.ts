import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseJson } from '../../edge/contract/json.ts'
import { retry, retryAfterMs } from '../../infra/retry.ts'
import { downloadFile } from './download.ts'
import { type Dtype, LayoutError } from './exported/dtypes.ts'
import { type Hub, type HubModel, listModel } from './hub.ts'
import {
  checkBlip,
  chooseLayout,
  type HubConfig,
  hubConfigSchema,
  isExported,
  isTagger,
  type Layout,
} from './layout.ts'

/** Model that exists but cannot be served. */
export class UnsupportedModelError extends Error {
  override readonly name = 'UnsupportedModelError'
  readonly code = 'model_unsupported'
  readonly retriable = false
}

export interface PullOptions {
  hub: Hub
  /** `<organisation>/<name>` */
  id: string
  /** Branch, tag, commit or `refs/pr/<n>`; default `main`. */
  revision?: string
  /** Target folder; created if missing. */
  folder: string
  /** Type of the weights of an exported model; default: by the device and the model's configuration. */
  dtype?: Dtype
  /** Device that the type is chosen for; default: the CPU. */
  device?: 'cpu' | 'gpu'
  /** Called before the weights are loaded. */
  onPlan?(plan: PullPlan): void
  onProgress?(progress: PullProgress): void
  /** Pauses between retries, ms. */
  sleep?(ms: number): Promise<unknown>
}

/** What is loaded of a model. */
export interface PullPlan extends Layout {
  totalBytes: number
}

/** Bytes of all files. */
export interface PullProgress {
  file: string
  bytes: number
  totalBytes: number
}

/** More than any configuration has. */
const maxConfigBytes = 4 * 1024 * 1024
const maxConfigItems = 200_000

/**
 * Downloads the files of a model that will run from a Hugging Face hub, and verifies the checksums. Another call resumes an
 * interrupted pull and updates changed files. (Not `@huggingface/hub`: it writes to a cache of symbolic links, and neither
 * resumes a file, nor verifies checksums, nor retries.)
 * @throws HubError, UnsupportedModelError, ChecksumError, file system errors
 */
export async function pullModel(options: PullOptions): Promise<HubModel & { plan: PullPlan }> {
  const { hub, id, revision = 'main', folder, onProgress, sleep } = options
  const model = await retry(() => listModel(hub, id, revision), {
    // Few tries: for a response this small the hub is either up or down.
    tries: 3,
    pauseMs: (failures, error) => retryAfterMs(error) ?? 500 * 2 ** failures,
    sleep,
  })
  const layout = await layoutOf(model, options)
  const files = layout.names.flatMap((name) => model.files.find((file) => file.name === name) ?? [])
  const totalBytes = files.reduce((sum, file) => sum + file.size, 0)
  const plan = { ...layout, totalBytes }
  options.onPlan?.(plan)
  await mkdir(folder, { recursive: true })
  let before = 0
  for (const file of files) {
    const report = (bytes: number) => onProgress?.({ file: file.name, bytes: before + bytes, totalBytes })
    await downloadFile({ hub, model, file, folder, onProgress: report, sleep })
    before += file.size
  }
  return { ...model, files, plan }
}

/** What is taken of a model. Nothing is fetched of one whose files tell that it cannot be served. */
async function layoutOf(model: HubModel, options: PullOptions): Promise<Layout> {
  const { dtype, device = 'cpu' } = options
  const files = model.files.map(({ name }) => name)
  try {
    if (!isTagger(files) && !isExported(files)) checkBlip(files)
    const config = isTagger(files) ? undefined : await readConfig(model, options)
    return chooseLayout({ files, config, dtype, device })
  } catch (error) {
    throw error instanceof LayoutError ? new UnsupportedModelError(`${model.id} ${error.message}`) : error
  }
}

/** @throws LayoutError when it is missing or malformed */
async function readConfig(model: HubModel, { hub, folder, sleep }: PullOptions): Promise<HubConfig> {
  const file = model.files.find(({ name }) => name === 'config.json')
  if (!file) throw new LayoutError('has no config.json. Choose a model in the Hugging Face layout.')
  if (file.size > maxConfigBytes)
    throw new LayoutError(`has a config.json of ${file.size} bytes, which is none.`)
  await mkdir(folder, { recursive: true })
  await downloadFile({ hub, model, file, folder, sleep })
  const text = await readFile(join(folder, file.name), 'utf8')
  const read = hubConfigSchema.safeParse(jsonIn(text))
  if (read.success) return read.data
  throw new LayoutError('has a config.json that cannot be read. Choose a model in the Hugging Face layout.')
}

function jsonIn(text: string): unknown {
  try {
    return parseJson(text, { maxItems: maxConfigItems })
  } catch {
    return undefined
  }
}
