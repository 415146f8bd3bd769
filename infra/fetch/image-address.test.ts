import { expect, test } from 'vitest'
import { imageAddress } from './image-address.ts'

test.each([
  ['a path', 'pictures/a.jpg'],
  ['a path with spaces', ' a .jpg'],
  ['an absolute path', '/9j/pictures/of/mine/a.jpg'],
  ['a name of letters', 'Qk1photos/a.bmp'],
  ['an address', 'https://example.com/a.jpg'],
])('%s is no base64', (_name, text) => expect(imageAddress(text)).toBe(text))

test('white space around an address is left out', () => {
  expect(imageAddress(' https://example.com/a.jpg\n')).toBe('https://example.com/a.jpg')
})

test.each([
  'iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAAAAAAAAAAA',
  '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgH',
  '_9j_4AAQSkZJRgABAQAAAQABAAD_2wBDAAgGBgcGBQgH',
  'R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7',
  'UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAgA0JaQAA3AA',
  'SUkqAAgAAAAOAAABAwABAAAACAAAAAEBAwABAAAACAAAAAIB',
  'AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAAAAAAAA',
  'AAAAJGZ0eXBoZWljAAAAAG1pZjFNaUhFTWlQcm1pYWZNaUhC',
])('base64 that begins as an image does is one: %s', (text) => {
  expect(imageAddress(text)).toBe(`data:;base64,${text}`)
})
