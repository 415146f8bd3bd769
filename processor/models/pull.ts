import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { retry, retryAfterMs } from '../../infra/retry.ts'
import { downloadFile } from './download.ts'
import { describeModel, type Hub, type HubFile, type HubModel } from './hub.ts'

/** Files to download, small ones first, so that a wrong model fails early. */
const modelFiles = [
  'config.json',
  'preprocessor_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'vocab.txt',
  'generation_config.json',
  'model.safetensors',
]

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
  onProgress?(progress: PullProgress): void
  /** Pauses between retries, ms. */
  sleep?(ms: number): Promise<unknown>
}

/** Bytes of all files. */
export interface PullProgress {
  file: string
  bytes: number
  totalBytes: number
}

/**
 * Downloads a BLIP model from a Hugging Face hub and verifies the checksums. Another call resumes an interrupted pull and
 * updates changed files. (Not `@huggingface/hub`: it writes to a cache of symbolic links, and neither resumes a file, nor
 * verifies checksums, nor retries.)
 * @throws HubError, UnsupportedModelError, ChecksumError, file system errors
 */
export async function pullModel(options: PullOptions): Promise<HubModel> {
  const { hub, id, revision = 'main', folder, onProgress, sleep } = options
  const model = await retry(() => describeModel(hub, id, revision), {
    // Few tries: for a response this small the hub is either up or down.
    tries: 3,
    pauseMs: (failures, error) => retryAfterMs(error) ?? 500 * 2 ** failures,
    sleep,
  })
  const files = selectFiles(model)
  const totalBytes = files.reduce((sum, file) => sum + file.size, 0)
  await mkdir(folder, { recursive: true })
  let before = 0
  for (const file of files) {
    const report = (bytes: number) => onProgress?.({ file: file.name, bytes: before + bytes, totalBytes })
    await downloadFile({ hub, model, file, folder, onProgress: report, sleep })
    if (file.name === 'config.json') await checkFamily(join(folder, file.name), id)
    before += file.size
  }
  return { ...model, files }
}

/** Selects the files to download, in the order of `modelFiles`. @throws UnsupportedModelError when one is missing */
function selectFiles({ id, files }: HubModel): HubFile[] {
  const has = (name: string) => files.some((file) => file.name === name)
  if (!has('model.safetensors'))
    throw new UnsupportedModelError(
      has('pytorch_model.bin')
        ? `${id} has its weights as pytorch_model.bin only. Choose a --revision with model.safetensors (often refs/pr/<n>), ` +
            'or convert it: from_pretrained(...).save_pretrained(folder, safe_serialization=True).'
        : `${id} has no model.safetensors. Choose a BLIP captioning model in the Hugging Face layout.`,
    )
  for (const name of ['config.json', 'preprocessor_config.json'])
    if (!has(name))
      throw new UnsupportedModelError(`${id} has no ${name}. Choose a model in the Hugging Face layout.`)
  if (!has('tokenizer.json') && !has('vocab.txt'))
    throw new UnsupportedModelError(
      `${id} has no tokenizer.json and no vocab.txt. Choose a BLIP captioning model.`,
    )
  return modelFiles.flatMap((name) => files.filter((file) => file.name === name))
}

async function checkFamily(configPath: string, id: string): Promise<void> {
  const config = JSON.parse(await readFile(configPath, 'utf8')) as { model_type?: unknown }
  if (config.model_type !== 'blip')
    throw new UnsupportedModelError(
      `${id} is a model of type "${config.model_type}". Choose a BLIP captioning model, ` +
        'e.g. Salesforce/blip-image-captioning-base.',
    )
}
