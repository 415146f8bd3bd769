import { expect, test } from 'vitest'
import { describeSkipped, imageFormat, kindOfName } from './file-kind.ts'

test.each([
  ...[
    'a.jpg',
    'A.JPEG',
    'a.jpe',
    'a.jfif',
    'a.jif',
    'a.HEIC',
    'a.heif',
    'a.avif',
    'a.bmp',
    'a.TIF',
    'a.jxl',
  ].map((name) => [name, 'image']),
  ...['a', '.', '..', 'a.jpg?w=200', 'a.jpg_large', 'a.php', 'a.', 'IMG_1.jpg~', 'jpg', 'a.1'].map((name) => [
    name,
    'unknown',
  ]),
  ...['a.txt', 'a.JSON', 'list.csv', 'a.mp4'].map((name) => [name, 'other']),
  ...[
    '.a.jpg',
    '._a.jpg',
    '.DS_Store',
    '__MACOSX',
    'Thumbs.db',
    'DESKTOP.INI',
    '.git',
    '@eaDir',
    'Icon\r',
  ].map((name) => [name, 'hidden']),
])('the name %j says %s', (name, kind) => {
  expect(kindOfName(name)).toBe(kind)
})

const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat([...parts.map((part) => Buffer.from(part as string, 'latin1')), Buffer.alloc(64)])
const bmp = bytes('BM', [10, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0])

test.each<[string | undefined, Uint8Array]>([
  ['JPEG', bytes([0xff, 0xd8, 0xff, 0xe0])],
  ['PNG', bytes('\x89PNG\r\n\x1a\n')],
  ['GIF', bytes('GIF89a')],
  ['WebP', bytes('RIFF\0\0\0\0WEBP')],
  ['AVIF', bytes('\0\0\0 ftypmif1\0\0\0\0mif1avif')],
  ['HEIC', bytes('\0\0\0 ftypheic')],
  ['HEIC', bytes('\0\0\0 ftypmif1\0\0\0\0mif1heic')],
  ['Canon raw', bytes('\0\0\0 ftypcrx ')],
  ['TIFF', bytes('MM\0*')],
  ['BMP', bmp],
  ['JPEG XL', bytes([0xff, 0x0a])],
  ['JPEG XL', bytes('\0\0\0\x0cJXL \r\n\x87\n')],
  ['JPEG 2000', bytes('\0\0\0\x0cjP  ')],
  ['PSD', bytes('8BPS')],
  ['SVG', bytes('<?xml version="1.0"?><svg>')],
  [undefined, bytes('BMW is a car, and this is a text about it')],
  [undefined, bytes('\0\0\0 ftypisom\0\0\0\0isomavc1')],
  [undefined, bytes('{"image": "a.jpg"}')],
  [undefined, bytes('<html><svg></svg></html>')],
  [undefined, new Uint8Array(0)],
])('first bytes of %s', (format, head) => {
  expect(imageFormat(head)).toBe(format)
})

test('what is left out is said by its reason', () => {
  expect(describeSkipped({})).toBeUndefined()
  expect(describeSkipped({ hidden: 2, not_image: 1 })).toBe('skipped: 2 hidden, 1 not an image')
  expect(describeSkipped({ not_image: 1234 })).toBe('skipped: 1,234 not images')
})
