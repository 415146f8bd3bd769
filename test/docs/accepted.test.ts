import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { lineForms, parseBatchLine, parseLocalLine } from '../../edge/contract/manifest-line.ts'
import { ignoredByDefault } from '../../edge/contract/parameters.ts'
import { loadConfig } from '../../infra/config.ts'
import { addressForms } from '../../infra/fetch/image-address.ts'
import { acceptedPage, withAccepted } from './accepted.ts'

it('accepted.md lists what the code accepts; `npm run docs:accepted` writes it anew', async () => {
  const page = await readFile(acceptedPage, 'utf8')
  expect(page).toBe(withAccepted(page))
})

const options = { endpoint: '/v1/captions', model: 'blip' } as const

it('the setting ignores by default what the table says', () => {
  expect(loadConfig({ env: {} }).config.ignoreParameters).toEqual(ignoredByDefault)
})

describe('forms on the page are accepted where it says so', () => {
  it.each(addressForms)('the address $form', ({ form, api, commandLine }) => {
    for (const text of [form, JSON.stringify({ image_url: form }), JSON.stringify({ url: form })]) {
      const line = { number: 1, text }
      expect('ask' in parseBatchLine(line, options)!).toBe(api)
      // On the command line any text can be a path; whether there is an S3 is not said by a line.
      if (commandLine) expect('ask' in parseLocalLine(line)!).toBe(true)
    }
  })

  it.each(lineForms)('the line %s', (text) => {
    const endpoint = text.includes('messages') ? '/v1/chat/completions' : '/v1/captions'
    expect(parseBatchLine({ number: 1, text }, { ...options, endpoint })).toHaveProperty('ask')
    expect(parseLocalLine({ number: 1, text })).toHaveProperty('ask')
  })
})
