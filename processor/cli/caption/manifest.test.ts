import { hash } from 'node:crypto'
import { expect, test } from 'vitest'
import { parseManifestLine } from './manifest.ts'

const parse = (text: string) =>
  parseManifestLine({ text, number: 7, end: 0, whole: true }, { manifest: 'list.jsonl', folder: '/data' })

test('a path is relative to the manifest and named as written', () => {
  expect(parse('{"image": "a/b.jpg", "custom_id": "x"}')).toEqual({
    image: 'a/b.jpg',
    location: '/data/a/b.jpg',
    customId: 'x',
  })
  expect(parse('a/b.jpg')).toEqual({ image: 'a/b.jpg', location: '/data/a/b.jpg' })
  expect(parse('/abs/b.jpg')).toEqual({ image: '/abs/b.jpg', location: '/abs/b.jpg' })
})

test.each([
  '{"image": "https://example.com/a.jpg"}',
  '{"image_url": "https://example.com/a.jpg"}',
  '{"image_url": {"url": "https://example.com/a.jpg"}}',
  '"https://example.com/a.jpg"',
  'https://example.com/a.jpg',
])('an address is taken as it is: %s', (line) => {
  expect(parse(line)).toMatchObject({
    image: 'https://example.com/a.jpg',
    location: 'https://example.com/a.jpg',
  })
})

test('a data: URL is named by the hash of its bytes', () => {
  const url = `data:image/png;base64,${Buffer.from('picture').toString('base64')}`
  expect(parse(JSON.stringify({ image: url }))).toEqual({
    image: `sha256:${hash('sha256', 'picture')}`,
    location: url,
  })
})

test('a numeric custom_id becomes a string', () => {
  expect(parse('{"image": "a.jpg", "custom_id": 12}')?.customId).toBe('12')
})

test('empty lines are nothing', () => {
  expect(parse('  ')).toBeUndefined()
})

test.each([
  ['{"image": ', 'invalid_json_line'],
  ['["a.jpg"]', 'invalid_json_line'],
  ['{"path": "a.jpg"}', 'missing_required_parameter'],
  ['{"image": 3}', 'missing_required_parameter'],
  ['{"image": ""}', 'missing_required_parameter'],
  ['{"image": "a.jpg", "custom_id": {}}', 'invalid_custom_id'],
])('%s fails alone, named by its line', (line, code) => {
  const source = parse(line)
  expect(source).toMatchObject({ image: 'list.jsonl:7', error: { code } })
  expect(source?.error?.message).toContain('Line 7 of list.jsonl')
  expect(source?.location).toBeUndefined()
})
