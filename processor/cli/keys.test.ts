import { expect, test } from 'vitest'
import { findKey, hashOfKey, listApiKeys } from '../../edge/accounts/api-keys.ts'
import { listTenants } from '../../edge/accounts/tenants.ts'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { StoreUnavailableError } from '../../infra/store/store.ts'
import { Printed, runCommand } from './command.fixture.ts'
import { keysCommand } from './keys.ts'

const ownBucket = () => 'turbine'

const now = Date.UTC(2026, 10, 23)

function fakeTerminal() {
  const { store } = memoryStore()
  const state = { open: 0 }
  const openStore = async () => {
    state.open++
    return { ...store, close: async () => void state.open-- }
  }
  const run = async (...args: string[]) => {
    const printed = new Printed()
    const environment = { openStore, ownBucket, stdout: printed.out, stderr: printed.err, now: () => now }
    const code = await runCommand(keysCommand(environment), args, printed)
    return { code, stdout: printed.stdout, stderr: printed.stderr }
  }
  return { run, store, state }
}

test('a key is printed alone and once, and works; its tenant is there too', async () => {
  const { run, store, state } = fakeTerminal()
  const { code, stdout, stderr } = await run('create', '--tenant', 'acme', '--name', 'nightly')
  expect(code).toBe(0)
  expect(stdout).toMatch(/^sk-turbine-[\w-]{43}\n$/)
  const key = stdout.trim()
  expect(await findKey(store, hashOfKey(key))).toMatchObject({ tenant: 'acme', name: 'nightly' })
  expect(stderr).toContain('curl -H')
  expect(stderr).not.toContain(key)
  expect((await run('list')).stdout).not.toContain(key)
  expect(await listTenants(store)).toEqual([{ id: 'acme', grants: [], limits: {} }])
  expect(state.open).toBe(0)
})

test('the list tells keys apart', async () => {
  const { run, store } = fakeTerminal()
  await run('create', '--tenant', 'acme', '--name', 'nightly captions')
  const [key] = await listApiKeys(store)
  const { code, stdout, stderr } = await run('list')
  expect([code, stderr]).toEqual([0, ''])
  expect(stdout).toBe(`${key!.id}  acme  ${key!.hint}...  2026-11-23  nightly captions\n`)
})

test('without keys the list says what that means', async () => {
  const { stdout, stderr } = await fakeTerminal().run('list')
  expect(stdout).toBe('')
  expect(stderr).toMatch(/its own machine only.*npx turbine keys create --tenant NAME/)
})

test('a revoked key is gone; the last one says what follows', async () => {
  const { run, store } = fakeTerminal()
  for (const tenant of ['acme', 'other']) await run('create', '--tenant', tenant)
  const [first, last] = await listApiKeys(store)
  const revoked = await run('revoke', first!.id)
  expect(revoked).toMatchObject({ code: 0, stdout: '' })
  expect(revoked.stderr).not.toContain('last key')
  expect((await run('revoke', last!.id)).stderr).toContain('It was the last key')
  expect(await listApiKeys(store)).toEqual([])
})

test('what is not there cannot be revoked', async () => {
  const { run, state } = fakeTerminal()
  expect(await run('revoke', 'key_1')).toEqual({
    code: 2,
    stdout: '',
    stderr: 'turbine: There is no key "key_1". List them with "npx turbine keys list".\n',
  })
  expect(state.open).toBe(0)
})

test.each([
  [['create'], /--tenant/],
  [['create', '--tenant', 'Acme Inc'], /lower-case letters/],
])('wrong usage makes no key: %j', async (args, message) => {
  const { run, store } = fakeTerminal()
  const { code, stderr } = await run(...args)
  expect(code).toBe(2)
  expect(stderr).toMatch(message)
  expect(await listApiKeys(store)).toEqual([])
})

test('a store that is away is one line', async () => {
  const printed = new Printed()
  const openStore = () => Promise.reject(new StoreUnavailableError('The store cannot be reached.'))
  const command = keysCommand({ openStore, ownBucket, stdout: printed.out, stderr: printed.err })
  expect(await runCommand(command, ['list'], printed)).toBe(1)
  expect(printed.stderr).toBe('turbine: The store cannot be reached.\n')
})
