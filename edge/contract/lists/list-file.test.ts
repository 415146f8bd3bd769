import { describe, expect, test } from 'vitest'
import { isPlainList, ListFileError, listLines, listShape, readList } from './list-file.ts'

async function* inChunks(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

/** The lines of a list, however its bytes come. */
async function linesOf(bytes: Uint8Array, name?: string): Promise<string[]> {
  const shape = listShape(bytes.subarray(0, 4096), name)
  const texts: string[] = []
  for (const size of [1, 2, 7, 1 << 20]) {
    const parts: Uint8Array[] = []
    for await (const part of listLines(inChunks(bytes, size), shape)) parts.push(part)
    texts.push(Buffer.concat(parts).toString())
  }
  expect(new Set(texts).size).toBe(1)
  return texts[0]!.split('\n').map((line) => line.trim())
}

const utf16be = (text: string) => Buffer.from(text, 'utf16le').swap16()

describe('the shape of a list', () => {
  test.each<[string, string, string]>([
    ['{"image": "a.jpg"}\n', 'list.json', 'lines'],
    ['[{"image": "a.jpg"}]', 'list.jsonl', 'array'],
    ['[\n  "a.jpg"]', '-', 'array'],
    ['[]', 'list.json', 'array'],
    ['[1].jpg\n', 'list.txt', 'lines'],
    ['a.jpg\nb.jpg\n', 'list.txt', 'lines'],
    ['a.jpg,1\n', 'list.csv', 'table'],
    ['a.jpg\t1\n', 'LIST.TSV', 'table'],
    ['image,custom_id\n', '-', 'table'],
    ['file_name;text\n', 'list.txt', 'table'],
    ['a, b.jpg\n', 'list.txt', 'lines'],
    ['', 'list.txt', 'lines'],
    ['a.jpg\rb.jpg\r', 'list.txt', 'return_lines'],
    ['{"image": "a.jpg"}\r{"image": "b.jpg"}', 'list.jsonl', 'return_lines'],
    [`${'a'.repeat(5000)}\rb.jpg\n`, 'list.txt', 'return_lines'],
    ['a.jpg\0b.jpg\0', '-', 'zero_lines'],
    ['./a b.jpg\0', '-', 'zero_lines'],
    ['a.jpg\0\0\0', '-', 'lines'],
    ['a.jpg\r\nb.jpg\r\n', 'list.txt', 'lines'],
    ['a.jpg\r', 'list.txt', 'lines'],
    ['image,custom_id\ra.jpg,1\r', 'list.csv', 'table'],
    ['{\n  "image": "a.jpg"\n}\n', 'list.json', 'objects'],
    ['{\r\n  "image": "a.jpg"\r\n}\r\n', 'list.jsonl', 'objects'],
  ])('%j in %s is %s', (text, name, form) => {
    expect(listShape(Buffer.from(text), name)).toEqual({ form, encoding: 'utf-8' })
    for (const [encoding, bytes] of [
      ['utf-16le', Buffer.from(`\uFEFF${text}`, 'utf16le')],
      ['utf-16be', utf16be(`\uFEFF${text}`)],
    ] as const)
      expect(listShape(bytes, name)).toEqual({ form, encoding })
  })

  test('plain is what is read as it is', () => {
    expect(isPlainList(listShape(Buffer.from('\uFEFFa.jpg')))).toBe(true)
    expect(isPlainList(listShape(Buffer.from('a.jpg', 'utf16le')))).toBe(false)
    expect(isPlainList(listShape(Buffer.from('["a.jpg"]')))).toBe(false)
  })
})

test.each([
  ['with its mark, little end first', Buffer.from('\uFEFFcafé.jpg\r\n😀.jpg', 'utf16le')],
  ['with its mark, big end first', utf16be('\uFEFFcafé.jpg\r\n😀.jpg')],
  ['without a mark', Buffer.from('café.jpg\r\n😀.jpg', 'utf16le')],
  ['without a mark, big end first', utf16be('café.jpg\r\n😀.jpg')],
])('UTF-16 %s', async (_, bytes) => {
  expect(await linesOf(bytes)).toEqual(['café.jpg', '😀.jpg'])
})

const utf32 = (text: string, isLittle: boolean) => {
  const points = [...text].map((character) => character.codePointAt(0)!)
  const bytes = Buffer.alloc(4 * points.length)
  for (const [at, point] of points.entries())
    if (isLittle) bytes.writeUInt32LE(point, 4 * at)
    else bytes.writeUInt32BE(point, 4 * at)
  return bytes
}

test.each([
  ['with its mark, little end first', utf32('\uFEFFcafé.jpg\r\n😀.jpg', true)],
  ['with its mark, big end first', utf32('\uFEFFcafé.jpg\r\n😀.jpg', false)],
  ['without a mark', utf32('café.jpg\r\n😀.jpg', true)],
  ['without a mark, big end first', utf32('café.jpg\n😀.jpg', false)],
])('UTF-32 %s', async (_, bytes) => {
  expect(await linesOf(bytes)).toEqual(['café.jpg', '😀.jpg'])
})

test('zeros alone end lines, as of find -print0', async () => {
  expect(await linesOf(Buffer.from('./a b.jpg\0./c.jpg\0'))).toEqual(['./a b.jpg', './c.jpg', ''])
})

test('a first line that is longer than the head is read to its end', async () => {
  const long = `data:image/jpeg;base64,${'A'.repeat(200_000)}`
  const read = async (text: string) => {
    const parts: Uint8Array[] = []
    for await (const part of readList(inChunks(Buffer.from(text), 60_000), '-')) parts.push(part)
    return Buffer.concat(parts).toString().split(/\r?\n/)
  }
  for (const end of ['\r', '\n', '\r\n'])
    expect(await read([long, 'b.jpg', ''].join(end))).toEqual([long, 'b.jpg', ''])
})

test.each(['utf-16le', 'utf-16be'])('%s without a mark in another script', (encoding) => {
  const text = '写真/一番目の写真.jpg\n写真/二番目の写真.jpg\n'
  const bytes = encoding === 'utf-16le' ? Buffer.from(text, 'utf16le') : utf16be(text)
  expect(listShape(bytes)).toEqual({ form: 'lines', encoding })
})

test.each([1, 2, 3, 500])('%i zeros that a power failure left are no UTF-16', (zeros) => {
  for (const text of ['a.jpg\n', 'ab.jpg\n'])
    expect(listShape(Buffer.from(text + '\0'.repeat(zeros)))).toEqual({ form: 'lines', encoding: 'utf-8' })
})

test('zeros between names are no UTF-16', () => {
  for (const text of ['a.jpg\0b.jpg\0', './a.jpg\0./b.jpg\0', 'ab.jpg\0cd.jpg\0'])
    expect(listShape(Buffer.from(text)).encoding).toBe('utf-8')
})

test('carriage returns alone end lines', async () => {
  expect(await linesOf(Buffer.from('a.jpg\rb.jpg\r'))).toEqual(['a.jpg', 'b.jpg', ''])
  expect(await linesOf(Buffer.from('\uFEFFa.jpg\rb.jpg', 'utf16le'))).toEqual(['a.jpg', 'b.jpg'])
})

test.each(['\n', '\r\n'])('objects over several lines are a line each: %j', async (lineEnd) => {
  const objects = [{ image: 'a{}\n,.jpg', turbine: { max_prune: 0.5 } }, { image: 'b.jpg' }]
  const text = objects.map((object) => JSON.stringify(object, undefined, 2)).join('\n')
  const lines = await linesOf(Buffer.from(`${text}\n`.replaceAll('\n', lineEnd)), 'list.jsonl')
  expect(lines.filter(Boolean).map((line) => JSON.parse(line))).toEqual(objects)
})

test('an array is a line for each item, whatever is in its strings', async () => {
  const items = [
    'a.jpg',
    { image: 'b,[\\"]\n.jpg', turbine: { max_prune: 0.5 }, tags: [1, 2] },
    { image: 'c.jpg' },
  ]
  for (const text of [
    JSON.stringify(items),
    JSON.stringify(items, undefined, 2),
    `\n${JSON.stringify(items)}\r\n`,
  ])
    expect((await linesOf(Buffer.from(text))).filter(Boolean).map((line) => JSON.parse(line))).toEqual(items)
})

test('half an array gives its whole items, and the rest as a line that fails', async () => {
  const lines = await linesOf(Buffer.from('["a.jpg", {"image": "b'))
  expect(lines).toEqual(['"a.jpg"', '{"image": "b'])
})

const table = async (text: string, name = 'list.csv') =>
  (await linesOf(Buffer.from(text), name)).filter(Boolean).map((line) => JSON.parse(line))

describe('a table', () => {
  test.each<[string, string, object[]]>([
    ['a header', 'custom_id,image\n1,a.jpg\n', [{ image: 'a.jpg', custom_id: '1' }]],
    ['a header of others', 'file_name,text\na.jpg,"a, cat"\n', [{ image: 'a.jpg' }]],
    [
      'a header in capitals',
      'File Name;Prompt\r\na.jpg;a photo\r\n',
      [{ image: 'a.jpg', prompt: 'a photo' }],
    ],
    ['a byte order mark', '\uFEFFurl\nhttps://example.com/a.jpg\n', [{ image: 'https://example.com/a.jpg' }]],
    ['no header', 'a.jpg\nb.jpg', [{ image: 'a.jpg' }, { image: 'b.jpg' }]],
    ['no header, and the image second', '1,a.jpg\n2,b\n', [{ image: 'a.jpg' }, { image: 'b' }]],
    ['quotes', '"a, ""b"".jpg",1\n', [{ image: 'a, "b".jpg' }]],
    [
      'rows that are short',
      'image,custom_id\na.jpg\n,2\n',
      [{ image: 'a.jpg' }, { image: '', custom_id: '2' }],
    ],
    ['tabs', 'image\tcustom_id\na.jpg\t1\n', [{ image: 'a.jpg', custom_id: '1' }]],
  ])('with %s', async (_, text, entries) => {
    expect(await table(text)).toEqual(entries)
  })

  test('keeps the numbers of its lines', async () => {
    const lines = await linesOf(Buffer.from('image,x\na.jpg,1\n\nb.jpg,"1\n2"\nc.jpg,\n'), 'list.csv')
    const numberOf = (name: string) => lines.findIndex((line) => line.includes(name)) + 1
    expect(['a.jpg', 'b.jpg', 'c.jpg'].map(numberOf)).toEqual([2, 5, 6])
  })

  test('that never closes a quote is told', async () => {
    await expect(table('image,x\na.jpg,1\n"b.jpg,2\nc.jpg,3\n')).rejects.toThrow(ListFileError)
  })
})
