import { describe, expect, it, test } from 'vitest'
import { tiffOf } from '../../../processor/decoding/hostile.fixture.ts'
import { fileFormats, formatOf, formatOfName } from './formats.ts'
import { tiffTags } from './tiff-tags.ts'

const latin1 = (text: string) => Buffer.from(text, 'latin1')
const ftyp = (...brands: string[]) => {
  const box = latin1(`\0\0\0\0ftyp${brands[0]}\0\0\0\0${brands.slice(1).join('')}`)
  box.writeUInt32BE(box.length)
  return box
}
const at = (offset: number, text: string) => Buffer.concat([Buffer.alloc(offset), latin1(text)])

describe('by its bytes', () => {
  it.each<[string, Uint8Array]>([
    ['JPEG', latin1('\xff\xd8\xff\xe0')],
    ['PNG', latin1('\x89PNG\r\n\x1a\n')],
    ['WebP', latin1('RIFF\x10\0\0\0WEBPVP8 ')],
    ['GIF', latin1('GIF87a')],
    ['TIFF', tiffOf([[256, 9]])],
    ['TIFF', latin1('MM\0\x2b\0\x08\0\0')],
    ['AVIF', ftyp('avif', 'mif1')],
    ['AVIF', ftyp('avis', 'msf1', 'heic')],
    ['AVIF', ftyp('mif1', 'miaf', 'avif')],
    ['HEIC', ftyp('heic', 'mif1', 'heic')],
    ['HEIC', ftyp('heix', 'mif1', 'avif')],
    ['HEIC', ftyp('mif1', 'heic')],
    ['HEIC', ftyp('msf1', 'hevc')],
    ['HEIC', ftyp('mif1')],
    ['BMP', latin1('BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0')],
    ['JPEG XL', latin1('\xff\x0a\xfa')],
    ['JPEG XL', latin1('\0\0\0\x0cJXL \r\n\x87\n')],
    ['JPEG 2000', latin1('\0\0\0\x0cjP  \r\n\x87\n')],
    ['JPEG 2000', latin1('\xff\x4f\xff\x51')],
    ['DNG', tiffOf([[tiffTags.dngVersion, 1]])],
    [
      'camera RAW',
      tiffOf([
        [tiffTags.newSubfileType, 1],
        [tiffTags.subIfds, 8],
      ]),
    ],
    ['camera RAW', tiffOf([[tiffTags.photometric, 32_803]])],
    ['camera RAW', tiffOf([[tiffTags.compression, 32_767]])],
    ['camera RAW', latin1('FUJIFILMCCD-RAW 0201')],
    ['camera RAW', latin1('IIRO\x08\0\0\0')],
    ['camera RAW', latin1('IIU\0\x18\0\0\0')],
    ['Canon RAW', latin1('II*\0\x10\0\0\0CR\x02\0')],
    ['Canon RAW', ftyp('crx ', 'isom')],
    ['SVG', latin1('\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x --><svg xmlns="a">')],
    ['HTML', latin1('\n<!DOCTYPE html><html><body><svg >')],
    ['PDF', latin1('%PDF-1.7')],
    ['PostScript', latin1('%!PS-Adobe-3.0')],
    ['Photoshop', latin1('8BPS\0\x01')],
    ['icon', latin1('\0\0\x01\0\x01\0')],
    ['portable pixmap', latin1('P6\n9 9\n255\n')],
    ['portable pixmap', latin1('P5 # by a program\n# of ours\n9 9 255 ')],
    ['portable pixmap', latin1('Pf\n9 9\n-1.0\n')],
    ['portable pixmap', latin1('P7\nWIDTH 9\n')],
    ['OpenEXR', latin1('\x76\x2f\x31\x01')],
    ['DICOM', at(128, 'DICM')],
    ['Targa', Buffer.concat([latin1('\0\0\x02\0\0\0\0\0'), at(400, 'TRUEVISION-XFILE.\0')])],
    ['Targa', at(400, 'TRUEVISION-XFILE.\0')],
    ['MOV', ftyp('qt  ')],
    ['MOV', latin1('\0\0\0\x08wide\0\0\0\0mdat')],
    ['MP4', ftyp('isom', 'mp42')],
    ['WebM', latin1('\x1a\x45\xdf\xa3')],
    ['AVI', latin1('RIFF\x10\0\0\0AVI LIST')],
    ['archive', latin1('PK\x03\x04')],
    ['Git LFS pointer', latin1('version https://git-lfs.github.com/spec/v1')],
    ['AppleDouble', latin1('\0\x05\x16\x07')],
  ])('%s', (name, bytes) => {
    expect(formatOf(bytes)?.name).toBe(name)
  })

  it.each([
    ['nothing', ''],
    ['text', 'hello <svg> <html>'],
    ['a list of names', 'P1 front.jpg\nP2 back.jpg\n'],
    ['text of a B and an M', 'BMW is a car, and this is text'],
    ['a few bytes', '\0'],
    ['sound', 'ID3\x03'],
  ])('%s is not known', (_, text) => {
    expect(formatOf(latin1(text))).toBeUndefined()
  })

  it.each(['II*\0', 'MM\0*', 'MM\0+', '\0\0\0\x08ftyp', 'BM', 'RIFF'])('%j alone is no error', (head) => {
    for (let length = 0; length < 40; length++) formatOf(latin1(head.padEnd(length, '\xff')))
  })
})

test.each([
  ['a/IMG_1.HEIC', 'HEIC'],
  ['x.jfif', 'JPEG'],
  ['x.JPE', 'JPEG'],
  ['a.b/c.tiff', 'TIFF'],
  ['.jxl', 'JPEG XL'],
  ['DSC.NEF', 'camera RAW'],
  ['a.png/readme', undefined],
  ['jpg', undefined],
  ['x.txt', undefined],
])('by its name, %s', (name, format) => {
  expect(formatOfName(name)?.name).toBe(format)
})

test('an extension, a media type and a name belong to one format; what is refused says what to do', () => {
  for (const field of ['extensions', 'mediaTypes'] as const) {
    const all = fileFormats.flatMap((format) => [...format[field]])
    expect(new Set(all).size).toBe(all.length)
    expect(all.filter((each) => each !== each.toLowerCase())).toEqual([])
  }
  expect(new Set(fileFormats.map(({ name }) => name)).size).toBe(fileFormats.length)
  for (const { decoded, note, kind } of fileFormats) {
    if (!decoded) expect(note).toMatch(/\.$/)
    if (decoded) expect(kind).toBe('picture')
  }
})
