import { Command } from 'commander'
import { anyKey, createKey, listApiKeys, revokeKey } from '../../edge/accounts/api-keys.ts'
import { changeTenant } from '../../edge/accounts/tenants.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { closing } from './closing.ts'
import { UsageError } from './errors.ts'
import { formatTable } from './format.ts'
import { tenantName } from './options.ts'
import type { Terminal } from './progress.ts'

/** Dependencies of the commands on keys and tenants. */
export interface TenantsEnvironment extends Terminal {
  /** Opens the service's object store. */
  openStore(): Promise<ObjectStore>
  /** Bucket of the service's own state. */
  ownBucket(): string
}

export interface KeysEnvironment extends TenantsEnvironment {
  /** Unix ms; default: the clock. */
  now?(): number
}

const examples = `
Examples:
  npx turbine keys create --tenant acme --name "nightly captions"
  export TURBINE_API_KEY=$(npx turbine keys create --tenant acme)
  npx turbine keys list
  npx turbine keys revoke key_5f2b8c0d9e1a7364

A key is printed only once; the service stores its hash. While there are no keys, the service accepts requests from its
own machine only. The commands use the service's store: run them with the same settings as the service (see
"npx turbine --help").`

type CreateKeyFlags = { tenant: string; name?: string }

/** `turbine keys create | list | revoke` */
export function keysCommand(environment: KeysEnvironment): Command {
  const command = new Command('keys').description('create, list and revoke API keys')
  const add = (name: string, description: string) =>
    command.command(name).description(description).addHelpText('after', examples)
  add('create', 'create an API key for a tenant, and the tenant if it is new')
    .requiredOption('--tenant <name>', 'tenant that owns the key', tenantName)
    .option('--name <text>', 'label of the key')
    .action((flags: CreateKeyFlags) => runCreateKey(flags, environment))
  add('list', 'list the keys, oldest first').action(() => runListKeys(environment))
  add('revoke', 'revoke a key; edges notice within a minute')
    .argument('<id>', 'id from "npx turbine keys list"')
    .action((id: string) => runRevokeKey(id, environment))
  return command.addHelpText('after', examples)
}

/** Prints the key alone on standard output. */
async function runCreateKey({ tenant, name }: CreateKeyFlags, environment: KeysEnvironment): Promise<void> {
  const now = (environment.now ?? Date.now)()
  const { key, stored } = await closing(environment.openStore(), async (store) => {
    await changeTenant(store, tenant, (found) => found)
    return createKey(store, { tenant, name, now })
  })
  environment.stderr.write(
    `Created key ${stored.id} of tenant ${tenant}. It is not shown again; running edges accept it within 10 s. Usage:\n` +
      `  curl -H 'authorization: Bearer ${stored.hint}...' http://localhost:8787/v1/models\n`,
  )
  environment.stdout.write(`${key}\n`)
}

/** Prints a table: id, tenant, first characters of the key, creation date, label. */
async function runListKeys(environment: KeysEnvironment): Promise<void> {
  const keys = await closing(environment.openStore(), (store) =>
    listApiKeys(store, ({ message }) => environment.stderr.write(`${message}\n`)),
  )
  if (keys.length === 0)
    environment.stderr.write(
      'There are no keys: the service accepts requests from its own machine only. Create one with "npx turbine keys create --tenant NAME".\n',
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
    if (!revoked) throw new UsageError(`There is no key "${id}". List them with "npx turbine keys list".`)
    environment.stderr.write(
      `Revoked ${id} (${revoked.hint}..., tenant ${revoked.tenant}). Edges reject it within a minute.\n`,
    )
    if (await anyKey(store)) return
    environment.stderr.write(
      'It was the last key: running edges reject all requests now, and accept only their own machine after a restart.\n',
    )
  })
}
