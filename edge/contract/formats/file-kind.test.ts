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

test.each<[string | undefined, string]>([
  ['JPEG', '\xff\xd8\xff\xe0'],
  ['HEIC', '\0\0\0\x18ftypheic\0\0\0\0mif1heic'],
  ['SVG', '<svg xmlns="http://www.w3.org/2000/svg">'],
  [undefined, '\0\0\0\x18ftypisom\0\0\0\0isomavc1'],
  [undefined, '%PDF-1.7'],
  [undefined, '{"image": "a.jpg"}'],
  [undefined, '<!doctype html><svg></svg>'],
  [undefined, ''],
])('a picture is told from anything else by its first bytes: %s', (format, head) => {
  expect(imageFormat(Buffer.from(head, 'latin1'))).toBe(format)
})

test('what is left out is said by its reason', () => {
  expect(describeSkipped({})).toBeUndefined()
  expect(describeSkipped({ hidden: 2, not_image: 1 })).toBe('skipped: 2 hidden, 1 not an image')
  expect(describeSkipped({ not_image: 1234 })).toBe('skipped: 1,234 not images')
})
