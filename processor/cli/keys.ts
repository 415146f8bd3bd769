import { Command } from 'commander'
import { anyKey, createKey, listApiKeys, revokeKey } from '../../edge/accounts/api-keys.ts'
import { changeTenant } from '../../edge/accounts/tenants.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { closing } from './closing.ts'
import { UsageError } from './errors.ts'
import { formatTable } from './format.ts'
import { tenantName } from './options.ts'

export interface KeysEnvironment extends TenantsEnvironment {
  /** Unix ms. Default: the clock. */
  now?(): number
}

const examples = `
Examples:
  npx turbine keys create --tenant acme --name "nightly captions"
  export TURBINE_API_KEY=$(npx turbine keys create --tenant acme)
  npx turbine keys list
  npx turbine keys revoke key_5f2b8c0d9e1a7364

A key is printed once; the service keeps its hash only. Without any key, the service answers its own machine only. The
commands work on the store of the service: run them with the settings that it runs with (see "npx turbine --help").`

interface CreateKeyFlags {
  tenant: string
  name?: string
}

/** `turbine keys create | list | revoke` */
export function keysCommand(environment: KeysEnvironment): Command {
  const command = new Command('keys')
    .description('create, list and revoke API keys')
    .addHelpText('after', examples)
  command
    .command('create')
    .description('make an API key for a tenant, and the tenant if there is none yet')
    .requiredOption('--tenant <name>', 'whose work is done with it', tenantName)
    .option('--name <text>', 'what it is for')
    .addHelpText('after', examples)
    .action((flags: CreateKeyFlags) => runCreateKey(flags, environment))
  command
    .command('list')
    .description('list the keys, the oldest first')
    .addHelpText('after', examples)
    .action(() => runListKeys(environment))
  command
    .command('revoke')
    .description('make a key worthless; edges know within a minute')
    .argument('<id>', 'as "npx turbine keys list" shows it')
    .addHelpText('after', examples)
    .action((id: string) => runRevokeKey(id, environment))
  return command
}

/** Prints the key alone on standard output. */
async function runCreateKey({ tenant, name }: CreateKeyFlags, environment: KeysEnvironment): Promise<void> {
  const now = (environment.now ?? Date.now)()
  const { key, stored } = await closing(environment.openStore(), async (store) => {
    await changeTenant(store, tenant, (found) => found)
    return createKey(store, { tenant, name, now })
  })
  environment.stderr.write(
    `Key ${stored.id} of the tenant ${tenant}. It is shown this once; running edges take it within 10 s. Use it like this:\n` +
      `  curl -H 'authorization: Bearer ${stored.hint}...' http://localhost:8787/v1/models\n`,
  )
  environment.stdout.write(`${key}\n`)
}

/** Prints a table: id, tenant, the key's first characters, when it was made, what it is for. */
async function runListKeys(environment: KeysEnvironment): Promise<void> {
  const keys = await closing(environment.openStore(), listApiKeys)
  if (keys.length === 0)
    environment.stderr.write(
      'There are no keys: the service answers its own machine only. Make one with "npx turbine keys create --tenant NAME".\n',
    )
  const rows = keys.map(({ id, tenant, hint, created, name }) => [
    id,
    tenant,
    `${hint}...`,
    new Date(created * 1000).toISOString().slice(0, 10),
    name,
  ])
  environment.stdout.write(formatTable(rows))
}

/** @throws UsageError when there is no such key */
async function runRevokeKey(id: string, environment: KeysEnvironment): Promise<void> {
  await closing(environment.openStore(), async (store) => {
    const revoked = await revokeKey(store, id)
    if (!revoked) throw new UsageError(`There is no key "${id}". "npx turbine keys list" shows them.`)
    environment.stderr.write(
      `Revoked ${id} (${revoked.hint}..., tenant ${revoked.tenant}). Edges refuse it within a minute.\n`,
    )
    if (await anyKey(store)) return
    environment.stderr.write(
      'It was the last key: running edges refuse everybody now, and after their next start they answer their own machine only.\n',
    )
  })
}

/** What the commands on keys and tenants need from outside. */
export interface TenantsEnvironment {
  /** The service's object store. */
  openStore(): Promise<ObjectStore>
  /** Where the service keeps its own state. */
  ownBucket(): string
  stdout: { write(text: string): unknown }
  stderr: { write(text: string): unknown }
}
