/**
 * What is a picture in a folder of files or below a prefix of a bucket: one rule for both. The name decides where it
 * tells, else the first bytes do. Whether a picture can be captioned is found out when it is read.
 */
export type NameKind = 'hidden' | 'image' | 'other' | 'unknown'

/** Why a file is left out. */
export type SkipReason = 'hidden' | 'not_image' | 'not_regular'

/** Files that were left out, by reason; reasons without files are absent. */
export type Skipped = Partial<Record<SkipReason, number>>

const setOf = (words: string) => new Set(words.split(/\s+/))

export const imageExtensions: ReadonlySet<string> = setOf(
  `jpg jpeg jpe jif jfif jfi pjpeg pjp png apng webp gif tif tiff avif avifs heic heif heics heifs hif bmp dib jxl svg
   ico jp2 j2k jpf jpx psd tga dng cr2 cr3 nef arw orf rw2 raf`,
)
/** What lies beside pictures in their thousands, and never is one: it costs no look at its bytes. */
export const otherExtensions: ReadonlySet<string> = setOf(
  `txt md csv tsv json jsonl ndjson xml xmp yaml yml toml ini log html htm css js ts py sh pdf doc docx xls xlsx zip tar gz tgz
   bz2 xz zst 7z rar mp4 mov m4v avi mkv webm mpg mpeg mp3 wav flac m4a ogg parquet arrow npy npz safetensors onnx aae`,
)
/** Left by systems and programs beside a user's files, in lower case. */
export const systemNames: ReadonlySet<string> = setOf(
  '__macosx thumbs.db ehthumbs.db ehthumbs_vista.db desktop.ini @eadir $recycle.bin lost+found',
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
export const headBytes = 512

const startsWith =
  (...signatures: number[][]) =>
  (bytes: Uint8Array) =>
    signatures.some((signature) => signature.every((byte, index) => bytes[index] === byte))
const text = (bytes: Uint8Array, start: number, end: number) =>
  String.fromCharCode(...bytes.subarray(start, end))
const hasBrand = (brands: RegExp) => (bytes: Uint8Array) =>
  text(bytes, 4, 8) === 'ftyp' && brands.test(text(bytes, 8, 64))

/** Sizes of the header that follows the 14 bytes of a BMP's first one. */
const bmpHeaders = new Set([12, 40, 52, 56, 64, 108, 124])
const isBmp = (bytes: Uint8Array) =>
  text(bytes, 0, 2) === 'BM' && bmpHeaders.has(bytes[14]!) && text(bytes, 15, 18) === '\0\0\0'

/** Allows for a declaration and a comment before the first element. */
const isSvg = (bytes: Uint8Array) => {
  const head = text(bytes, 0, headBytes)
  return /^(?:ï»¿)?\s*<(?:\?xml|!--|!doctype svg|svg)/i.test(head) && /<svg/i.test(head)
}

const formats: { name: string; matches(head: Uint8Array): boolean }[] = [
  { name: 'JPEG', matches: startsWith([0xff, 0xd8, 0xff]) },
  { name: 'PNG', matches: startsWith([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]) },
  { name: 'GIF', matches: (head) => /^GIF8[79]a/.test(text(head, 0, 6)) },
  { name: 'WebP', matches: (head) => text(head, 0, 4) === 'RIFF' && text(head, 8, 12) === 'WEBP' },
  { name: 'AVIF', matches: hasBrand(/avi[fs]/) },
  { name: 'HEIC', matches: hasBrand(/^(?:hei[cxms]|hev[cxms]|mif[12]|msf1)/) },
  { name: 'Canon raw', matches: hasBrand(/^crx /) },
  {
    name: 'TIFF',
    matches: startsWith(
      [0x49, 0x49, 0x2a, 0x00],
      [0x4d, 0x4d, 0x00, 0x2a],
      [0x49, 0x49, 0x2b, 0x00],
      [0x4d, 0x4d, 0x00, 0x2b],
    ),
  },
  { name: 'BMP', matches: isBmp },
  {
    name: 'JPEG XL',
    matches: startsWith([0xff, 0x0a], [0, 0, 0, 0x0c, 0x4a, 0x58, 0x4c, 0x20, 0x0d, 0x0a, 0x87, 0x0a]),
  },
  {
    name: 'JPEG 2000',
    matches: startsWith([0xff, 0x4f, 0xff, 0x51], [0, 0, 0, 0x0c, 0x6a, 0x50, 0x20, 0x20]),
  },
  { name: 'PSD', matches: (head) => text(head, 0, 4) === '8BPS' },
  { name: 'SVG', matches: isSvg },
]

/** The format of a picture by its first bytes; undefined for anything else. */
export const imageFormat = (head: Uint8Array): string | undefined =>
  formats.find(({ matches }) => matches(head))?.name

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
