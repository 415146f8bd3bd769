import { readTiff, tiffTags } from './tiff-tags.ts'

/** Kind of what a file holds: only a `picture` is captioned, and of pictures only those that are decoded. */
export type FormatKind = 'picture' | 'video' | 'document' | 'other'

/** A format that people send, told by its first bytes or, before these are there, by its name. */
export interface FileFormat {
  name: string
  kind: FormatKind
  /** With its article, for a message: `a HEIC photo`. */
  what: string
  /** Of file names, in lower case and without the dot. */
  extensions: readonly string[]
  mediaTypes: readonly string[]
  /** Whether it is captioned. */
  decoded: boolean
  /** What is taken of it, or what to do with a file that is refused. */
  note?: string
  /** Whether a file starts like this. */
  matches(bytes: Uint8Array): boolean
}

const startsWith =
  (...signatures: readonly (readonly number[] | string)[]) =>
  (bytes: Uint8Array) =>
    signatures.some((signature) => hasAt(bytes, 0, signature))

const hasAt = (bytes: Uint8Array, at: number, signature: readonly number[] | string) =>
  typeof signature === 'string'
    ? ascii(bytes, at, at + signature.length) === signature
    : signature.every((byte, index) => bytes[at + index] === byte)

const ascii = (bytes: Uint8Array, start: number, end: number) =>
  String.fromCharCode(...bytes.subarray(start, end))

/** Text that begins with a tag, and has this near its beginning. */
function isMarkup(tag: RegExp): (bytes: Uint8Array) => boolean {
  return (bytes) => {
    const head = ascii(bytes, 0, 1024)
    return /^(?:\xef\xbb\xbf)?\s*</.test(head) && tag.test(head)
  }
}

/** Brands of an ISO media file, the major one first; undefined for another file. */
function brandsOf(bytes: Uint8Array): string[] | undefined {
  if (!hasAt(bytes, 4, 'ftyp')) return undefined
  const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
  const brands = ascii(bytes, 8, Math.min(length, 256)).match(/.{4}/gs) ?? []
  return brands.filter((_, index) => index !== 1)
}

const isBrand = (brand: string, names: readonly string[]) => names.includes(brand)
const avifBrands = ['avif', 'avis', 'avio']
const heicBrands = ['heic', 'heix', 'heim', 'heis', 'hevc', 'hevx', 'hevm', 'hevs']
/** Of pictures and of sequences, without the codec. */
const plainBrands = ['mif1', 'mif2', 'msf1', 'miaf', 'MiHB', 'MiHE']

/** A picture in an ISO media file is what its major brand says; where that names no codec, what the others say. */
function pictureBrand(bytes: Uint8Array): 'AVIF' | 'HEIC' | undefined {
  const [major = '', ...others] = brandsOf(bytes) ?? []
  if (isBrand(major, avifBrands)) return 'AVIF'
  if (isBrand(major, heicBrands)) return 'HEIC'
  if (!isBrand(major, plainBrands)) return undefined
  return others.some((brand) => isBrand(brand, avifBrands)) ? 'AVIF' : 'HEIC'
}

const isTiff = startsWith(
  [0x49, 0x49, 0x2a, 0],
  [0x4d, 0x4d, 0, 0x2a],
  [0x49, 0x49, 0x2b, 0],
  [0x4d, 0x4d, 0, 0x2b],
)

/** A TIFF with the version of DNG in it. */
const isDng = (bytes: Uint8Array) => isTiff(bytes) && readTiff(bytes).tag(tiffTags.dngVersion) !== undefined

const colourFilterArray = 32_803
const linearRaw = 34_892
/** Compressions of Sony, Nikon, Pentax, Kodak, Samsung. */
const rawCompressions = [32_767, 32_769, 32_770, 32_772, 34_713, 65_000, 65_535]

/** A TIFF of a camera: its first page is raw, or a small preview of a raw one in a directory below. */
function isRawTiff(bytes: Uint8Array): boolean {
  if (!isTiff(bytes)) return false
  const { tag } = readTiff(bytes)
  if ([colourFilterArray, linearRaw].includes(tag(tiffTags.photometric) ?? 0)) return true
  if (rawCompressions.includes(tag(tiffTags.compression) ?? 1)) return true
  const isPreview = ((tag(tiffTags.newSubfileType) ?? 0) & 1) === 1
  return isPreview && tag(tiffTags.subIfds) !== undefined
}

