import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { settingsPage, withSettings } from '../../infra/docs/settings.ts'

it('settings.md lists every setting as it is; `npm run docs:settings` writes it anew', async () => {
  const page = await readFile(settingsPage, 'utf8')
  expect(page).toBe(withSettings(page))
})
