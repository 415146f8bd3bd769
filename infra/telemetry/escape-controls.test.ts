import { expect, it } from 'vitest'
import { escapeControls } from './escape-controls.ts'

it.each([
  ['a file\u001b]0;title\u0007.jpg', 'a file\\u001b]0;title\\u0007.jpg'],
  ['one\r\u001b[Ktwo', 'one\\u000d\\u001b[Ktwo'],
  ['eight bits: \u009b2J', 'eight bits: \\u009b2J'],
  ['columns\tand lines\nstay, as does é', 'columns\tand lines\nstay, as does é'],
  ['caf\udce9 \udce8.jpg, but 🐟', 'caf\\udce9 \\udce8.jpg, but 🐟'],
])('%j is printed as %j', (text, printed) => {
  expect(escapeControls(text)).toBe(printed)
})

it('leaves JSON what it was', () => {
  const value = { image: 'a\u009b\u001b\u007f.jpg' }
  expect(JSON.parse(escapeControls(JSON.stringify(value)))).toEqual(value)
})