const isZip = startsWith('PK\x03\x04', 'PK\x05\x06')
const jp2Signature = [0, 0, 0, 12, 0x6a, 0x50, 0x20, 0x20]
const jxlSignature = [0, 0, 0, 12, 0x4a, 0x58, 0x4c, 0x20]

const picture = (
  name: string,
  what: string,
  extensions: readonly string[],
  mediaTypes: readonly string[],
  rest: Pick<FileFormat, 'matches'> & Partial<FileFormat>,
): FileFormat => ({ kind: 'picture', name, what, extensions, mediaTypes, decoded: true, ...rest })

const refused = (
  kind: FormatKind,
  name: string,
  what: string,
  extensions: readonly string[],
  mediaTypes: readonly string[],
  rest: Pick<FileFormat, 'matches' | 'note'>,
): FileFormat => ({ kind, name, what, extensions, mediaTypes, decoded: false, ...rest })

const developIt = 'Develop it, and send a JPEG or TIFF of it: the preview inside is often small or older.'
const exportIt = 'Export it as JPEG or PNG.'
const takeFrame = 'Send one frame of it as a JPEG, e.g. with `ffmpeg -i video -frames:v 1 frame.jpg`.'

/**
 * Every format that is known, decoded or refused by its name: the one list for what the API accepts, what folders and
 * prefixes take, and what the documents say. The first that matches is what a file is.
 */
