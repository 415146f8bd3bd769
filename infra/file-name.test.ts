import { expect, test } from 'vitest'
import { decodeFileName, encodeFileName } from './file-name.ts'

test.each([
  ['UTF-8', Buffer.from('photos/café 😀.jpg'), 'photos/café 😀.jpg'],
  ['Latin-1', Buffer.from('café.jpg', 'latin1'), 'caf\udce9.jpg'],
  [
    'both',
    Buffer.concat([Buffer.from('é'), Buffer.from([0xe9, 0xff]), Buffer.from('😀')]),
    'é\udce9\udcff😀',
  ],
  ['half a character', Buffer.from('😀').subarray(0, 3), '\udcf0\udc9f\udc98'],
])('a name in %s keeps its bytes', (_, bytes, name) => {
  expect(decodeFileName(bytes)).toBe(name)
  expect(Buffer.from(encodeFileName(name) as Buffer)).toEqual(bytes)
})

test('names that differ in such bytes only stay apart', () => {
  const names = [0xe8, 0xe9].map((byte) => decodeFileName(Buffer.from([byte])))
  expect(names[0]).not.toBe(names[1])
})
