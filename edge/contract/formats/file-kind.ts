import { type FileFormat, fileFormats, formatOf } from './formats.ts'

/**
 * What is a picture in a folder of files or below a prefix of a bucket: one rule for both. The name decides where it
 * tells, else the first bytes do. Whether a picture can be captioned is found out when it is read.
 */
export type NameKind = 'hidden' | 'image' | 'other' | 'unknown'

/** Why a file is left out. */
export type SkipReason = 'hidden' | 'not_image' | 'not_regular'

/** Files that were left out, by reason; reasons without files are absent. */
export type Skipped = Partial<Record<SkipReason, number>>

const wordsOf = (words: string) => words.split(/\s+/)

const isPicture = ({ kind }: FileFormat) => kind === 'picture'
const extensionsOf = (formats: readonly FileFormat[]) => formats.flatMap(({ extensions }) => extensions)

export const imageExtensions: ReadonlySet<string> = new Set(extensionsOf(fileFormats.filter(isPicture)))
/** Of what never is a picture, and lies beside pictures in its thousands: it costs no look at its bytes. */
export const otherExtensions: ReadonlySet<string> = new Set([
  ...extensionsOf(fileFormats.filter((format) => !isPicture(format))),
  ...wordsOf(
    `txt md csv tsv json jsonl ndjson xml xmp yaml yml toml ini log css js ts py sh doc docx xls xlsx mp3 wav flac ogg
     parquet arrow npy npz safetensors onnx aae`,
  ),
])
/** Left by systems and programs beside a user's files, in lower case. */
export const systemNames: ReadonlySet<string> = new Set(
  wordsOf('__macosx thumbs.db ehthumbs.db ehthumbs_vista.db desktop.ini @eadir $recycle.bin lost+found'),
)

/** Tests one name of a path: `.DS_Store`, `._photo.jpg`, `.git`, `__MACOSX`, `Thumbs.db`. */
export const isHiddenName = (name: string) =>
  /^\.(?!\.?$)/.test(name) || systemNames.has(name.toLowerCase()) || name === 'Icon\r'

/** What the name of a file says, without its folders. */
export function kindOfName(name: string): NameKind {
  if (isHiddenName(name)) return 'hidden'
  const extension = /\.([^.]+)$/.exec(name)?.[1]?.toLowerCase() ?? ''
  if (imageExtensions.has(extension)) return 'image'
  return otherExtensions.has(extension) ? 'other' : 'unknown'
}

/** First bytes of a file that `imageFormat` looks at. */
export const headBytes = 1024

/** The name of the format of a picture by its first bytes; undefined for anything else. */
export function imageFormat(head: Uint8Array): string | undefined {
  const format = formatOf(head)
  return format && isPicture(format) ? format.name : undefined
}

const reasonTexts: Record<SkipReason, (count: number) => string> = {
  hidden: () => 'hidden',
  not_image: (count) => (count === 1 ? 'not an image' : 'not images'),
  not_regular: (count) => (count === 1 ? 'no regular file' : 'no regular files'),
}

/** `skipped: 2 hidden, 3 not images`; undefined when nothing was. */
export function describeSkipped(skipped: Skipped): string | undefined {
  const reasons = (Object.keys(reasonTexts) as SkipReason[]).filter((reason) => skipped[reason])
  if (reasons.length === 0) return undefined
  const parts = reasons.map((reason) => {
    const count = skipped[reason]!
    return `${count.toLocaleString('en-US')} ${reasonTexts[reason](count)}`
  })
  return `skipped: ${parts.join(', ')}`
}

/** Counts a file that is left out. */
export function countSkipped(skipped: Skipped, reason: SkipReason): void {
  skipped[reason] = (skipped[reason] ?? 0) + 1
}
