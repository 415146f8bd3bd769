import { Command } from 'commander'
import {
  addGrants,
  changeTenant,
  listTenants,
  readTenant,
  removeGrants,
  setLimits,
} from '../../edge/accounts/tenants.ts'
import { keys } from '../../edge/contract/keys.ts'
import type { Grant, Tenant } from '../../edge/contract/tenant.ts'
import { closing } from './closing.ts'
import { UsageError } from './errors.ts'
import { formatTable, plural } from './format.ts'
import type { TenantsEnvironment } from './keys.ts'
import { grantUris, limitOrNone, tenantName } from './options.ts'

const examples = `
Examples:
  npx turbine tenants list
  npx turbine tenants grant acme --read s3://acme-photos/ --write s3://acme-results/captions/
  npx turbine tenants revoke-grant acme --write s3://acme-results/captions/
  npx turbine tenants limit acme --requests-per-minute 600 --in-flight 50 --open-batches 3
  npx turbine tenants limit acme --in-flight none

A tenant reads and writes s3:// addresses only where it was granted: s3://bucket/prefix/ is all below it, an address
without the last slash is one object. Without keys everybody is the tenant "default". Edges see changes within a
minute. The commands work on the store of the service: run them with the settings that it runs with.`

interface GrantFlags {
  read?: string[]
  write?: string[]
}

type LimitFlags = { [Limit in keyof Tenant['limits']]: number | 'none' }

/** `turbine tenants list | show | grant | revoke-grant | limit` */
export function tenantsCommand(environment: TenantsEnvironment): Command {
  const command = new Command('tenants')
    .description('grant tenants s3:// addresses, and limit them')
    .addHelpText('after', examples)
  const child = (name: string, description: string) =>
    command.command(name).description(description).addHelpText('after', examples)
  child('list', 'list the tenants, their grants and limits').action(() => runListTenants(environment))
  child('show', 'print a tenant as JSON')
    .argument('<name>', 'the tenant', tenantName)
    .action((name: string) => runShowTenant(name, environment))
  child('grant', 'let a tenant read or write s3:// addresses')
    .argument('<name>', 'the tenant', tenantName)
    .option('--read <uri>', 'where it may read; can be given more often', grantUris)
    .option('--write <uri>', 'where it may write; can be given more often', grantUris)
    .action((name: string, flags: GrantFlags) => runGrant(name, flags, environment))
  child('revoke-grant', 'take grants back')
    .argument('<name>', 'the tenant', tenantName)
    .option('--read <uri>', 'where it may read no longer', grantUris)
    .option('--write <uri>', 'where it may write no longer', grantUris)
    .action((name: string, flags: GrantFlags) => runRevokeGrant(name, flags, environment))
  child('limit', 'limit a tenant; what is not named stays as it is, "none" lifts a limit')
    .argument('<name>', 'the tenant', tenantName)
    .option('--requests-per-minute <n>', 'requests in a minute', limitOrNone)
    .option('--in-flight <n>', 'unanswered requests at a time', limitOrNone)
    .option('--open-batches <n>', 'unfinished batches at a time', limitOrNone)
    .action((name: string, flags: LimitFlags) => runLimit(name, flags, environment))
  return command
}

/** Prints a table: name, grants, limits. */
async function runListTenants(environment: TenantsEnvironment): Promise<void> {
  const tenants = await closing(environment.openStore(), listTenants)
  if (tenants.length === 0)
    environment.stderr.write(
      'There are no tenants yet. "npx turbine keys create --tenant NAME" makes the first.\n',
    )
  const rows = tenants.map(({ id, grants, limits }) => [
    id,
    plural(grants.length, 'grant'),
    describeLimits(limits),
  ])
  environment.stdout.write(formatTable(rows))
}

/** @throws UsageError when there is no such tenant */
async function runShowTenant(name: string, environment: TenantsEnvironment): Promise<void> {
  const tenant = await closing(environment.openStore(), async (store) => {
    if (await store.head(keys.tenant(name))) return readTenant(store, name)
    throw new UsageError(`There is no tenant "${name}". "npx turbine tenants list" shows them.`)
  })
  print(environment, tenant)
}

/** Prints the tenant as it is then. @throws UsageError when nothing is to be granted */
async function runGrant(name: string, flags: GrantFlags, environment: TenantsEnvironment): Promise<void> {
  const grants = grantsOf(flags)
  const own = grants.find(({ uri }) => uri.startsWith(`s3://${environment.ownBucket()}/`))
  if (own)
    throw new UsageError(
      `${own.uri} lies in the service's own bucket, where all tenants' work is. Grant another one.`,
    )
  print(environment, await change(environment, name, (tenant) => addGrants(tenant, grants)))
}

/** Prints the tenant as it is then. @throws UsageError when it has no such grant */
async function runRevokeGrant(
  name: string,
  flags: GrantFlags,
  environment: TenantsEnvironment,
): Promise<void> {
  const grants = grantsOf(flags)
  const changed = await change(environment, name, (tenant) => {
    for (const { uri, access } of grants)
      if (!tenant.grants.some((grant) => grant.uri === uri && grant.access === access))
        throw new UsageError(
          `${name} has no grant to ${access} ${uri}. "npx turbine tenants show ${name}" prints its grants.`,
        )
    return removeGrants(tenant, grants)
  })
  print(environment, changed)
}

/** Prints the tenant as it is then. @throws UsageError when no limit is named */
async function runLimit(name: string, flags: LimitFlags, environment: TenantsEnvironment): Promise<void> {
  const limits = Object.fromEntries(
    Object.entries(flags).map(([limit, value]) => [limit, value === 'none' ? undefined : value]),
  )
  if (Object.keys(limits).length === 0)
    throw new UsageError(
      'Name a limit: --requests-per-minute, --in-flight or --open-batches, with a number or none.',
    )
  print(environment, await change(environment, name, (tenant) => setLimits(tenant, limits)))
}

const change = (environment: TenantsEnvironment, name: string, to: (tenant: Tenant) => Tenant) =>
  closing(environment.openStore(), (store) => changeTenant(store, name, to))

function grantsOf({ read = [], write = [] }: GrantFlags): Grant[] {
  if (read.length + write.length === 0)
    throw new UsageError('Name an address: --read s3://bucket/prefix/ or --write s3://bucket/prefix/.')
  return [
    ...read.map((uri) => ({ uri, access: 'read' as const })),
    ...write.map((uri) => ({ uri, access: 'write' as const })),
  ]
}

const print = ({ stdout }: TenantsEnvironment, tenant: Tenant) =>
  stdout.write(`${JSON.stringify(tenant, null, 2)}\n`)

function describeLimits({ requestsPerMinute, inFlight, openBatches }: Tenant['limits']): string {
  const limits = [
    requestsPerMinute && `${requestsPerMinute} requests/min`,
    inFlight && `${inFlight} in flight`,
    openBatches && `${openBatches} open batches`,
  ].filter(Boolean)
  return limits.length === 0 ? 'no limits' : limits.join(', ')
}