export const fileFormats: readonly FileFormat[] = [
  picture(
    'JPEG',
    'a JPEG',
    ['jpg', 'jpeg', 'jpe', 'jfif', 'jif', 'mpo'],
    ['image/jpeg', 'image/jpg', 'image/pjpeg'],
    {
      matches: startsWith([0xff, 0xd8, 0xff]),
      note: 'Of an MPO and of a photo with a gain map, the first picture.',
    },
  ),
  picture('PNG', 'a PNG', ['png', 'apng'], ['image/png', 'image/apng', 'image/x-png'], {
    matches: startsWith([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    note: 'Of an animated one, the picture that is shown where animations are not.',
  }),
  picture('WebP', 'a WebP', ['webp'], ['image/webp'], {
    matches: (bytes) => hasAt(bytes, 0, 'RIFF') && hasAt(bytes, 8, 'WEBP'),
    note: 'Of an animation, the first frame.',
  }),
  picture('GIF', 'a GIF', ['gif'], ['image/gif'], {
    matches: startsWith('GIF87a', 'GIF89a'),
    note: 'Of an animation, the first frame; what it leaves free of its screen is white.',
  }),
  // Before TIFF, of which they are kinds.
  refused('picture', 'DNG', 'a camera RAW photo (DNG)', ['dng'], ['image/x-adobe-dng', 'image/dng'], {
    matches: isDng,
    note: developIt,
  }),
  refused(
    'picture',
    'Canon RAW',
    'a camera RAW photo (Canon)',
    ['cr2', 'cr3', 'crw'],
    ['image/x-canon-cr2', 'image/x-canon-cr3', 'image/x-canon-crw'],
    {
      matches: (bytes) =>
        (isTiff(bytes) && hasAt(bytes, 8, 'CR\x02')) ||
        hasAt(bytes, 6, 'HEAPCCDR') ||
        brandsOf(bytes)?.[0] === 'crx ',
      note: developIt,
    },
  ),
  refused(
    'picture',
    'camera RAW',
    'a camera RAW photo',
    [
      'nef',
      'nrw',
      'arw',
      'sr2',
      'srf',
      'raf',
      'orf',
      'rw2',
      'rwl',
      'pef',
      'srw',
      'x3f',
      '3fr',
      'fff',
      'iiq',
      'erf',
      'mef',
      'mos',
      'mrw',
      'kdc',
      'dcr',
      'gpr',
    ],
    [
      'image/x-nikon-nef',
      'image/x-sony-arw',
      'image/x-fuji-raf',
      'image/x-olympus-orf',
      'image/x-panasonic-rw2',
      'image/x-pentax-pef',
      'image/x-samsung-srw',
    ],
    {
      matches: (bytes) =>
        startsWith('FUJIFILMCCD-RAW', 'IIRO', 'IIRS', 'MMOR', 'IIU\0', 'FOVb', '\0MRM', 'IIII')(bytes) ||
        isRawTiff(bytes),
      note: developIt,
    },
  ),
  picture('TIFF', 'a TIFF', ['tif', 'tiff'], ['image/tiff', 'image/tif', 'image/x-tiff'], {
    matches: isTiff,
    note: 'The first page.',
  }),
  picture('AVIF', 'an AVIF', ['avif', 'avifs'], ['image/avif', 'image/avif-sequence'], {
    matches: (bytes) => pictureBrand(bytes) === 'AVIF',
    note: 'Of an animation, the first frame.',
  }),
  picture(
    'HEIC',
    'a HEIC photo',
    ['heic', 'heif', 'hif', 'heics', 'heifs'],
    ['image/heic', 'image/heif', 'image/heic-sequence', 'image/heif-sequence'],
    {
      matches: (bytes) => pictureBrand(bytes) === 'HEIC',
      note: 'The primary picture.',
    },
  ),
  picture(
    'BMP',
    'a BMP',
    ['bmp', 'dib'],
    ['image/bmp', 'image/x-ms-bmp', 'image/x-bmp', 'image/x-windows-bmp'],
    {
      matches: isBmp,
    },
  ),
  picture('JPEG XL', 'a JPEG XL', ['jxl'], ['image/jxl'], {
    matches: startsWith([0xff, 0x0a], jxlSignature),
    note: 'Of an animation, the first frame.',
  }),
  picture(
    'JPEG 2000',
    'a JPEG 2000',
    ['jp2', 'j2k', 'j2c', 'jpc', 'jpf', 'jpx', 'jph'],
    ['image/jp2', 'image/jpx', 'image/j2k', 'image/x-j2k', 'image/jpeg2000'],
    {
      matches: startsWith(jp2Signature, [0xff, 0x4f, 0xff, 0x51]),
    },
  ),
  // Before SVG, which pages have in them.
  refused(
    'document',
    'HTML',
    'an HTML page',
    ['html', 'htm', 'xhtml'],
    ['text/html', 'application/xhtml+xml'],
    {
      matches: isMarkup(/<!doctype html|<html[\s>]/i),
      note: 'Give the address of the picture itself, not of the page that shows it.',
    },
  ),
  refused('picture', 'SVG', 'an SVG drawing', ['svg', 'svgz'], ['image/svg+xml'], {
    matches: isMarkup(/<svg[\s>]/i),
    note: 'It is a program that can refer to other files. Export it as PNG.',
  }),
  refused('picture', 'icon', 'a Windows icon', ['ico', 'cur'], ['image/x-icon', 'image/vnd.microsoft.icon'], {
    // With a number of pictures: a Targa file can begin like a cursor that has none.
    matches: (bytes) => startsWith([0, 0, 1, 0], [0, 0, 2, 0])(bytes) && bytes[4] !== 0,
    note: 'Save its largest picture as PNG.',
  }),
  refused('picture', 'Apple icon', 'an Apple icon', ['icns'], ['image/icns'], {
    matches: startsWith('icns'),
    note: 'Save its largest picture as PNG.',
  }),
  refused(
    'picture',
    'Photoshop',
    'a Photoshop document',
    ['psd', 'psb'],
    ['image/vnd.adobe.photoshop', 'application/x-photoshop'],
    {
      matches: startsWith('8BPS'),
      note: exportIt,
    },
  ),
  refused('picture', 'GIMP', 'a GIMP document', ['xcf'], ['image/x-xcf'], {
    matches: startsWith('gimp xcf'),
    note: exportIt,
  }),
  refused(
    'picture',
    'portable pixmap',
    'a portable pixmap',
    ['ppm', 'pgm', 'pbm', 'pnm', 'pam', 'pfm'],
    [
      'image/x-portable-pixmap',
      'image/x-portable-graymap',
      'image/x-portable-bitmap',
      'image/x-portable-anymap',
    ],
    {
      // More than its two letters: a list of names can begin like them.
      matches: (bytes) =>
        /^P(?:[1-6Ff]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s|7\n[A-Z#])/.test(ascii(bytes, 0, 1024)),
      note: 'Save it as PNG.',
    },
  ),
  refused('picture', 'OpenEXR', 'an OpenEXR picture', ['exr'], ['image/x-exr'], {
    matches: startsWith([0x76, 0x2f, 0x31, 0x01]),
    note: 'Map its range to 8 bits, and save it as JPEG or PNG.',
  }),
  refused('picture', 'Radiance HDR', 'a Radiance HDR picture', ['hdr', 'pic'], ['image/vnd.radiance'], {
    matches: startsWith('#?RADIANCE', '#?RGBE'),
    note: 'Map its range to 8 bits, and save it as JPEG or PNG.',
  }),
  refused('picture', 'JPEG XR', 'a JPEG XR', ['jxr', 'wdp', 'hdp'], ['image/jxr', 'image/vnd.ms-photo'], {
    matches: startsWith([0x49, 0x49, 0xbc]),
    note: 'Save it as JPEG.',
  }),
  refused('picture', 'DDS', 'a DDS texture', ['dds'], ['image/vnd.ms-dds'], {
    matches: startsWith('DDS '),
    note: 'Save it as PNG.',
  }),
  refused('picture', 'QOI', 'a QOI picture', ['qoi'], ['image/qoi'], {
    matches: startsWith('qoif'),
    note: 'Save it as PNG.',
  }),
  refused('picture', 'Targa', 'a Targa picture', ['tga'], ['image/x-tga', 'image/x-targa'], {
    matches: (bytes) => hasAt(bytes, bytes.length - 18, 'TRUEVISION-XFILE'),
    note: 'Save it as PNG.',
  }),
  refused('picture', 'PCX', 'a PCX picture', ['pcx'], ['image/x-pcx', 'image/vnd.zbrush.pcx'], {
    matches: (bytes) =>
      bytes[0] === 10 && bytes[1]! <= 5 && bytes[2] === 1 && [1, 2, 4, 8].includes(bytes[3]!),
    note: 'Save it as PNG.',
  }),
  refused('picture', 'metafile', 'a Windows metafile', ['wmf', 'emf'], ['image/wmf', 'image/emf'], {
    matches: (bytes) => hasAt(bytes, 0, [0xd7, 0xcd, 0xc6, 0x9a]) || hasAt(bytes, 40, ' EMF'),
    note: 'It is a drawing. Export it as PNG.',
  }),
  refused('picture', 'DICOM', 'a DICOM study', ['dcm', 'dicom'], ['application/dicom'], {
    matches: (bytes) => hasAt(bytes, 128, 'DICM'),
    note: 'Export the picture, with its window applied, as PNG.',
  }),
  refused('picture', 'FITS', 'a FITS picture', ['fits', 'fit', 'fts'], ['image/fits'], {
    matches: startsWith('SIMPLE  ='),
    note: 'Map its range to 8 bits, and save it as PNG.',
  }),
  refused('document', 'DjVu', 'a DjVu document', ['djvu', 'djv'], ['image/vnd.djvu'], {
    matches: startsWith('AT&TFORM'),
    note: 'Send its pages as pictures.',
  }),
  refused('document', 'PDF', 'a PDF document', ['pdf', 'ai'], ['application/pdf'], {
    matches: (bytes) => ascii(bytes, 0, 1024).includes('%PDF-'),
    note: 'Send its pages as pictures, e.g. with `pdftoppm -jpeg`.',
  }),
  refused('document', 'PostScript', 'a PostScript document', ['ps', 'eps'], ['application/postscript'], {
    matches: startsWith('%!PS', [0xc5, 0xd0, 0xd3, 0xc6]),
    note: 'It is a program. Send it as a picture.',
  }),
  refused('video', 'MOV', 'a QuickTime video', ['mov', 'qt'], ['video/quicktime'], {
    matches: (bytes) =>
      brandsOf(bytes)?.[0] === 'qt  ' ||
      (/^(?:moov|mdat|wide|free|skip|pnot)$/.test(ascii(bytes, 4, 8)) && bytes[0] === 0),
    note: takeFrame,
  }),
  refused(
    'video',
    'MP4',
    'an MP4 video or sound',
    ['mp4', 'm4v', '3gp', '3g2', 'm4a'],
    ['video/mp4', 'video/3gpp', 'audio/mp4'],
    {
      // Whatever other brand.
      matches: (bytes) => brandsOf(bytes) !== undefined && pictureBrand(bytes) === undefined,
      note: takeFrame,
    },
  ),
  refused('video', 'WebM', 'a WebM or Matroska video', ['webm', 'mkv'], ['video/webm', 'video/x-matroska'], {
    matches: startsWith([0x1a, 0x45, 0xdf, 0xa3]),
    note: takeFrame,
  }),
  refused('video', 'AVI', 'an AVI video', ['avi'], ['video/x-msvideo'], {
    matches: (bytes) => hasAt(bytes, 0, 'RIFF') && hasAt(bytes, 8, 'AVI '),
    note: takeFrame,
  }),
  refused(
    'video',
    'video',
    'a video',
    ['mpg', 'mpeg', 'm2ts', 'mts', 'flv', 'wmv', 'ogv'],
    ['video/mpeg', 'video/mp2t', 'video/x-flv', 'video/x-ms-wmv', 'video/ogg'],
    {
      matches: (bytes) =>
        startsWith(
          [0, 0, 1, 0xba],
          [0, 0, 1, 0xb3],
          'FLV\x01',
          [0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11],
          'OggS',
        )(bytes) ||
        (bytes[0] === 0x47 && bytes[188] === 0x47 && bytes[376] === 0x47),
      note: takeFrame,
    },
  ),
  refused('other', 'Git LFS pointer', 'a Git LFS pointer, not the file that it stands for', [], [], {
    matches: startsWith('version https://git-lfs'),
    note: 'Fetch the files with `git lfs pull`.',
  }),
  refused(
    'other',
    'AppleDouble',
    'an AppleDouble file, which macOS puts beside a picture',
    [],
    ['application/applefile'],
    {
      matches: startsWith([0, 5, 0x16, 7]),
      note: 'Send the file without `._` before its name.',
    },
  ),
  refused('other', 'Parquet', 'a Parquet file', ['parquet'], ['application/vnd.apache.parquet'], {
    matches: startsWith('PAR1'),
    note: '`turbine caption` reads it.',
  }),
  refused(
    'other',
    'archive',
    'an archive',
    ['zip', '7z', 'rar', 'gz', 'tgz', 'tar', 'zst', 'xz', 'bz2'],
    ['application/zip', 'application/gzip', 'application/x-tar'],
    {
      matches: (bytes) =>
        isZip(bytes) ||
        startsWith(
          [0x1f, 0x8b],
          '7z\xbc\xaf\x27\x1c',
          'Rar!',
          [0xfd, 0x37, 0x7a, 0x58, 0x5a],
          [0x28, 0xb5, 0x2f, 0xfd],
          'BZh',
        )(bytes) ||
        hasAt(bytes, 257, 'ustar'),
      note: 'Unpack it.',
    },
  ),
]

/** The size of the header that follows the file's own: 12 of OS/2 1, 40 to 124 of Windows, 16 to 64 of OS/2 2. */
function isBmp(bytes: Uint8Array): boolean {
  if (!startsWith('BM')(bytes) || bytes.length < 18) return false
  const headerBytes = new DataView(bytes.buffer, bytes.byteOffset + 14, 4).getUint32(0, true)
  return headerBytes >= 12 && headerBytes <= 1024
}

/** What a file is, by its bytes: the first KiB tells, except of TIFF and Targa, which need all. Undefined for what is not known. */
export const formatOf = (bytes: Uint8Array): FileFormat | undefined =>
  fileFormats.find((format) => format.matches(bytes))

const byExtension = new Map(
  fileFormats.flatMap((format) => format.extensions.map((extension) => [extension, format] as const)),
)

/** What a file is, by its name; undefined where that does not tell. @example formatOfName('a/IMG_1.HEIC')?.name // 'HEIC' */
export function formatOfName(name: string): FileFormat | undefined {
  const base = name.slice(name.lastIndexOf('/') + 1)
  const dot = base.lastIndexOf('.')
  return dot < 0 ? undefined : byExtension.get(base.slice(dot + 1).toLowerCase())
}

/** Formats that are captioned. */
export const decodedFormats = fileFormats.filter(({ decoded }) => decoded)
