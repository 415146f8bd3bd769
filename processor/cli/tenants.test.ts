import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { Printed, runCommand } from './command.fixture.ts'
import { tenantsCommand } from './tenants.ts'

function fakeTerminal() {
  const { store, objects } = memoryStore()
  const run = async (...args: string[]) => {
    const printed = new Printed()
    const environment = {
      openStore: async () => store,
      ownBucket: () => 'turbine',
      stdout: printed.out,
      stderr: printed.err,
    }
    const code = await runCommand(tenantsCommand(environment), args, printed)
    return { code, stdout: printed.stdout, stderr: printed.stderr }
  }
  const show = async (name = 'acme') => JSON.parse((await run('show', name)).stdout)
  return { run, show, store, objects }
}

test('grants are added, shown and taken back', async () => {
  const { run, show } = fakeTerminal()
  const granted = await run(
    ...['grant', 'acme', '--read', 's3://photos/', '--read', 's3://lists/a.jsonl', '--write', 's3://results'],
  )
  expect(granted.code).toBe(0)
  expect(JSON.parse(granted.stdout)).toEqual({
    id: 'acme',
    grants: [
      { uri: 's3://photos/', access: 'read' },
      { uri: 's3://lists/a.jsonl', access: 'read' },
      { uri: 's3://results/', access: 'write' },
    ],
    limits: {},
  })
  expect(await show()).toEqual(JSON.parse(granted.stdout))
  await run('revoke-grant', 'acme', '--read', 's3://photos/', '--write', 's3://results/')
  expect((await show()).grants).toEqual([{ uri: 's3://lists/a.jsonl', access: 'read' }])
})

test("the service's own bucket cannot be granted", async () => {
  const { run } = fakeTerminal()
  const refused = await run('grant', 'acme', '--read', 's3://turbine/files/')
  expect(refused.code).toBe(2)
  expect(refused.stderr).toContain("is in the service's own bucket")
  expect((await run('grant', 'acme', '--read', 's3://turbine-photos/')).code).toBe(0)
})

test('limits are set one by one and lifted with none', async () => {
  const { run, show } = fakeTerminal()
  await run('limit', 'acme', '--requests-per-minute', '600', '--in-flight', '50')
  await run('limit', 'acme', '--open-batches', '3', '--in-flight', 'none')
  expect((await show()).limits).toEqual({ requestsPerMinute: 600, openBatches: 3 })
})

test('the list has a line for each tenant', async () => {
  const { run } = fakeTerminal()
  await run('limit', 'acme', '--requests-per-minute', '600', '--in-flight', '50')
  await run('grant', 'bolt', '--read', 's3://photos/')
  expect((await run('list')).stdout).toBe(
    'acme  0 grants  600 requests/min, 50 in flight\nbolt  1 grant   no limits\n',
  )
})

test('storage is limited in bytes, and the list says what is stored where that was counted', async () => {
  const { run, show, store } = fakeTerminal()
  await run('limit', 'acme', '--max-storage', '20GB')
  expect((await show()).limits).toEqual({ storageBytes: 20e9 })
  await store.put('usage/acme.json', JSON.stringify({ files: 1.5e9, uploads: 5e8 }))
  expect((await run('list')).stdout).toBe('acme  0 grants  20.0 GB of storage  2.0 GB stored\n')
  expect((await run('limit', 'acme', '--max-storage', 'much')).stderr).toContain('as 500MB or 20GB')
  await run('limit', 'acme', '--max-storage', 'none')
  expect((await show()).limits).toEqual({})
})

test('without tenants the list says how to make one', async () => {
  const { stdout, stderr } = await fakeTerminal().run('list')
  expect(stdout).toBe('')
  expect(stderr).toContain('npx turbine keys create --tenant NAME')
})

test.each([
  [['show', 'acme'], /There is no tenant "acme"\. List them with "npx turbine tenants list"/],
  [['show', 'ACME'], /lower-case letters/],
  [['grant', 'acme'], /Set --read s3/],
  [['grant', 'acme', '--read', 'photos/'], /like s3:\/\/bucket\/prefix\//],
  [['grant', 'acme', '--read', 's3://photos/../other/'], /like s3:\/\/bucket\/prefix\//],
  [['revoke-grant', 'acme', '--read', 's3://photos/'], /acme has no grant to read s3:\/\/photos\//],
  [['limit', 'acme'], /Set --requests-per-minute/],
  [['limit', 'acme', '--in-flight', '0'], /whole number of at least 1, or none/],
])('wrong usage is exit code 2, says what is right and changes nothing: %j', async (args, message) => {
  const { run, objects } = fakeTerminal()
  const { code, stdout, stderr } = await run(...args)
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr).toMatch(message)
  expect(objects.size).toBe(0)
})
